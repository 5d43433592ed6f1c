"""Dispatch end to end: the worker, the read models, the scheduler, and a provider that is called over HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from pydantic import SecretStr

from services.broker.publisher import Publisher, command_sender
from services.processors.providers import Providers, signature
from services.processors.scheduler import Scheduler
from services.roles import Roles
from tests.eventually import PATIENCE, eventually_async
from tests.services.answering import Answering
from tests.services.dispatchers import dispatching, reported
from tests.services.harness import Client, rows, settings, stored
from tests.services.processes import nursery

CANARY = "c4n4ry-of-the-secret"
SECRETS = {"acme/hook": SecretStr(CANARY)}
PAST = "2025-10-31T08:55:00+07:00"


@asynccontextmanager
async def running(database_url: str, amqp_url: str, *names: str) -> AsyncIterator[Roles]:
    given = settings(
        database_url,
        amqp_url,
        follower_poll=0.2,
        dispatch_hosts=("127.0.0.1",),
        dispatch_secrets=SECRETS,
    )
    roles = Roles(given, names)
    work = asyncio.create_task(roles.run())
    await asyncio.wait_for(roles.until_ready(), PATIENCE)
    try:
        yield roles
    finally:
        roles.stop()
        await asyncio.wait_for(work, PATIENCE)


async def configure(client: Client, provider: Answering, **fields: Any) -> None:
    fields = {"provider": "http", "url": provider.url, "secret": "hook", "backoff_seconds": 0.05, **fields}
    reply = await client.ask("directory.register", {"kind": "dispatch", "id": "SMS", "fields": fields})
    assert reply.accepted, reply.error


async def create(client: Client, task_id: str = "a") -> None:
    plan = {"channel": "SMS", "reason": "call", "scheduled_at": PAST}
    reply = await client.ask("task.create", {"id": task_id, "plan": plan})
    assert reply.accepted, reply.error


def names_of(url: str, task_id: str = "a") -> list[str]:
    return [name for stream, _, name in stored(url) if stream.endswith(f"/task-{task_id}")]


ALL = ("commands", "projections", "policies")
TRIED = ["task.dispatch-requested", "task.dispatch-failed"]
WAKE = ["task.wake-set"]


async def test_a_task_that_is_due_goes_out_signed_and_once(
    migrated_url: str, amqp_url: str, provider: Answering
) -> None:
    provider.answer = lambda _: (200, {}, b'{"id": "p-1"}')
    async with running(migrated_url, amqp_url, *ALL), Client(amqp_url) as client:
        await configure(client, provider)
        await create(client)
        await eventually_async(lambda: "task.dispatch-succeeded" in names_of(migrated_url))
        await eventually_async(lambda: rows(migrated_url, "SELECT 1 FROM deadlines") == [])
    (received,) = provider.received
    stamp = received.headers["x-foldwork-timestamp"]
    assert received.headers["x-foldwork-signature"] == signature(CANARY, stamp, received.body)
    assert json.loads(received.body)["id"] == "a"
    assert names_of(migrated_url) == [
        "task.created",
        "task.wake-set",
        "task.dispatch-requested",
        "task.dispatch-succeeded",
    ]


async def test_three_failures_fail_the_task_and_no_secret_is_told(
    migrated_url: str, amqp_url: str, provider: Answering
) -> None:
    provider.answer = lambda _: (503, {}, b'{"message": "busy"}')
    env = {"dispatch_hosts": "127.0.0.1", "dispatch_secrets": json.dumps({"acme/hook": CANARY}), "log_level": "debug"}
    env |= {"database_url": migrated_url, "amqp_url": amqp_url, "follower_poll": "0.2"}
    async with running(migrated_url, amqp_url, "commands", "projections"), Client(amqp_url) as client:
        with nursery().start("policies", env=env) as process:
            await configure(client, provider)
            await create(client)
            await eventually_async(lambda: "task.failed" in names_of(migrated_url))
            await eventually_async(lambda: rows(migrated_url, "SELECT 1 FROM deadlines") == [])
            process.signal(signal.SIGTERM)
            assert await process.ended() == 0
    assert names_of(migrated_url) == ["task.created", *WAKE, *TRIED, *WAKE, *TRIED, *WAKE, *TRIED, "task.failed"]
    assert [received.key for received in provider.received] == ["acme/a/1", "acme/a/2", "acme/a/3"]
    recorded_ = str(rows(migrated_url, "SELECT convert_from(state, 'UTF8') FROM stored_events"))
    assert "the provider answered 503: busy" in recorded_
    assert "x-foldwork-signature" in provider.received[0].headers
    assert '"started"' in process.output
    assert CANARY not in process.output + recorded_


async def test_a_failure_is_followed_by_a_success(migrated_url: str, amqp_url: str, provider: Answering) -> None:
    provider.answer = lambda received: (500 if received.key.endswith("/1") else 200, {}, b"")
    async with running(migrated_url, amqp_url, *ALL), Client(amqp_url) as client:
        await configure(client, provider)
        await create(client)
        await eventually_async(lambda: "task.dispatch-succeeded" in names_of(migrated_url))
    assert [received.key for received in provider.received] == ["acme/a/1", "acme/a/2"]


async def test_a_dispatcher_killed_after_the_call_calls_again_under_the_same_key(
    migrated_url: str, amqp_url: str, provider: Answering
) -> None:
    env = {"database_url": migrated_url, "amqp_url": amqp_url, "dispatch_hosts": "127.0.0.1", "follower_poll": "0.2"}
    async with running(migrated_url, amqp_url, "commands", "projections"), Client(amqp_url) as client:
        await configure(client, provider, secret=None)
        await create(client)
        with nursery().start("policies", env={**env, "test_build": "1", "crash_at": "after-call"}) as process:
            assert await process.ended() == -signal.SIGKILL, process.output
        assert [received.key for received in provider.received] == ["acme/a/1"]
        # Its lease keeps others off until it runs out.
        assert rows(migrated_url, "UPDATE deadlines SET wake_at = now() WHERE wake_at > now() RETURNING todo") == [
            ("call",)
        ]
        async with running(migrated_url, amqp_url, "policies"):
            await eventually_async(lambda: "task.dispatch-succeeded" in names_of(migrated_url))
    assert [received.key for received in provider.received] == ["acme/a/1", "acme/a/1"]
    assert names_of(migrated_url).count("task.dispatch-succeeded") == 1


async def test_a_report_that_was_lost_is_sent_again_without_another_call(
    migrated_url: str, amqp_url: str, provider: Answering
) -> None:
    publisher = Publisher(amqp_url, "test")
    await publisher.start()
    sending, losing = Scheduler(command_sender(publisher)), Scheduler(lambda _: None)
    with psycopg.connect(migrated_url, autocommit=True) as session:
        async with running(migrated_url, amqp_url, "commands", "projections"), Client(amqp_url) as client:
            await configure(client, provider)
            await create(client)
            await eventually_async(lambda: rows(migrated_url, "SELECT kind FROM deadlines") == [("dispatch",)])
            await asyncio.to_thread(sending.turn, session)
            await eventually_async(lambda: rows(migrated_url, "SELECT kind FROM deadlines") == [("attempt",)])
            given = settings(migrated_url, amqp_url, dispatch_hosts=("127.0.0.1",), dispatch_secrets=SECRETS)
            with dispatching(migrated_url, Providers(given)):
                await eventually_async(lambda: reported(session))
            await asyncio.to_thread(losing.turn, session)
            assert rows(migrated_url, "SELECT sends, wake_at > now() FROM deadlines") == [(1, True)]
            session.execute("UPDATE deadlines SET wake_at = now()")
            await asyncio.to_thread(sending.turn, session)
            await eventually_async(lambda: rows(migrated_url, "SELECT kind FROM deadlines") == [])
    await publisher.close()
    assert names_of(migrated_url)[-1] == "task.dispatch-succeeded"
    assert len(provider.received) == 1


async def test_a_task_that_ends_while_it_is_called_stays_ended(
    migrated_url: str, amqp_url: str, provider: Answering
) -> None:
    async with running(migrated_url, amqp_url, *ALL), Client(amqp_url) as client:
        await configure(client, provider)
        provider.hold.clear()
        await create(client)
        await eventually_async(lambda: provider.received)
        reply = await client.ask("task.cancel", {"id": "a"})
        assert reply.accepted
        await eventually_async(lambda: rows(migrated_url, "SELECT 1 FROM deadlines") == [])
        provider.hold.set()
        await create(client, "b")
        await eventually_async(lambda: "task.dispatch-succeeded" in names_of(migrated_url, "b"))
    assert names_of(migrated_url)[-1] == "task.canceled"
