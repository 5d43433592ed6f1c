"""The scheduler: what is due takes effect once, soon and for every tenant, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest

from projections import due
from services.broker.publisher import Publisher, command_sender
from services.broker.sender import Outgoing
from services.processors import scheduler as schedulers
from services.processors.scheduler import MAX_ROWS_OF_TENANT, MAX_TENANTS, REST, Scheduler
from services.roles import Roles
from services.store.failures import OutsideUnavailable
from tests.eventually import LATE, PATIENCE, eventually, eventually_async
from tests.services.harness import Client, declare, rows, settings, stored
from tests.services.processes import nursery
from tests.services.proxy import database_proxy

PAST, LATER = "2025-10-31T08:55:00+07:00", "9999-10-31T08:55:00+07:00"


def add(conn: psycopg.Connection[Any], tenant: str, count: int = 1, end: str = PAST, kind: str = "overdue") -> None:
    """Add rows as the read model would; the higher their number, the later they were due."""
    conn.execute(
        "INSERT INTO deadlines_v1 (tenant, task_id, kind, due, due_at, position, todo, wake_at)"
        " SELECT %s, 't' || n, %s, %s, %s::timestamptz, n, 'send', %s::timestamptz + n * interval '1 microsecond'"
        " FROM generate_series(1, %s) AS n",
        (tenant, kind, end, end, end, count),
    )


def of(sent: Sequence[Outgoing]) -> Counter[str]:
    return Counter(command.tenant for command in sent)


def drain(conn: psycopg.Connection[Any], scheduler: Scheduler) -> None:
    while scheduler.turn(conn) == REST:
        pass


@asynccontextmanager
async def running(database_url: str, amqp_url: str, *names: str, **given: Any) -> AsyncIterator[Roles]:
    roles = Roles(settings(database_url, amqp_url, follower_poll=0.2, **given), names)
    work = asyncio.create_task(roles.run())
    await asyncio.wait_for(roles.until_ready(), PATIENCE)
    try:
        yield roles
    finally:
        roles.stop()
        await asyncio.wait_for(work, PATIENCE)


def names_of(url: str, task_id: str) -> list[str]:
    return [name for stream, _, name in stored(url) if stream.endswith(f"/task-{task_id}")]


def overdue(url: str) -> int:
    return [name for _, _, name in stored(url)].count("task.became-overdue")


def test_a_command_says_what_is_due_and_goes_where_the_task_s_own_go(conn: psycopg.Connection[Any]) -> None:
    add(conn, "acme")
    conn.execute("UPDATE deadlines SET activity_id = 'a'")
    sent: list[Outgoing] = []
    Scheduler(sent.extend).turn(conn)
    (command,) = sent
    assert (command.name, command.tenant, command.actor, command.routing_key) == ("task.wake", "acme", "system", "a")
    assert json.loads(command.body) == {"id": "t1", "kind": "overdue", "due": PAST}
    assert conn.execute("SELECT sends, wake_at > now() FROM deadlines").fetchall() == [(1, True)]


def test_nothing_due_costs_one_query_and_waits_no_longer_than_until_the_next(conn: psycopg.Connection[Any]) -> None:
    asked: list[Any] = []

    class Counting:
        def execute(self, statement: Any, *rest: Any, **options: Any) -> Any:
            asked.append(statement)
            return conn.execute(statement, *rest, **options)

    counting: Any = Counting()
    scheduler = Scheduler(lambda _: pytest.fail("nothing is due"), poll=7.0)
    assert scheduler.turn(counting) == 7.0
    add(conn, "acme", end=LATER)
    assert scheduler.turn(counting) == 7.0
    conn.execute("UPDATE deadlines SET wake_at = now() + interval '3 seconds'")
    assert 0 < scheduler.turn(counting) < 3.0
    assert len(asked) == 3


def test_a_tenant_with_a_hundred_thousand_delays_nobody(conn: psycopg.Connection[Any]) -> None:
    add(conn, "aaa", 100_000)
    conn.execute("ANALYZE deadlines_v1")
    add(conn, "zzz")
    sent: list[Outgoing] = []
    scheduler = Scheduler(sent.extend)
    scheduler.turn(conn)
    assert of(sent) == {"aaa": MAX_ROWS_OF_TENANT, "zzz": 1}
    oldest = [json.loads(command.body)["id"] for command in sent if command.tenant == "aaa"]
    assert sorted(oldest, key=lambda name: int(name[1:])) == [f"t{n}" for n in range(1, MAX_ROWS_OF_TENANT + 1)]
    scheduler.turn(conn)
    assert of(sent) == {"aaa": 2 * MAX_ROWS_OF_TENANT, "zzz": 1}


def test_what_is_due_is_found_by_index_for_every_tenant(conn: psycopg.Connection[Any]) -> None:
    add(conn, "acme", 20_000)
    conn.execute("ANALYZE deadlines_v1")
    for statement, values in (
        (due.NEXT, ("send",)),
        (due.TENANTS, ("send", "", "send", [], 20)),
        (due.OLDEST, (["a"], "send", 50)),
    ):
        plan = "\n".join(line for (line,) in conn.execute(f"EXPLAIN (COSTS OFF) {statement}", values))
        assert "Index" in plan, plan
        assert "Seq Scan on deadlines" not in plan, plan
        assert "Sort" not in plan, plan


def test_more_tenants_than_fit_into_a_round_take_turns(conn: psycopg.Connection[Any]) -> None:
    tenants = [f"tenant-{number:02}" for number in range(MAX_TENANTS + 7)]
    for tenant in tenants:
        add(conn, tenant, 3 * MAX_ROWS_OF_TENANT)
    sent: list[Outgoing] = []
    scheduler = Scheduler(sent.extend)
    scheduler.turn(conn)
    scheduler.turn(conn)
    assert set(of(sent)) == set(tenants)
    drain(conn, scheduler)
    assert of(sent) == dict.fromkeys(tenants, 3 * MAX_ROWS_OF_TENANT)


def test_two_schedulers_at_once_send_each_row_once(
    migrated_url: str, conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedulers, "MAX_TENANTS", 1)
    for tenant in ("aaa", "bbb", "ccc"):
        add(conn, tenant, 400)
    together = threading.Barrier(2)
    sent: list[Outgoing] = []
    errors: list[BaseException] = []

    def send(commands: Sequence[Outgoing]) -> None:
        # Both have taken a tenant before either goes on, as long as both find some.
        if not together.broken:
            with suppress(threading.BrokenBarrierError):
                together.wait(PATIENCE)
        sent.extend(commands)

    def work() -> None:
        try:
            with psycopg.connect(migrated_url, autocommit=True) as session:
                scheduler = Scheduler(send)
                eventually(lambda: scheduler.turn(session) > 0 and left(session) == 0)
                together.abort()
        except BaseException as error:
            errors.append(error)

    def left(session: psycopg.Connection[Any]) -> int:
        row = session.execute("SELECT count(*) FROM deadlines WHERE sends = 0").fetchone()
        assert row is not None
        return int(row[0])

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == []
    assert of(sent) == {"aaa": 400, "bbb": 400, "ccc": 400}
    assert len({command.command_id for command in sent}) == 1200


def test_a_crash_between_sending_and_marking_sends_the_same_ids_again(conn: psycopg.Connection[Any]) -> None:
    add(conn, "acme", 3)
    sent: list[Outgoing] = []

    def crash() -> None:
        raise psycopg.OperationalError("the server closed the connection")

    with pytest.raises(psycopg.OperationalError):
        Scheduler(sent.extend, on_sent=crash).turn(conn)
    first = list(sent)
    sent.clear()
    Scheduler(sent.extend).turn(conn)
    assert sent == first
    assert len({command.command_id for command in first}) == 3


def test_what_was_lost_is_sent_again_under_another_id_later_and_later(conn: psycopg.Connection[Any]) -> None:
    add(conn, "acme")
    sent: list[Outgoing] = []
    scheduler = Scheduler(sent.extend)
    waits = []
    for _ in range(9):
        scheduler.turn(conn)
        row = conn.execute("SELECT round(extract(epoch FROM wake_at - now())) FROM deadlines").fetchone()
        assert row is not None
        waits.append(int(row[0]))
        conn.execute("UPDATE deadlines SET wake_at = now()")
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert len({command.command_id for command in sent}) == 9
    assert len({command.body for command in sent}) == 1


def test_a_broker_that_is_away_marks_nothing_and_is_told_once(
    migrated_url: str, conn: psycopg.Connection[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    add(conn, "acme")
    away, sent = threading.Event(), []
    attempts: list[int] = []
    away.set()

    def send(commands: Sequence[Outgoing]) -> None:
        attempts.append(len(commands))
        if away.is_set():
            raise OutsideUnavailable("the broker is gone")
        sent.extend(commands)

    scheduler = Scheduler(send, poll=0.1)
    thread = threading.Thread(target=scheduler.run, args=(migrated_url,))
    thread.start()
    try:
        eventually(lambda: len(attempts) > 2)
        assert scheduler.unready == ["scheduler"]
        assert conn.execute("SELECT sends FROM deadlines").fetchall() == [(0,)]
        away.clear()
        eventually(lambda: sent and scheduler.unready == [])
    finally:
        scheduler.stop()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert capsys.readouterr().out.count("connection lost") <= 1


def test_stop_ends_a_scheduler_that_has_nothing_to_do(migrated_url: str) -> None:
    scheduler = Scheduler(lambda _: None, poll=LATE)
    thread = threading.Thread(target=scheduler.run, args=(migrated_url,))
    thread.start()
    eventually(lambda: scheduler.connected)
    scheduler.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()


async def test_an_end_that_passes_is_recorded_once_and_again_when_it_counts_again(
    migrated_url: str, amqp_url: str
) -> None:
    async with (
        running(migrated_url, amqp_url, "commands", "projections", "policies"),
        running(migrated_url, amqp_url, "policies"),
        Client(amqp_url) as client,
    ):
        for task_id in ("a", "b", "c"):
            await client.ask("task.create", {"id": task_id, "end": PAST})
        await client.ask("task.create", {"id": "later", "end": LATER})
        await eventually_async(lambda: overdue(migrated_url) == 3)
        await client.ask("task.error", {"id": "a"})
        await client.ask("task.retry", {"id": "a"})
        await eventually_async(lambda: overdue(migrated_url) == 4)
        left = "SELECT task_id, kind FROM deadlines"
        await eventually_async(lambda: rows(migrated_url, left) == [("later", "overdue")])
    assert names_of(migrated_url, "a") == [
        "task.created",
        "task.became-overdue",
        "task.failed",
        "task.retried",
        "task.became-overdue",
    ]


async def test_a_scheduler_killed_before_it_marked_wakes_once(migrated_url: str, amqp_url: str) -> None:
    env = {"database_url": migrated_url, "amqp_url": amqp_url, "test_build": "1", "crash_at": "after-wake"}
    async with running(migrated_url, amqp_url, "commands", "projections") as _, Client(amqp_url) as client:
        await client.ask("task.create", {"id": "a", "end": LATER})
        await eventually_async(lambda: len(rows(migrated_url, "SELECT 1 FROM deadlines")) == 1)
        # Due by the row alone: the domain asks no clock. Nobody follows, so the row stays while it is sent and sent.
    async with running(migrated_url, amqp_url, "commands"), Client(amqp_url):
        with psycopg.connect(migrated_url, autocommit=True) as session:
            session.execute("UPDATE deadlines SET wake_at = now()")
        for _ in range(2):
            with nursery().start("policies", env=env) as process:
                assert await process.ended() == -signal.SIGKILL, process.output
        await eventually_async(lambda: overdue(migrated_url) == 1)
        async with running(migrated_url, amqp_url, "policies"):
            await eventually_async(lambda: rows(migrated_url, "SELECT sends FROM deadlines") == [(1,)])
    wakes = "SELECT count(*) FROM ledger"
    # The creation and one wake: three deliveries of it came under one id.
    assert rows(migrated_url, wakes) == [(2,)]
    assert overdue(migrated_url) == 1


async def test_a_wake_that_was_lost_takes_effect_when_it_is_sent_again(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    async with running(migrated_url, amqp_url, "commands", "projections"), Client(amqp_url) as client:
        await client.ask("task.create", {"id": "a", "end": PAST})
        await eventually_async(lambda: len(rows(migrated_url, "SELECT 1 FROM deadlines")) == 1)
        publisher = Publisher(amqp_url, "test")
        await publisher.start()
        try:
            with psycopg.connect(migrated_url, autocommit=True) as session:
                await asyncio.to_thread(Scheduler(lambda _: None).turn, session)
                session.execute("UPDATE deadlines SET wake_at = now()")
                assert overdue(migrated_url) == 0
                await asyncio.to_thread(Scheduler(command_sender(publisher)).turn, session)
            await eventually_async(lambda: overdue(migrated_url) == 1)
            await eventually_async(lambda: rows(migrated_url, "SELECT 1 FROM deadlines") == [])
        finally:
            await publisher.close()


async def test_the_database_gone_and_back(migrated_url: str, amqp_url: str) -> None:
    with database_proxy(migrated_url) as (proxy, through):
        async with (
            running(migrated_url, amqp_url, "commands", "projections"),
            running(through, amqp_url, "policies") as policies,
            Client(amqp_url) as client,
        ):
            await client.ask("task.create", {"id": "a", "end": PAST})
            await eventually_async(lambda: overdue(migrated_url) == 1)
            proxy.down()
            await eventually_async(lambda: "scheduler" in policies.roles["policies"].unready)
            await client.ask("task.create", {"id": "b", "end": PAST})
            proxy.up()
            await eventually_async(lambda: overdue(migrated_url) == 2)
            await eventually_async(lambda: not policies.roles["policies"].unready)
