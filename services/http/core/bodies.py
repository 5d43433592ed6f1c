"""The bodies of requests: received up to a limit, and inflated up to the same limit while they are received."""

from __future__ import annotations

import asyncio
import zlib

from starlette.types import Receive

from services.http.core.errors import ApiError
from services.http.core.middleware import header
from services.http.core.shares import Holding

_GZIP = frozenset({"gzip", "x-gzip"})
# What a body takes in memory, in bytes for each of its own: as it came, as text, and as values.
_WEIGHT = 3
_PLAIN = frozenset({"", "identity"})
# Members of a body: what follows each of them is copied.
_MAX_MEMBERS = 16
# How zlib is told to expect gzip's header and checksum.
_WINDOW = 16 + zlib.MAX_WBITS


class _Plain:
    """A body as it is sent."""

    def __init__(self, limit: int, held: Holding) -> None:
        self._limit = limit
        self._held = held
        self._chunks: list[bytes] = []
        self._size = 0

    def take(self, chunk: bytes) -> None:
        """Take a part of the body; raises `ApiError` beyond the limit."""
        self._size += len(chunk)
        if self._size > self._limit:
            raise _too_large(self._limit)
        self._held.take(_WEIGHT * len(chunk))
        self._chunks.append(chunk)

    def whole(self) -> bytes:
        """Return the body after its last part."""
        return b"".join(self._chunks)


class _Inflated(_Plain):
    """A body that is sent as one or several members of gzip. No more is inflated than may be kept."""

    def __init__(self, limit: int, held: Holding) -> None:
        super().__init__(limit, held)
        self._sent = 0
        self._member = zlib.decompressobj(_WINDOW)
        self._begun = False
        self._members = 0

    def take(self, chunk: bytes) -> None:
        self._sent += len(chunk)
        if self._sent > self._limit:
            raise _too_large(self._limit)
        while chunk:
            if self._member.eof:
                self._members += 1
                if self._members >= _MAX_MEMBERS:
                    raise _no_gzip()
                self._member = zlib.decompressobj(_WINDOW)
            self._begun = True
            try:
                # One byte beyond the limit is enough to refuse the body.
                inflated = self._member.decompress(chunk, self._limit - self._size + 1)
            except zlib.error:
                raise _no_gzip() from None
            super().take(inflated)
            chunk = self._member.unconsumed_tail or self._member.unused_data

    def whole(self) -> bytes:
        if self._begun and not self._member.eof:
            raise _no_gzip()
        return super().whole()


async def received(receive: Receive, limit: int, seconds: float, held: Holding) -> bytes:
    """Return the body of the request that is being served, without its content coding.

    Raises `ApiError`, also if the body takes longer than some seconds to arrive, or memory that there is not.
    """
    coding = (header(b"content-encoding") or "").strip().lower()
    if coding not in _PLAIN and coding not in _GZIP:
        called = "".join(mark if mark.isprintable() else "?" for mark in coding[:100])
        detail = f"a body is sent plain or as gzip, not as {called}"
        accepted = {"Accept-Encoding": "gzip"}
        raise ApiError("unsupported-media-type", detail, parameter="Content-Encoding", headers=accepted)
    length = (header(b"content-length") or "").lstrip("0")
    if length.isascii() and length.isdigit():
        # Of a longer number the first digits are enough.
        size = int(length[:19])
        if size > limit:
            raise _too_large(limit)
        held.demand(_WEIGHT * size)
    body = _Inflated(limit, held) if coding in _GZIP else _Plain(limit, held)
    # Most bodies arrive together with their heads, and need no timer.
    if await _is_last(receive, body):
        return body.whole()
    try:
        async with asyncio.timeout(seconds):
            while not await _is_last(receive, body):
                pass
    except TimeoutError:
        detail = f"a body arrives within {seconds:g} seconds"
        raise ApiError("body-late", detail, headers={"Connection": "close"}) from None
    return body.whole()


async def _is_last(receive: Receive, body: _Plain) -> bool:
    """Take the next part of a body, and tell whether it is the last one."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ApiError("not-json", "the request ended before its body")
    body.take(message.get("body", b""))
    return not message.get("more_body", False)


def _too_large(limit: int) -> ApiError:
    return ApiError("too-large", f"a body has at most {limit} bytes")


def _no_gzip() -> ApiError:
    return ApiError("not-gzip", "the body is no gzip, or not all of it", parameter="Content-Encoding")
