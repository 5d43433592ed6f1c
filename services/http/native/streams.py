"""Live events of the native API, as Server-Sent Events (`text/event-stream` of the HTML standard)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field, RootModel
from starlette.responses import Response
from starlette.types import Receive, Send

from domain import EVENTS
from domain.limits import MAX_WHOLE
from domain.streams import ID
from services.http.core.call import LARGE, Call
from services.http.core.errors import ApiError
from services.http.core.lasting import CHECK as CHECK
from services.http.core.lasting import HEARTBEAT, Lasting, when_gone
from services.http.core.live import Block, Stream, block
from services.http.core.middleware import CURRENT, header
from services.http.core.openapi import PERSONS, parameter
from services.http.core.parameters import Position, Query, settled
from services.http.core.wanted import interest_of
from services.interests import Interest, Subject
from services.store import log
from services.store.log import LogRow
from services.store.unavailable import StoreUnavailable

LAST_EVENT_ID = "Last-Event-ID"
# Seconds after which the log is asked again after a failure.
AGAIN = 1.0
# How far, and for how many events with how many bytes, a stream that is behind looks at once.
_WINDOW, _ROWS, _BYTES = 20_000, 500, 256 << 10
# Milliseconds that a client waits before it connects again.
_RETRY = 1000


class StreamEvents(Query):
    """Where a stream begins, and which events it has."""

    after: Position = Field(0, description="The position to read on from; without it, the end of the log")
    types: list[Annotated[str, Field(json_schema_extra={"enum": list(EVENTS)})]] | None = Field(
        None, alias="type", description="A type of event; may be repeated"
    )
    activities: list[Annotated[str, Field(pattern=f"^{ID.pattern[:-2]}$")]] | None = Field(
        None, alias="activity", description="An activity: its events and those of its tasks; may be repeated"
    )
    tasks: list[Annotated[str, Field(pattern=f"^{ID.pattern[:-2]}$")]] | None = Field(
        None, alias="task", description="A task; may be repeated"
    )
    members: list[Annotated[str, Field(min_length=1, max_length=1000)]] | None = Field(
        None, alias="member", description=f"A member, whose events name it; may be repeated. It is {PERSONS}"
    )


class EventStream(RootModel[str]):
    """Events, each as a block whose `id` is its position and whose `data` is the CloudEvent in one line"""

    example: ClassVar[str] = 'id: 4711\ndata: {"specversion":"1.0","type":"task.started","position":4711}\n\n'


RESUMED = parameter(
    LAST_EVENT_ID,
    "The id of the last event that was received; it goes before `after`, since clients send it when they connect again",
    place="header",
    pattern="^[0-9]{1,18}$",
)


async def stream(call: Call) -> Response:
    """Answer with the tenant's events from a position on, and go on with those that are recorded."""
    query = StreamEvents.read(call)
    interest = await interest_of(
        call, {"type": query.types, "activity": query.activities, "task": query.tasks, "member": query.members}
    )
    await settled(call, None)
    head = int((await call.service.pool.fetch(log.HEAD))[0][0])
    asked, asked_by = _asked(query)
    if asked is not None and asked > head:
        raise ApiError("position-beyond-head", f"the log ends at position {head}", parameter=asked_by)
    CURRENT.get().position = head
    return _Streamed(call, interest, head if asked is None else asked)


def _asked(query: StreamEvents) -> tuple[int | None, str]:
    """Return the position that a stream begins after, if one is named, and where that is."""
    last = header(LAST_EVENT_ID.lower().encode())
    if last is None:
        return (query.after if "after" in query.model_fields_set else None), "after"
    if not (last.isascii() and last.isdigit() and len(last) <= 19 and int(last) <= MAX_WHOLE):
        raise ApiError("bad-header", f"an id is a whole number from 0 to {MAX_WHOLE}", parameter=LAST_EVENT_ID)
    return int(last), LAST_EVENT_ID


