"""The native API: commands as they are on the wire, the directory, the read models and the log."""
