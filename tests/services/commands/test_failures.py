"""A command, or a batch, that fails by itself hurts no other, and an outage of the database is waited for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from services.commands import settling
from services.commands import worker as workers
from services.commands.consumer import CommandConsumer
from services.commands.watchdog import NotConsuming
from services.store.append import Append
from services.store.event_store import EventStore
from services.store.unavailable import SessionLost, StatementFailed, StoreUnavailable
from tests.eventually import PATIENCE, eventually_async
from tests.services.commands.shared import TASK, tasks
from tests.services.harness import Client, created, dead_letters, declare, rows, settings, working


async def test_an_unexpected_failure_hurts_only_its_own_command(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_on(monkeypatch, "boom")
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = await client.send_all([*tasks(20, "a"), (TASK, {"id": "boom"}), *tasks(20, "b")])
        async with working(migrated_url, amqp_url):
            good = await client.answers([*sent[:20], *sent[21:]])
            assert all(reply.accepted for reply in good)
            reply = await client.answer(sent[20])
            assert reply.error is not None
            assert reply.error.code == "poison"
        (letter,) = await dead_letters(amqp_url)
        assert json.loads(letter.body) == {"id": "boom"}
        assert letter.header.properties.headers["x-foldwork-code"] == "poison"
        assert "5 times" in letter.header.properties.headers["x-foldwork-detail"]
    assert sorted(created(migrated_url)) == sorted(f"{prefix}{number}" for prefix in "ab" for number in range(20))
    assert rows(migrated_url, "SELECT * FROM attempts") == []


def _fail_on(monkeypatch: pytest.MonkeyPatch, task_id: str) -> None:
    from dataclasses import replace

    from domain import DECIDER_OF_COMMAND

    decider = DECIDER_OF_COMMAND[TASK]

    def decide(command: Any, context: Any) -> Any:
        if command.id == task_id:
            raise ZeroDivisionError("unexpected")
        return decider.decide(command, context)

    monkeypatch.setitem(DECIDER_OF_COMMAND, TASK, replace(decider, decide=decide))


async def test_small_commands_that_record_much_stop_nobody(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these asks for an attribute of its commerce in all of its tasks."""
    most, each, count = 200_000, 60_000, 40
    monkeypatch.setattr(workers, "MAX_BATCH_BYTES", most)
    appended: list[int] = []
    append = EventStore.append

    def watched(self: EventStore, recorded: Append) -> Any:
        appended.append(sum(len(event.state) for event in recorded.events))
        return append(self, recorded)

    monkeypatch.setattr(EventStore, "append", watched)
    scene = [
        ("directory.register", {"kind": "commerce", "id": "c", "fields": {"note": "x" * each}}),
        (
            "directory.register",
            {"kind": "attribute", "id": "big", "fields": {"strategy": "UPFRONT", "source": "commerce"}},
        ),
        ("directory.register", {"kind": "dispatch", "id": "EMAIL", "fields": {"provider": "console"}}),
        (
            "workflow.define",
            {"id": "w", "name": "Visit", "steps": [{"name": f"Step {n}", "flow": "f"} for n in range(2)]},
        ),
    ]
    task = {"commerce": "c", "plan": {"channel": "EMAIL", "attribute_keys": ["big"]}}
    attack = [("activity.create", {"workflow_id": "w", "tasks": [task, task]}) for _ in range(count)]
    async with Client(amqp_url) as client:
        async with working(migrated_url, amqp_url):
            assert [(await client.ask(*command)).error for command in scene] == [None] * len(scene)
        appended.clear()
        sent = await client.send_all(attack)
        sent.append(await client.send(TASK, {"id": "theirs"}, tenant="other"))
        async with working(migrated_url, amqp_url):
            answers = await client.answers(sent)
    assert [(answer.outcome, answer.duplicate) for answer in answers] == [("accepted", False)] * (count + 1)
    positions = [event.position for answer in answers[:-1] for event in answer.events]
    assert positions == sorted(positions)
    # The other tenant had its turn before all of this was recorded.
    assert answers[-1].events[0].position < positions[-1]
    assert sum(appended) > count * 2 * each
    assert max(appended) < most + 3 * each
    assert await dead_letters(amqp_url) == []


