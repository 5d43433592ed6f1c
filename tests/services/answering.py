"""A provider for tests: a real HTTP server on a real port, that notes what it gets and answers as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.eventually import PATIENCE


class Received:
    """One request as the provider got it."""

    def __init__(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        self.path = path
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body
        self.at = time.monotonic()

    @property
    def key(self) -> str:
        """Return the idempotency key."""
        return self.headers["idempotency-key"]


class Answering:
    """A provider that notes what it gets and answers as the test says: (status, headers, body), after `hold`."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answer: Callable[[Received], tuple[int, Mapping[str, str], bytes]] = lambda _: (200, {}, b"{}")
        self.hold = threading.Event()
        self.hold.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/tasks"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                received = Received(self.path, self.headers, body)
                provider.received.append(received)
                provider.hold.wait(PATIENCE)
                status, headers, answer = provider.answer(received)
                try:
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(answer)), **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(answer)
                except OSError:
                    return  # The caller has gone.

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                return

        return Handler

    def close(self) -> None:
        """End the provider."""
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE)
