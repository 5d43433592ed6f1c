"""What the tests of bulk requests share: the endpoints that take many, and a broker that does not take all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest

from services.broker.sender import NotSent, Outgoing
from services.commands.wire import Reply
from tests.eventually import eventually_async
from tests.services.http.api import Api

TASKS, HUBS = "/api/v3/tasks/bulk", "/v1/directory/hub"


class Kind(NamedTuple):
    """One endpoint that takes many: its path, a body of so many parts, what it counts as done, and what it makes.

    `answer` is the status with which it answers when all outcomes are known.
    """

    path: str
    body: Callable[[int], dict[str, Any]]
    done: str
    parts: str
    event: str
    answer: int

    async def post(self, api: Api, count: int, token: str | None = None, **rest: Any) -> httpx.Response:
        more = {} if rest.pop("waited", False) else {"background": True}
        return await api.post(self.path, {**self.body(count), **more}, token, **rest)


KINDS = (
    Kind(
        TASKS,
        lambda count: {"tasks": [{"refId": f"r{number}", "flow": "Visit"} for number in range(count)]},
        "success",
        "tasks",
        "task.created",
        201,
    ),
    Kind(
        HUBS,
        lambda count: {"entries": [{"fields": {"name": f"Hub {number}"}} for number in range(count)]},
        "registered",
        "entries",
        "directory.entry-registered",
        200,
    ),
)
of_each = pytest.mark.parametrize("kind", KINDS, ids=["tasks", "entries"])


def made(api: Api, kind: Kind) -> int:
    """Return how many were made."""
    with psycopg.connect(api.url) as conn:
        row = conn.execute("SELECT count(*) FROM stored_events WHERE topic = %s", (kind.event,)).fetchone()
    assert row is not None
    return int(row[0])


async def done_of(api: Api, receipt: str) -> dict[str, Any]:
    """Wait until a bulk is done, and return its receipt."""
    found: list[dict[str, Any]] = []

    async def done() -> bool:
        found.append((await api.get(receipt)).json())
        return bool(found[-1]["state"] == "done")

    await eventually_async(done)
    return found[-1]


class Holding:
    """A broker in front of the API's own that takes so many commands, and then no more, or says nothing, until told."""

    def __init__(self, api: Api, monkeypatch: pytest.MonkeyPatch, takes: int, *, refuses: bool = True) -> None:
        self.takes, self.refuses = takes, refuses
        self.asked: list[str] = []
        self.under_way = self.most = 0
        self.free = asyncio.Event()
        self._send = api.sender.send
        monkeypatch.setattr(api.sender, "send", self.send)

    async def send(self, outgoing: Outgoing, timeout: float, *, wait: bool = True) -> Reply | None:
        self.asked.append(outgoing.command_id)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.takes <= 0 and not self.free.is_set():
                if self.refuses:
                    raise NotSent("full")
                await self.free.wait()
            self.takes -= 1
            return await self._send(outgoing, timeout, wait=wait)
        finally:
            self.under_way -= 1


class Hanging:
    """Takes what is sent, and never says so."""

    def __init__(self) -> None:
        self.taken: list[Outgoing] = []

    async def send(self, outgoing: Outgoing, timeout: float, *, wait: bool = True) -> Reply | None:
        self.taken.append(outgoing)
        await asyncio.Event().wait()
        return None
