"""Only what a command may be to blame for is an attempt at it."""

from __future__ import annotations

import signal

import psycopg
import pytest

from services.store.append import APPEND_LOCK
from tests.eventually import eventually_async
from tests.services.commands.shared import TASK, code, tasks
from tests.services.harness import Client, created, dead_letters, declare, rows, waiting, working
from tests.services.processes import worker_process

_KILLED = """
import os
{module}
original = {owner}.{name}
def deadly(*given, **rest):
    if b"deadly" in repr(given).encode():
        os.kill(os.getpid(), 9)
    return original(*given, **rest)
{owner}.{name} = deadly
"""
KILLED = {
    "parsed": _KILLED.format(module="from services.commands import wire", owner="wire", name="parse_data"),
    "decided": """
import os
from dataclasses import replace
from domain import DECIDER_OF_COMMAND
decider = DECIDER_OF_COMMAND["task.create"]
def decide(command, context):
    if command.id == "deadly":
        os.kill(os.getpid(), 9)
    return decider.decide(command, context)
DECIDER_OF_COMMAND["task.create"] = replace(decider, decide=decide)
""",
    "recorded": _KILLED.format(
        module="from services.store.event_store import EventStore", owner="EventStore", name="append"
    ),
}


@pytest.mark.parametrize("when", KILLED)
async def test_a_command_that_kills_its_worker_is_buried_whenever_it_does(
    migrated_url: str, amqp_url: str, when: str
) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        first = await client.send_all(tasks(30, "a"))
        deadly = await client.send(TASK, {"id": "deadly"})
        rest = await client.send_all(tasks(30, "b"))
        deaths = 0
        while not client.replies.get(deadly) and deaths < 10:
            given = {"poison_attempts": "2", "batch_size": "20"}
            with worker_process(migrated_url, amqp_url, before=KILLED[when], **given) as process:
                await eventually_async(lambda: process.poll() is not None or client.replies.get(deadly))
                deaths += process.poll() == -signal.SIGKILL
                if process.poll() is None:
                    assert all(answer.accepted for answer in await client.answers([*first, *rest]))
        assert deaths == 3
        error = client.replies[deadly][0].error
        assert error is not None
        assert (error.code, "2 times" in error.detail) == ("poison", True)
        assert [code(letter) for letter in await dead_letters(amqp_url)] == ["poison"]
    assert len(created(migrated_url)) == 60
    assert rows(migrated_url, "SELECT 1 FROM attempts") == []


@pytest.mark.parametrize("how", ["append lock", "table lock"])
async def test_a_worker_that_dies_while_it_waits_is_no_attempt(migrated_url: str, amqp_url: str, how: str) -> None:
    statements = {
        "append lock": f"SELECT pg_advisory_xact_lock({APPEND_LOCK})",
        "table lock": "LOCK TABLE stored_events IN EXCLUSIVE MODE",
    }

    def waits() -> int:
        # The sessions of workers that were killed wait on.
        query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        return len(rows(migrated_url, query))

    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = await client.send_all(tasks(10))
        with psycopg.connect(migrated_url) as blocking:
            blocking.execute(statements[how])
            for number in range(4):
                with worker_process(migrated_url, amqp_url, poison_attempts="2") as process:
                    await eventually_async(lambda number=number: waits() > number)
                    process.signal(signal.SIGKILL)
                    await process.ended()
            assert rows(migrated_url, "SELECT 1 FROM attempts") == []
            blocking.rollback()
        async with working(migrated_url, amqp_url, poison_attempts=2):
            assert all(answer.accepted for answer in await client.answers(sent))
        assert await dead_letters(amqp_url) == []
        assert await waiting(amqp_url) == 0
    assert created(migrated_url) == [f"t{number}" for number in range(10)]


async def test_what_an_ended_worker_left_is_decided_together(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = await client.send_all(tasks(60))
        given = {"test_build": "1", "crash_at": "after-decide", "batch_size": "20"}
        with worker_process(migrated_url, amqp_url, **given) as process:
            assert await process.ended() == -signal.SIGKILL
        async with working(migrated_url, amqp_url) as consumer:
            turns = consumer.store.turns
            assert all(answer.accepted for answer in await client.answers(sent))
            assert consumer.store.turns - turns < 20
    assert len(created(migrated_url)) == 60
    assert rows(migrated_url, "SELECT 1 FROM attempts") == []
