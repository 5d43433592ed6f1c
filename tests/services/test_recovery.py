"""Workers killed where it is hardest, and the database taken away: nothing is lost, and nothing takes effect twice."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from typing import Any

import pytest

from services.store.event_store import EventStore
from tests.eventually import PATIENCE, eventually_async
from tests.services.harness import Client, created, dead_letters, declare, rows, waiting, working
from tests.services.processes import worker_process
from tests.services.proxy import database_proxy

TASK = "task.create"
# A command that kills whoever decides it, as one would that makes the decoder crash.
DEADLY = """
import os
from dataclasses import replace
from domain import DECIDER_OF_COMMAND
decider = DECIDER_OF_COMMAND["task.create"]
def decide(command, context):
    if command.id == "deadly":
        os.kill(os.getpid(), 9)
    return decider.decide(command, context)
DECIDER_OF_COMMAND["task.create"] = replace(decider, decide=decide)
"""


def tasks(first: int, count: int) -> list[tuple[str, Any]]:
    return [(TASK, {"id": f"t{number}"}) for number in range(first, first + count)]


def names(count: int) -> list[str]:
    return sorted(f"t{number}" for number in range(count))


async def settled(url: str, amqp_url: str, count: int) -> None:
    """Check that just these commands have taken effect, once each, and that nothing is left over."""
    await eventually_async(lambda: len(created(url)) >= count)
    assert await waiting(amqp_url) == 0
    assert sorted(created(url)) == names(count)
    assert len(rows(url, "SELECT 1 FROM ledger")) == count
    assert await dead_letters(amqp_url) == []


@pytest.mark.parametrize(("point", "times"), [("after-commit", 20), ("after-decide", 4), ("before-ack", 4)])
async def test_a_worker_killed_at_a_named_point_loses_and_repeats_nothing(
    migrated_url: str, amqp_url: str, point: str, times: int
) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        for turn in range(times):
            sent = await client.send_all(tasks(10 * turn, 10))
            with worker_process(migrated_url, amqp_url, test_build="1", crash_at=point) as process:
                assert await process.ended() == -signal.SIGKILL, process.output
            done = len(created(migrated_url)) - 10 * turn
            assert (done == 0) if point == "after-decide" else (0 < done <= 10)
            assert not any(key in client.replies for key in sent) or point == "before-ack"
            async with working(migrated_url, amqp_url):
                assert all(reply.accepted for reply in await client.answers(sent))
        await settled(migrated_url, amqp_url, 10 * times)


async def test_a_build_that_is_not_for_tests_has_no_crash_points(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        with worker_process(migrated_url, amqp_url, crash_at="after-commit") as process:
            assert (await client.ask(TASK, {"id": "t0"})).accepted
            assert process.poll() is None


async def test_workers_killed_at_any_moment_lose_and_repeat_nothing(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent: list[str] = []
        for turn in range(5):
            done = len(rows(migrated_url, "SELECT 1 FROM ledger"))
            sent += await client.send_all(tasks(60 * turn, 60))
            with worker_process(migrated_url, amqp_url, batch_size="20", poison_attempts="1000") as process:
                # At another moment each time: when so many more commands have been recorded.
                await eventually_async(
                    lambda least=done + 7 * turn + 1: len(rows(migrated_url, "SELECT 1 FROM ledger")) >= least
                )
                process.signal(signal.SIGKILL)
                assert await process.ended() == -signal.SIGKILL
        async with working(migrated_url, amqp_url):
            assert all(reply.accepted for reply in await client.answers(sent))
        await settled(migrated_url, amqp_url, 300)


async def test_a_command_that_kills_its_worker_is_one_dead_letter_among_a_thousand(
    migrated_url: str, amqp_url: str
) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        first = await client.send_all(tasks(0, 500))
        deadly = await client.send(TASK, {"id": "deadly"})
        rest = await client.send_all(tasks(500, 500))
        deaths = 0
        while not client.replies.get(deadly):
            with worker_process(migrated_url, amqp_url, before=DEADLY) as process:
                await eventually_async(lambda: process.poll() is not None or client.replies.get(deadly))
                deaths += process.poll() == -signal.SIGKILL
                if process.poll() is None:
                    assert all(reply.accepted for reply in await client.answers([*first, *rest]))
                    process.signal(signal.SIGTERM)
                    assert await process.ended() == 0
        # Once under way with others, once among those that were redelivered, and then alone.
        assert deaths == 6
        (reply,) = client.replies[deadly]
        assert reply.error is not None
        assert reply.error.code == "poison"
        (letter,) = await dead_letters(amqp_url)
        assert letter.header.properties.message_id == deadly
    assert sorted(created(migrated_url)) == names(1000)
    assert rows(migrated_url, "SELECT 1 FROM attempts") == []


async def test_a_second_worker_stands_by_and_takes_over(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        with ExitStack() as stack:
            workers = []
            for _ in range(2):
                workers.append(stack.enter_context(worker_process(migrated_url, amqp_url)))
                await eventually_async(lambda: workers[-1].said("consuming commands"))
            sent = await client.send_all(tasks(0, 50))
            await client.answers(sent)
            # The first that consumed is the single active one.
            workers[0].signal(signal.SIGKILL)
            sent += await client.send_all(tasks(50, 50))
            assert all(reply.accepted for reply in await client.answers(sent))
    await settled(migrated_url, amqp_url, 100)


@pytest.mark.parametrize("how", ["cut", "terminated"])
async def test_a_database_that_goes_away_under_load_comes_back(migrated_url: str, amqp_url: str, how: str) -> None:
    with database_proxy(migrated_url) as (proxy, through):
        async with working(through, amqp_url, batch_size=10) as consumer, Client(amqp_url) as client:
            sent = []
            for turn in range(6):
                sent += await client.send_all(tasks(50 * turn, 50))
                await eventually_async(lambda turn=turn: len(created(migrated_url)) > 50 * turn)
                if how == "cut":
                    proxy.cut()
                else:
                    rows(
                        migrated_url,
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name = 'foldwork-commands' AND datname = current_database()",
                    )
            if how == "cut":
                proxy.down()
                sent += await client.send_all([*tasks(300, 20), (TASK, b"{")])
                await eventually_async(lambda: consumer.unready == ["database"])
                proxy.up()
                await client.answers(sent)
                (letter,) = await dead_letters(amqp_url)
                assert letter.body == b"{"
                sent.pop()
            assert all(reply.accepted for reply in await client.answers(sent))
            assert consumer.unready == []
    await settled(migrated_url, amqp_url, 320 if how == "cut" else 300)


async def test_a_lost_answer_to_a_commit_is_no_second_effect(migrated_url: str, amqp_url: str) -> None:
    with database_proxy(migrated_url) as (proxy, through):
        async with working(through, amqp_url) as consumer, Client(amqp_url) as client:
            await client.ask(TASK, {"id": "t0"})
            sent = []
            for turn in range(5):
                proxy.forget_after = b"COMMIT"
                sent += await client.send_all(tasks(1 + 20 * turn, 20))
                assert all(reply.accepted for reply in await client.answers(sent))
                assert proxy.forget_after is None
            assert any(client.replies[key][0].duplicate for key in sent)
            assert consumer.unready == []
    await settled(migrated_url, amqp_url, 101)


async def test_bad_commands_are_buried_once_however_often_their_batch_is_tried(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = 0
    append = EventStore.append

    def failing(self: EventStore, *arguments: Any) -> Any:
        nonlocal lost
        if lost < 4:
            lost += 1
            raise _unavailable()
        return append(self, *arguments)

    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = [await client.send(TASK, b"{"), await client.send(TASK, {"id": "t0"})]
        monkeypatch.setattr(EventStore, "append", failing)
        async with working(migrated_url, amqp_url):
            await client.answers(sent)
        assert lost == 4
        assert len(await dead_letters(amqp_url)) == 1
        assert len(client.replies[sent[0]]) == 1
    assert created(migrated_url) == ["t0"]


async def test_an_outage_is_no_attempt_at_a_redelivered_command(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await declare(amqp_url)
    lost = 0
    append = EventStore.append

    def failing(self: EventStore, *arguments: Any) -> Any:
        nonlocal lost
        if lost < 7:
            lost += 1
            raise _unavailable()
        return append(self, *arguments)

    async with Client(amqp_url) as client:
        sent = await client.send(TASK, {"id": "t0"})
        with worker_process(migrated_url, amqp_url, test_build="1", crash_at="after-decide") as process:
            assert await process.ended() == -signal.SIGKILL
        monkeypatch.setattr(EventStore, "append", failing)
        monkeypatch.setattr("services.store.connect.Backoff.next_wait", lambda _: 0.01)
        async with working(migrated_url, amqp_url, poison_attempts=3):
            assert (await client.answer(sent)).accepted
        assert lost == 7
    await settled(migrated_url, amqp_url, 1)


async def test_what_an_outage_left_undone_at_the_stop_is_not_acknowledged_by_what_came_after(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, failed = EventStore.append, threading.Event()

    def failing(self: EventStore, *arguments: Any) -> Any:
        if not failed.is_set():
            failed.set()
            stop.wait(PATIENCE)
            raise _unavailable()
        return append(self, *arguments)

    stop = threading.Event()
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = await client.send_all(tasks(0, 20))
        monkeypatch.setattr(EventStore, "append", failing)
        async with working(migrated_url, amqp_url, batch_size=5) as consumer:
            await eventually_async(failed.is_set)
            await consumer.stop()
            stop.set()
        async with working(migrated_url, amqp_url):
            assert all(reply.accepted for reply in await client.answers(sent))
    await settled(migrated_url, amqp_url, 20)


def _unavailable() -> Exception:
    from services.store.unavailable import StoreUnavailable

    return StoreUnavailable("the server closed the connection")


async def test_sigterm_finishes_what_is_at_hand_and_loses_nothing(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent: list[str] = []
        for turn in range(3):
            sent += await client.send_all(tasks(200 * turn, 200))
            before = len(rows(migrated_url, "SELECT 1 FROM ledger"))
            with worker_process(migrated_url, amqp_url, prefetch="60", batch_size="10") as process:
                await eventually_async(lambda before=before: len(rows(migrated_url, "SELECT 1 FROM ledger")) > before)
                process.signal(signal.SIGTERM)
                assert await process.ended() == 0, process.output
                assert "not stopped within the grace" not in process.output
        async with working(migrated_url, amqp_url):
            assert all(reply.accepted for reply in await client.answers(sent))
        assert all(len(client.replies[key]) == 1 for key in sent)
    await settled(migrated_url, amqp_url, 600)


async def test_a_worker_that_starts_before_its_database_waits_for_it(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    with database_proxy(migrated_url) as (proxy, through):
        proxy.down()
        with worker_process(through, amqp_url) as process:
            async with Client(amqp_url) as client:
                sent = await client.send(TASK, {"id": "t0"})
                await eventually_async(lambda: process.said("database lost"))
                proxy.up()
                assert (await client.answer(sent)).accepted
