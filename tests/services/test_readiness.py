"""Readiness by progress: what hangs elsewhere is shown by a process that does not, with the cause and since when."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import isnan
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.broker.command_queue import BrokerAway, Counts
from services.follower_role import FollowerRole, RoleEnded
from services.health.probe import probe_app
from services.roles import Roles
from services.store.follower import Follower
from tests.eventually import PATIENCE, eventually, eventually_async
from tests.services.following import NAME, add, noting, seen
from tests.services.harness import Client, declare, rows, settings
from tests.services.processes import worker_process
from tests.services.proxy import database_proxy


class Consumed:
    """A broker that has a consumer, and no messages, unless it is away."""

    away = False

    async def counts(self) -> Counts:
        if self.away:
            raise BrokerAway("it is away")
        return Counts(1)

    async def close(self) -> None:
        """Nothing is open."""


@asynccontextmanager
async def probe(
    url: str, amqp_url: str | None = None, broker: Consumed | None = None, **given: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of another process's probes, which lose patience sooner than usual."""
    quick = {"degraded_after": 0.5, "unready_after": 1.5, "follower_poll": 0.1, **given}
    app = probe_app(
        settings(url, amqp_url or "amqp://127.0.0.1:1/", **quick), broker=None if amqp_url else broker or Consumed()
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://foldwork.test") as client,
    ):
        yield client


async def found(client: httpx.AsyncClient, part: str, status: str) -> dict[str, Any]:
    """Return a part once it has this status."""

    async def there() -> dict[str, Any]:
        told: dict[str, Any] = (await client.get("/readyz")).json()
        assert told[part]["status"] == status, told
        return told

    return (await eventually_async(there))[part]  # type: ignore[no-any-return]


def foldwork_session(url: str, role: str, autocommit: bool = True) -> psycopg.Connection[Any]:
    return psycopg.connect(url, application_name=f"foldwork-{role}", autocommit=autocommit)


async def test_a_session_that_is_idle_in_its_transaction_and_who_waits_for_its_lock(migrated_url: str) -> None:
    async with probe(migrated_url) as client:
        with foldwork_session(migrated_url, "commands", autocommit=False) as holder:
            holder.execute("LOCK TABLE stored_events IN EXCLUSIVE MODE")
            part = await found(client, "sessions", "degraded")
            assert part["cause"] == "a session of commands has been idle in a transaction"
            assert part["since"]
            assert part["sessions"][0]["server_process"] == holder.info.backend_pid
            assert (await client.get("/readyz")).status_code == 200
            with foldwork_session(migrated_url, "scheduler") as waiter:
                waiting = threading.Thread(
                    target=lambda: waiter.execute("LOCK TABLE stored_events IN EXCLUSIVE MODE; COMMIT"), daemon=True
                )
                waiting.start()

                async def both() -> None:
                    told = (await client.get("/readyz")).json()["sessions"]
                    assert {each["state"] for each in told["sessions"]} == {
                        "has been idle in a transaction",
                        "has been waiting for a lock",
                    }

                await eventually_async(both)
                await found(client, "sessions", "not ready")
                assert (await client.get("/readyz")).status_code == 503
                figures = (await client.get("/metrics")).text
                assert 'foldwork_up{part="sessions"} 0.0' in figures
                holder.rollback()
                waiting.join(PATIENCE)
        await found(client, "sessions", "ready")


async def test_a_frozen_worker_is_shown_by_another_process(migrated_url: str, amqp_url: str) -> None:
    with worker_process(migrated_url, amqp_url) as worker:
        eventually(lambda: worker.said("consuming commands"))
        # The beats of a process are a second apart.
        async with probe(migrated_url, amqp_url, degraded_after=3.0, follower_poll=1.0) as client:
            await found(client, "sessions", "ready")
            worker.signal(signal.SIGSTOP)
            try:
                part = await found(client, "sessions", "degraded")
                assert part["cause"] == "a session of commands has been silent"
            finally:
                worker.signal(signal.SIGCONT)
            await found(client, "sessions", "ready")


async def test_a_server_process_that_hangs_is_shown(migrated_url: str, amqp_url: str) -> None:
    running = Roles(settings(migrated_url, amqp_url, unready_after=1.0), ["commands"])

    work = asyncio.create_task(running.run())
    await asyncio.wait_for(running.until_ready(), PATIENCE)
    asked = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()"
    ((pid,),) = rows(migrated_url, asked, "foldwork-commands")
    async with probe(migrated_url, amqp_url, degraded_after=3.0, follower_poll=1.0) as client:
        os.kill(pid, signal.SIGSTOP)
        try:
            async with Client(amqp_url) as sender:
                await sender.send("task.create", {"id": "a"})
                # The process itself knows that it does not record; the others see its session.
                await eventually_async(lambda: "not been recorded" in str(running.own_state()))
            await found(client, "sessions", "degraded")
        finally:
            os.kill(pid, signal.SIGCONT)
        await eventually_async(lambda: running.own_state() == {"commands": []})
        await found(client, "sessions", "ready")
    running.stop()
    await asyncio.wait_for(work, PATIENCE)


