"""A connection pooler for tests, as strict as PgBouncer with what a client sends when it connects."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg.conninfo import make_conninfo

# What PgBouncer takes without being told to; it refuses the rest.
ACCEPTED = {
    "user",
    "database",
    "application_name",
    "client_encoding",
    "datestyle",
    "timezone",
    "standard_conforming_strings",
}
_REPORTED = ("server_version", "server_encoding", "client_encoding", "DateStyle", "TimeZone", "IntervalStyle")
_PROTOCOL, _SSL, _GSS, _CANCEL = 196608, 80877103, 80877104, 80877102
_OWN_PID = 7_000_001


class Pooler:
    """Logs clients in itself. By session each client has a server connection; by transaction all share one."""

    def __init__(self, database_url: str, transactions: bool) -> None:
        self._url = database_url
        self._servers: list[psycopg.Connection] = []
        self._shared = self._server() if transactions else None
        self._turn = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="pooler", daemon=True).start()

    def close(self) -> None:
        """End every connection."""
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for server in self._servers:
            server.close()

    def _server(self) -> psycopg.Connection:
        server = psycopg.connect(make_conninfo(self._url, sslmode="disable", gssencmode="disable"), autocommit=True)
        self._servers.append(server)
        return server

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), name="pooled", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, psycopg.Error), client:
            if not self._log_in(client):
                return
            server = self._shared or self._server()
            line = socket.socket(fileno=os.dup(server.pgconn.socket))
            line.setblocking(True)
            self._open.append(line)
            client.sendall(_greeting(server))
            if self._shared is not None:
                self._take_turns(client, line)
                return
            threading.Thread(target=_pump, args=(line, client), name="pooled", daemon=True).start()
            _pump(client, line)
            server.close()

    def _log_in(self, client: socket.socket) -> bool:
        while True:
            length, code = struct.unpack("!II", _read(client, 8))
            body = _read(client, length - 8)
            if code in (_SSL, _GSS):
                client.sendall(b"N")
                continue
            if code != _PROTOCOL:
                assert code == _CANCEL
                return False
            names = body.decode().split("\0")[:-2:2]
            unknown = [name for name in names if name.lower() not in ACCEPTED]
            if unknown:
                said = f"SFATAL\0C08P01\0Munsupported startup parameter: {unknown[0]}\0\0".encode()
                client.sendall(_message(b"E", said))
            return not unknown

    def _take_turns(self, client: socket.socket, line: socket.socket) -> None:
        """Pass a transaction at a time: from the first message to the first time that the server is idle again."""
        while True:
            kind, whole = _receive(client)
            if kind == b"X":
                return
            with self._turn:
                while True:
                    line.sendall(whole)
                    if kind in b"QS" and self._answer(client, line) == b"I":
                        break
                    kind, whole = _receive(client)

    def _answer(self, client: socket.socket, line: socket.socket) -> bytes:
        while True:
            kind, whole = _receive(line)
            client.sendall(whole)
            if kind == b"Z":
                return whole[5:6]


@contextmanager
def pooled(database_url: str, transactions: bool = False) -> Iterator[str]:
    """Give the URL that leads through a pooler."""
    pooler = Pooler(database_url, transactions)
    with psycopg.connect(database_url) as conn:
        user, name = conn.info.user, conn.info.dbname
    try:
        yield f"postgresql://{user}@127.0.0.1:{pooler.port}/{name}"
    finally:
        pooler.close()


def _greeting(server: psycopg.Connection) -> bytes:
    shown = b"".join(_message(b"S", f"{name}\0{server.info.parameter_status(name)}\0".encode()) for name in _REPORTED)
    key = _message(b"K", struct.pack("!II", _OWN_PID, 1))
    return _message(b"R", struct.pack("!I", 0)) + shown + key + _message(b"Z", b"I")


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _receive(source: socket.socket) -> tuple[bytes, bytes]:
    head = _read(source, 5)
    return head[:1], head + _read(source, struct.unpack("!I", head[1:])[0] - 4)


def _read(source: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        more = source.recv(length - len(found))
        if not more:
            raise ConnectionError("the client left")
        found += more
    return found


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