@dataclass(slots=True)
class _Client:
    """What a stream has sent: `said` is the last id, and `beat` when anything was sent."""

    send: Send
    said: int
    beat: float = 0.0

    async def write(self, blocks: Sequence[Block], stream: Stream | None = None) -> None:
        """Send blocks, in parts of which the server takes each once most of those before it are sent."""
        if not blocks:
            return
        for part in _parts([shown for _, shown in blocks]):
            if stream is not None and stream.over:
                return
            await self.send({"type": "http.response.body", "body": part, "more_body": True})
        self.said = blocks[-1][0]
        self.beat = time.monotonic()


def _parts(blocks: Sequence[bytes]) -> Iterator[bytes]:
    """Join small blocks, and cut large ones."""
    held: list[bytes] = []
    size = 0
    for each in blocks:
        if size + len(each) > LARGE and held:
            yield b"".join(held)
            held, size = [], 0
        for start in range(0, max(len(each) - LARGE, 0), LARGE):
            yield each[start : start + LARGE]
        held.append(each[(len(each) - 1) // LARGE * LARGE :] if len(each) > LARGE else each)
        size += len(held[-1])
    if held:
        yield b"".join(held)


class _Streamed(Lasting):
    """The events, from a position on."""

    def __init__(self, call: Call, interest: Interest, after: int) -> None:
        super().__init__(call)
        self._interest = interest
        self._after = after

    async def serve(self, receive: Receive, send: Send) -> None:
        with self.call.service.live.stream(self.call.caller.tenant, self._interest) as stream:
            watching = asyncio.create_task(when_gone(receive, stream.end))
            try:
                await self._serve(stream, _Client(send, self._after))
            finally:
                watching.cancel()

    async def _serve(self, stream: Stream, client: _Client) -> None:
        # A block without data is no event; its id is where a client goes on that loses its connection before one comes.
        await client.write([(self._after, b"retry: %d\nid: %d\n\n" % (_RETRY, self._after))])
        checked = time.monotonic()
        live = self.call.service.live
        while not stream.over:
            now = time.monotonic()
            if now >= checked + CHECK:
                checked = now
                if not await self.is_valid():
                    return
            if stream.joined is None:
                live.join(stream)
            if stream.joined is not None and self._after < stream.joined:
                await self._catch_up(stream, client, stream.joined)
            elif (batch := stream.take()) is not None:
                # One that began at the end of the log may have joined a little before that.
                blocks = [each for each in batch.blocks if each[0] > self._after]
                self._after = max(self._after, batch.end)
                await client.write(blocks, stream)
            else:
                if stream.joined is not None and live.position is not None:
                    # All before it that is wanted was sent.
                    self._after = max(self._after, live.position)
                await stream.pause(max(0.0, min(checked + CHECK, client.beat + HEARTBEAT) - now))
            await self._beat(client)

    async def _beat(self, client: _Client) -> None:
        """Show a client that sees nothing that the connection is there, and how far the log was read for it."""
        if time.monotonic() >= client.beat + HEARTBEAT:
            moved = self._after > client.said
            await client.write([(self._after, b":\nid: %d\n\n" % self._after if moved else b":\n")])

    async def _catch_up(self, stream: Stream, client: _Client, until: int) -> None:
        """Send a page of the log."""
        held = self.call.answer_held
        try:
            end, blocks = await self._page(until)
            held.hold(sum(len(shown) for _, shown in blocks))
            self._after = end
            await client.write(blocks, stream)
        except (StoreUnavailable, ApiError):
            # The database is away, or others hold all the memory that there is for answers.
            await stream.pause(AGAIN)
        finally:
            held.hold(0)

    async def _page(self, until: int) -> tuple[int, list[Block]]:
        """Return how far a page of the log goes, and the blocks of what is wanted."""
        end, types = min(self._after + _WINDOW, until), self._interest.types
        asked = log.events_of_tenant(self.call.caller.tenant, self._after, end, types, _ROWS)
        found = await self.call.documents(asked, _BYTES, self.call.service.exports, "state")
        rows = [LogRow(*row) for row in found.rows]
        blocks = await self.call.worked(lambda: [block(row) for row in rows if self._interest.admits(Subject(row))])
        return (rows[-1].position if found.left or len(rows) == _ROWS else end), blocks