@pytest.mark.parametrize("failure", [StatementFailed, SessionLost])
async def test_a_batch_that_the_database_does_not_take_is_halved_until_one_command_is_left(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    monkeypatch.setattr(settling, "LOST_PAUSE", 0.0)
    append, tried = EventStore.append, []

    def failing(self: EventStore, recorded: Append) -> Any:
        ids = [row.command_id for row in recorded.ledger]
        tried.append(len(ids))
        if "bad" in ids:
            raise failure("not taken")
        return append(self, recorded)

    monkeypatch.setattr(EventStore, "append", failing)
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = await client.send_all(tasks(9))
        await client.send(TASK, {"id": "bad"}, "bad")
        sent += await client.send_all(tasks(6, "later"))
        async with working(migrated_url, amqp_url, poison_attempts=3) as consumer:
            answers = await client.answers(sent)
            (letter,) = await eventually_async(lambda: dead_letters(amqp_url))
            assert consumer.unready == []
    assert [(answer.outcome, answer.duplicate) for answer in answers] == [("accepted", False)] * 15
    assert letter.header.properties.headers["x-foldwork-code"] == "poison"
    assert created(migrated_url) == [f"t{number}" for number in range(9)] + [f"later{number}" for number in range(6)]
    assert len(tried) < 40


async def test_a_canceled_batch_is_no_outage(migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server itself ends the statement of several commands at once, and takes them in smaller batches."""
    append = EventStore.append

    def slow(self: EventStore, recorded: Append) -> Any:
        if len(recorded.ledger) > 2:
            self.fetch("SELECT pg_sleep(30)", ())
        return append(self, recorded)

    monkeypatch.setattr(EventStore, "append", slow)
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = await client.send_all(tasks(8))
        async with working(migrated_url, amqp_url, statement_timeout=0.5):
            answers = await client.answers(sent)
    assert [(answer.outcome, answer.duplicate) for answer in answers] == [("accepted", False)] * 8
    assert created(migrated_url) == [f"t{number}" for number in range(8)]


async def test_what_was_recorded_before_the_database_went_away_is_answered_as_first(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "MAX_BATCH_BYTES", 1)
    append, calls = EventStore.append, []

    def away(self: EventStore, recorded: Append) -> Any:
        calls.append(len(recorded.events))
        if len(calls) in (3, 4):
            raise StoreUnavailable("away")
        return append(self, recorded)

    monkeypatch.setattr(EventStore, "append", away)
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = await client.send_all(tasks(5))
        async with working(migrated_url, amqp_url):
            answers = await client.answers(sent)
    assert [(answer.outcome, answer.duplicate) for answer in answers] == [("accepted", False)] * 5
    assert calls == [1] * 7


@pytest.mark.parametrize("answering", [True, False])
async def test_commands_that_are_not_recorded_though_the_database_answers_end_the_role(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch, answering: bool
) -> None:
    def failing(self: EventStore, recorded: Append) -> Any:
        raise StoreUnavailable("of no known kind")

    append = EventStore.append
    monkeypatch.setattr(EventStore, "append", failing)
    consumer = CommandConsumer(settings(migrated_url, amqp_url, consumer_timeout=1.0))
    task = asyncio.create_task(consumer.run())
    async with Client(amqp_url) as client:
        await eventually_async(lambda: not consumer.unready)
        if not answering:

            async def reached() -> bool:
                return False

            consumer.store.reached = reached  # type: ignore[method-assign]
        sent = await client.send(TASK, {"id": "a"})
        if answering:
            with pytest.raises(NotConsuming, match=r"the database is available.*of no known kind"):
                await asyncio.wait_for(task, PATIENCE)
        else:
            failures = 6  # with growing pauses: longer than the time-out
            await eventually_async(lambda: consumer.backoff.failures >= failures or task.done())
            assert not task.done()
            monkeypatch.setattr(EventStore, "append", append)
            assert (await client.answer(sent)).accepted
            await consumer.stop()
            await task
