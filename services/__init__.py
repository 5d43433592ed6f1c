"""Everything around the domain: the wire, the store, the roles, HTTP and the command line."""

__version__ = "0.1.0"
