"""Answers that last: Server-Sent Events (`text/event-stream` of the HTML standard), until the client goes."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from asyncio import CancelledError
from collections.abc import Callable
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.http.core.call import Call
from services.http.core.errors import ApiError
from services.http.core.middleware import CURRENT, header
from services.store.unavailable import StoreUnavailable

EVENT_STREAM = "text/event-stream"
# Seconds without anything sent after which something is, and after which the key is checked again.
HEARTBEAT, CHECK = 15.0, 5.0


class Lasting(Response, ABC):
    """The answer: it lasts until the client goes, its key is no longer valid, or the process stops."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self._key = header(b"authorization"), header(b"x-api-key")
        self.raw_headers = [
            (b"content-type", EVENT_STREAM.encode()),
            (b"cache-control", b"no-store"),
            # Proxies that collect what they pass on are told not to.
            (b"x-accel-buffering", b"no"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        CURRENT.get().answered_at = time.perf_counter()
        if not scope.get("bodiless"):
            await self.serve(receive, send)
        await send({"type": "http.response.body", "body": b""})

    @abstractmethod
    async def serve(self, receive: Receive, send: Send) -> None:
        """Send the parts of the body, as long as it lasts."""

    async def is_valid(self) -> bool:
        """Tell whether the key still is, as far as is known."""
        authorization, api_key = (text and text.encode("latin-1") for text in self._key)
        try:
            caller = await self.call.service.authenticator.caller(authorization or None, api_key or None)
        except StoreUnavailable:
            return True
        except ApiError as error:
            return error.status >= 500
        return caller == self.call.caller


async def when_gone(receive: Receive, end: Callable[[], None]) -> None:
    """Call `end` once the client has gone."""
    with suppress(CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
        end()
