"""What the tests of dead letters share: the role that stores them and sends them again, and what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from services.roles import make_role
from tests.eventually import PATIENCE, eventually_async
from tests.services.harness import rows, settings

TASK = "task.create"
# No command: the title is no text.
WRONG = {"id": "t1", "title": 7}


@asynccontextmanager
async def policing(database_url: str, amqp_url: str, *, ready: bool = True, **given: Any) -> AsyncIterator[Any]:
    """Run the policies role, and stop it at the end."""
    role = make_role("policies", settings(database_url, amqp_url, **given))
    task = asyncio.create_task(role.run())
    try:
        if ready:
            await eventually_async(lambda: task.done() or not role.unready)
            assert not task.done(), task.exception()
        yield role
    finally:
        await role.stop()
        await asyncio.wait_for(task, PATIENCE)


def parked(database_url: str, columns: str = "message_id, code, count, state") -> list[tuple[Any, ...]]:
    """Return columns of all letters, in the order in which they came."""
    return rows(database_url, f"SELECT {columns} FROM dead_letters ORDER BY arrived")


async def eventually_parked(database_url: str, count: int, state: str = "parked") -> None:
    """Wait until there are so many letters in a state."""
    asked = "SELECT count(*) FROM dead_letters WHERE state = %s"
    await eventually_async(lambda: rows(database_url, asked, state) == [(count,)])