async def test_a_read_only_database_is_not_ready(migrated_url: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(migrated_url)["dbname"]
    with psycopg.connect(migrated_url, autocommit=True) as conn:
        conn.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        try:
            async with probe(migrated_url) as client:
                part = await found(client, "database", "not ready")
                assert "read-only" in part["cause"]
                assert part["since"]
        finally:
            conn.execute("SET default_transaction_read_only = off")
            conn.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')


async def numbers(client: httpx.AsyncClient) -> dict[str, float]:
    """Return the figures that another process shows of the servers, by name and first label."""
    shown = text_string_to_metric_families((await client.get("/metrics")).text)
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value for family in shown for sample in family.samples
    }


async def test_what_cannot_be_asked_has_no_figures_of_before(migrated_url: str) -> None:
    broker = Consumed()
    add(migrated_url, 1)
    with psycopg.connect(migrated_url, autocommit=True) as conn:
        conn.execute("INSERT INTO followers (name) VALUES ('relay')")
    with database_proxy(migrated_url) as (proxy, through):
        async with probe(through, broker=broker) as client:
            before = await numbers(client)
            assert before["foldwork_command_consumers"] == before["foldwork_follower_lag_events relay"] == 1
            assert before["foldwork_up sessions"] == 1
            assert before["foldwork_overdue_seconds dispatch attempts"] == 0
            proxy.down()
            broker.away = True
            await found(client, "database", "not ready")
            lost = await numbers(client)
            assert lost["foldwork_up database"] == lost["foldwork_up broker"] == 0
            for name in ("foldwork_commands_waiting", "foldwork_command_consumers", "foldwork_dead_letters_waiting"):
                assert isnan(lost[name])
            assert set(before) - set(lost) >= {
                "foldwork_up sessions",
                "foldwork_degraded sessions",
                "foldwork_follower_lag_events relay",
                "foldwork_follower_lag_seconds relay",
                "foldwork_overdue_seconds dispatch attempts",
            }
            proxy.up()
            broker.away = False
            await found(client, "database", "ready")
            assert set(await numbers(client)) >= set(before)


async def test_commands_that_nobody_records(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as sender, probe(migrated_url, amqp_url) as client:
        await sender.send("task.create", {"id": "a"})
        assert (await found(client, "consumers", "not ready"))["cause"] == "nobody consumes commands"
        part = await found(client, "commands", "not ready")
        assert (part["cause"], part["waiting"]) == ("commands wait, and none is recorded", 1)
        figures = (await client.get("/metrics")).text
        assert "foldwork_commands_waiting 1.0" in figures
        assert "foldwork_command_consumers 0.0" in figures


async def test_deadlines_that_nobody_acts_on(migrated_url: str) -> None:
    async with probe(migrated_url) as client:
        with psycopg.connect(migrated_url, autocommit=True) as conn:
            conn.execute(
                "INSERT INTO deadlines (tenant, task_id, kind, due, due_at, position, todo, wake_at)"
                " VALUES ('a', 't', 'overdue', '', now(), 1, 'send', now())"
            )
        part = await found(client, "deadlines", "degraded")
        assert part["cause"] == "commands of deadlines are overdue"
        assert (await client.get("/readyz")).status_code == 200
        assert 'foldwork_overdue_seconds{what="dispatch attempts"} 0.0' in (await client.get("/metrics")).text


async def test_an_event_loop_that_is_stuck(migrated_url: str, amqp_url: str) -> None:
    both = Roles(settings(migrated_url, amqp_url, unready_after=0.1), ["relay"])
    # It does not run, so it does not beat.
    await eventually_async(lambda: "event loop has been stuck" in str(both.own_state()))


# The watchdog of threads.


@pytest.mark.usefixtures("seen_table")
async def test_a_worker_that_hangs_ends_its_role(migrated_url: str, amqp_url: str) -> None:
    hanging = threading.Event()

    def hang(*_: object) -> None:
        hanging.set()
        threading.Event().wait(PATIENCE)

    quick = settings(migrated_url, amqp_url, consumer_timeout=0.2, statement_timeout=0.5)
    add(migrated_url, 1)
    with pytest.raises(RoleEnded, match=f"{NAME} has done nothing, although the database is available"):
        await FollowerRole(quick, lambda: [Follower(NAME, hang)]).run()
    assert hanging.is_set()


@pytest.mark.usefixtures("seen_table")
async def test_a_worker_that_is_slow_idle_or_without_a_database_goes_on(migrated_url: str, amqp_url: str) -> None:

    note = noting()

    def slow(conn: psycopg.Connection[Any], batch: Any) -> None:
        time.sleep(0.1)
        note(conn, batch)

    with database_proxy(migrated_url) as (proxy, url):
        quick = settings(url, amqp_url, consumer_timeout=0.2, statement_timeout=0.5)
        role = FollowerRole(quick, lambda: [Follower(NAME, slow, batch=1, poll=0.1)])
        add(migrated_url, 25)
        running = asyncio.create_task(role.run())
        await eventually_async(lambda: len(seen(migrated_url)) == 25)
        proxy.down()
        began = time.monotonic()
        await eventually_async(lambda: time.monotonic() > began + 2.5)
        assert not running.done()
        await role.stop()
        await asyncio.wait_for(running, PATIENCE)
