"""The sockets that HTTP is served on."""

from __future__ import annotations

import socket


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address, port 0 being a free one; raises `OSError` that names the address.

    The server would bind one too, but ends the process without a word where it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise OSError(error.errno, error.strerror or str(error), f"{host}:{port}") from None
    return made
