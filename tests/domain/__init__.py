"""What the domain decides: every command, every rule, every event."""
