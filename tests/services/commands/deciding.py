"""What the tests of the group commit share: a worker, commands for it, and what its replies say."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from services.commands import wire
from services.commands.outcome import Outcome
from services.commands.wire import Incoming, Reply
from services.commands.worker import Worker
from services.store.event_store import EventStore
from tests.given import COMMAND_NAMES
from tests.services.harness import TENANT

_numbers = itertools.count(1)


def incoming(command: Any, command_id: str | None = None, **rest: Any) -> Incoming:
    """Return a command as it comes from the wire; its fingerprint is that of its data."""
    name = rest.pop("name", None) or COMMAND_NAMES[type(command)]
    fingerprint = rest.pop("fingerprint", repr(command).encode())
    return Incoming(TENANT, command_id or f"made-{next(_numbers)}", name, command, fingerprint, **rest)


def create(task_id: str | None, command_id: str | None = None, **rest: Any) -> Incoming:
    data = b"{}" if task_id is None else b'{"id": "%s"}' % task_id.encode()
    command, fingerprint = wire.parse_data("task.create", data)
    return incoming(command, command_id, fingerprint=fingerprint, **rest)


def change(task_id: str, title: str, **rest: Any) -> Incoming:
    data = f'{{"id": "{task_id}", "title": "{title}"}}'.encode()
    command, fingerprint = wire.parse_data("task.change", data)
    return incoming(command, fingerprint=fingerprint, **rest)


@contextmanager
def a_worker(url: str, cache: int = 1 << 20, on_decided: Callable[[], None] = lambda: None) -> Iterator[Worker]:
    """Give a worker with a connection of its own."""
    store = EventStore(url)
    drawn = (f"{threading.get_ident()}-{id(store)}-{number}" for number in itertools.count())
    numbers = itertools.count(id(store))
    try:
        yield Worker(store, lambda: datetime.now(UTC), drawn.__next__, numbers.__next__, cache, on_decided)
    finally:
        store.close()


def replies(outcomes: list[Outcome]) -> list[Reply]:
    found = [outcome.reply for outcome in outcomes]
    assert all(found)
    return found  # type: ignore[return-value]


def told(reply: Reply) -> tuple[str, bool, str | None]:
    return reply.outcome, reply.duplicate, reply.error.code if reply.error else None


ACCEPTED, AGAIN = ("accepted", False, None), ("accepted", True, None)
