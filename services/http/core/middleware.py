"""The outermost layer of the HTTP process: identity, limits, headers, figures, and errors that nobody else answers.

It is plain ASGI and adds nothing per chunk, since every request pays for it.
"""

from __future__ import annotations

import re
import secrets
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.commands.wire import Reply
from services.health.metrics import Metrics
from services.http.core.errors import ApiError
from services.urls import LOOPBACK, host_name

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}\Z")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
# Headers that are read here, by the names that the server gives them.
READ: Mapping[bytes, str] = {
    name.lower().encode(): name
    for name in (
        *("Authorization", "Content-Encoding", "Content-Length", "Content-Type", "Idempotency-Key"),
        *("Foldwork-Position", "If-Match", "If-None-Match", "Prefer", "Traceparent", "X-Request-Id"),
    )
}
# Headers that are lists: what stands in several is one list.
LISTS = (b"content-encoding", b"if-match", b"if-none-match", b"prefer")
_NO_SNIFF = (b"x-content-type-options", b"nosniff")
# An answer belongs to a tenant, so no cache keeps it unless the answer itself says otherwise.
_CACHE_CONTROL = b"cache-control"
_NO_STORE = (_CACHE_CONTROL, b"no-store")
_DRY_RUN = (b"preference-applied", b"dry-run")

Envelope = Callable[[ApiError], Response]


@dataclass(slots=True)
class Exchange:
    """The headers of a request, and its ids; and the log position that its answer says, if it is known.

    `dry_run`: the commands that it gives are only tried. `tried` is the answer to one.
    `answered_at` is when an answer that lasts began, by the clock of durations.
    """

    request_id: str
    traceparent: str | None
    headers: dict[bytes, bytes]
    position: int | None = None
    dry_run: bool = False
    tried: Reply | None = None
    answered_at: float | None = None


CURRENT: ContextVar[Exchange] = ContextVar("exchange")


class Middleware:
    """Wraps the application. `envelope(path)` returns the error envelope of a path.

    `read` are the headers that have one meaning, with the names to call them by. `hosts` are the names that the service
    is asked for, besides those of loopback; without any, every name is accepted. `anywhere` are the paths that are
    served under every name, for probes, which ask for addresses.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        envelope: Callable[[str], Envelope],
        read: Mapping[bytes, str] = READ,
        hosts: Iterable[str] = (),
        anywhere: Iterable[str] = (),
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._envelope = envelope
        self._read = read
        self._hosts = frozenset(host.lower() for host in hosts)
        self._anywhere = frozenset(anywhere)
        self._log = structlog.get_logger("http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        exchange = _exchange(headers)
        CURRENT.set(exchange)
        structlog.contextvars.bind_contextvars(request_id=exchange.request_id, traceparent=exchange.traceparent)
        tagged = (b"x-request-id", exchange.request_id.encode())
        status, over = 0, False

        async def answer(message: Message) -> None:
            nonlocal status, over
            if message["type"] == "http.response.start":
                status = message["status"]
                own = message.get("headers", ())
                message["headers"] = [*own, tagged, _NO_SNIFF]
                # Without a generator, which every request would pay for.
                for name, _ in own:
                    if name == _CACHE_CONTROL:
                        break
                else:
                    message["headers"].append(_NO_STORE)
                if exchange.position is not None:
                    message["headers"].append((b"foldwork-position", b"%d" % exchange.position))
                if exchange.dry_run:
                    message["headers"].append(_DRY_RUN)
            else:
                over = not message.get("more_body", False)
            await send(message)

        path, method = scope["path"], scope["method"]
        if method == "HEAD":
            # The server's own scope says what it was asked for; an answer that lasts has to know.
            scope, send = {**scope, "method": "GET", "bodiless": True}, _without_body(send)
        refused = None
        if len(headers) != len(scope["headers"]):
            refused = self._ambiguous(scope["headers"], headers)
        if self._hosts and refused is None:
            refused = self._misdirected(path, headers.get(b"host", b"").decode("latin-1"))
        if refused is not None:
            await self._envelope(path)(refused)(scope, receive, answer)
            self._metrics.served(scope, status, time.perf_counter() - began)
            return
        try:
            await self._app(scope, receive, answer)
        except Exception:
            # What went wrong is for the log alone, and as text: a renderer might show local values, such as a token.
            self._log.error("a request failed", method=method, path=path, trace=traceback.format_exc())
            if status:
                # Who answered with the failure and raised it all the same left nothing to be done.
                if not over:
                    raise
            else:
                await self._envelope(path)(failure())(scope, receive, answer)
        finally:
            scope["method"] = method
            self._metrics.served(scope, status, (exchange.answered_at or time.perf_counter()) - began)

    def _ambiguous(self, sent: Iterable[tuple[bytes, bytes]], headers: dict[bytes, bytes]) -> ApiError | None:
        """Join the headers that are lists, and return the refusal of another one that is read and has two values."""
        found: dict[bytes, bytes] = {}
        for name, value in sent:
            if name in LISTS:
                headers[name] = found[name] = b"%b, %b" % (found[name], value) if name in found else value
            elif name in self._read and found.setdefault(name, value) != value:
                called = self._read[name]
                return ApiError("bad-header", f"{called} is sent with two different values", parameter=called)
        return None

    def _misdirected(self, path: str, host: str) -> ApiError | None:
        """Refuse a name that is not ours: a page of another origin may have made it lead here (DNS rebinding)."""
        name = host_name(host)
        if name in self._hosts or (name and name in LOOPBACK) or path in self._anywhere:
            return None
        return ApiError("bad-header", "the service is not known by the name in Host", parameter="Host")


def _without_body(send: Send) -> Send:
    """Return what sends the headers of an answer and nothing of its body."""

    async def head(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
        elif not message.get("more_body", False):
            await send({"type": "http.response.body", "body": b""})

    return head


def _exchange(headers: dict[bytes, bytes]) -> Exchange:
    sent = headers.get(b"x-request-id")
    request_id = sent.decode() if sent is not None and _REQUEST_ID.match(sent) else secrets.token_hex(16)
    trace = headers.get(b"traceparent")
    traceparent = trace.decode() if trace is not None and _TRACEPARENT.match(trace) else None
    return Exchange(request_id, traceparent, headers)


def failure() -> ApiError:
    """Return what a caller is told of a request that failed unexpectedly."""
    return ApiError("internal", f"something went wrong; its request id is {CURRENT.get().request_id}")


def header(name: bytes) -> str | None:
    """Return a header of the request that is being served."""
    value: Any = CURRENT.get().headers.get(name)
    return None if value is None else value.decode("latin-1")
