"""The dispatcher: each attempt is one call, every outcome is recorded, and a slow provider stops nobody else."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self

import psycopg
import pytest
from pydantic import SecretStr

from domain.plan import DispatchPlan, Provider
from domain.task import ChangeTask, DispatchRequested, TaskCreated
from projections import deadlines
from services.broker.publisher import Publisher, command_sender
from services.processors import dispatcher as dispatcher_module
from services.processors.dispatcher import Dispatcher
from services.processors.providers import Call, Outcome, Providers, signature
from services.processors.scheduler import Scheduler
from services.roles import Roles
from tests import builders
from tests.eventually import PATIENCE, eventually, eventually_async
from tests.given import given_commands
from tests.projections.recording import recorded, store
from tests.services.answering import Answering
from tests.services.harness import Client, database_proxy, nursery, rows, settings, stored

CANARY = "c4n4ry-of-the-secret"
SECRETS = {"acme/hook": SecretStr(CANARY)}
PAST = "2025-10-31T08:55:00+07:00"


@pytest.fixture
def provider() -> Iterator[Answering]:
    answering = Answering()
    yield answering
    answering.close()


@pytest.fixture
def conn(lent_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(lent_url, autocommit=True) as session:
        yield session


# The dispatcher alone: attempts as the log and the read model have them, and calls that the test answers.


class Answers:
    """Takes the providers' place; calls end when they are let go."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.calls: list[Call] = []
        self.most: Counter[str] = Counter()
        self.open = Counter[str]()
        self.go = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._at_once = at_once

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def call(self, call: Call) -> Outcome:
        """Note the call, and answer when it is let go."""
        self.calls.append(call)
        self.open[call.tenant] += 1
        self.most[call.tenant] = max(self.most[call.tenant], self.open[call.tenant])
        try:
            if not self._at_once and call.tenant == "slow":
                await self.go.wait()
        finally:
            self.open[call.tenant] -= 1
        if call.tenant == "broken":
            raise ZeroDivisionError
        if call.tenant == "odd":
            return Outcome(False, "r-\ud800", "\udfff", "a\0b")
        return Outcome(True, "r-1")

    @property
    def keys(self) -> list[str]:
        """Return the keys of all calls."""
        return [call.key for call in self.calls]


def ask_for(conn: psycopg.Connection[Any], tenant: str, count: int = 1) -> None:
    """Record tasks whose dispatch was asked for, and let the read model follow."""
    events = []
    for number in range(count):
        task_id = f"{tenant}-{number}"
        events.append(TaskCreated(task_id, plan=DispatchPlan("SMS", reason="call", score=7)))
        events.append(DispatchRequested(task_id, None, 1, "SMS", Provider("console")))
    row = conn.execute("SELECT coalesce(max(notification_id), 0) FROM stored_events").fetchone()
    assert row is not None
    log = recorded(events, tenant=tenant, first=row[0] + 1)
    store(conn, log)
    with conn.transaction():
        deadlines.projection("v1").project(conn, log)


@contextmanager
def dispatching(url: str, answers: Any, **given: Any) -> Iterator[Dispatcher]:
    dispatcher = Dispatcher(lambda: answers, poll=0.05, **given)
    thread = threading.Thread(target=dispatcher.run, args=(url,), daemon=True)
    thread.start()
    try:
        yield dispatcher
    finally:
        dispatcher.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def reported(conn: psycopg.Connection[Any]) -> dict[str, Any]:
    found = conn.execute("SELECT task_id, outcome FROM deadlines WHERE todo = 'send'").fetchall()
    return {task_id: json.loads(outcome) for task_id, outcome in found}


def test_an_attempt_becomes_a_report_and_the_payload_is_the_task_s_own(
    lent_url: str, conn: psycopg.Connection[Any]
) -> None:
    ask_for(conn, "acme")
    answers = Answers()
    with dispatching(lent_url, answers):
        eventually(lambda: reported(conn))
    assert reported(conn) == {
        "acme-0": {
            "id": "acme-0",
            "attempt": 1,
            "succeeded": True,
            "reference": "r-1",
            "code": None,
            "message": None,
        }
    }
    (call,) = answers.calls
    assert (call.tenant, call.key, call.provider) == ("acme", "acme/acme-0/1", Provider("console"))
    assert json.loads(call.body) == {
        "id": "acme-0",
        "type": "TASK",
        "attempt": 1,
        "tenant": "acme",
        "channel": "SMS",
        "reason": "call",
        "commerceId": None,
        "assignedRouteId": None,
        "assignedOperatorId": None,
        "scheduledAt": None,
        "suggestedExecutionTime": None,
        "userStatus": None,
        "score": 7,
        "attributes": {},
        "targets": [],
    }


def test_the_provider_is_told_the_title_as_it_is_now() -> None:
    scene = given_commands([builders.task(plan=builders.plan(reason="call")), ChangeTask("t", "Call again")])
    assert json.loads(dispatcher_module.payload("acme", scene.state("task", "t")))["reason"] == "Call again"


def test_two_dispatchers_call_once(lent_url: str, conn: psycopg.Connection[Any]) -> None:
    for tenant in ("aaa", "bbb", "ccc"):
        ask_for(conn, tenant, 30)
    first, second = Answers(), Answers()
    with dispatching(lent_url, first), dispatching(lent_url, second):
        eventually(lambda: len(reported(conn)) == 90)
    assert len(first.keys) + len(second.keys) == 90
    assert len({*first.keys, *second.keys}) == 90


def test_a_slow_provider_of_one_tenant_stops_no_other(lent_url: str, conn: psycopg.Connection[Any]) -> None:
    ask_for(conn, "slow", 200)
    answers = Answers(at_once=False)
    with dispatching(lent_url, answers) as dispatcher:
        eventually(lambda: answers.open["slow"] == dispatcher_module.MAX_CALLS_OF_TENANT)
        ask_for(conn, "quick", 30)
        dispatcher.look()
        eventually(lambda: len([name for name in reported(conn) if name.startswith("quick")]) == 30)
        assert answers.open["slow"] == answers.most["slow"] == dispatcher_module.MAX_CALLS_OF_TENANT
        assert answers.loop is not None
        answers.loop.call_soon_threadsafe(answers.go.set)
        eventually(lambda: len(reported(conn)) == 230)
    assert len(set(answers.keys)) == len(answers.keys) == 230
    assert answers.most["slow"] == dispatcher_module.MAX_CALLS_OF_TENANT


def test_what_is_over_by_the_log_is_not_called(lent_url: str, conn: psycopg.Connection[Any]) -> None:
    """The read model may be behind; the task's own stream never is."""
    ask_for(conn, "acme", 2)
    conn.execute("DELETE FROM stored_events WHERE originator_id = 'acme/task-acme-1' AND topic LIKE '%dispatch%'")
    conn.execute("UPDATE deadlines SET due = '7' WHERE task_id = 'acme-0'")
    answers = Answers()
    with dispatching(lent_url, answers):
        eventually(lambda: rows(lent_url, "SELECT 1 FROM deadlines WHERE sends = 1") == [(1,), (1,)])
    assert answers.calls == []


def test_a_task_that_cannot_be_read_holds_up_no_other(lent_url: str, conn: psycopg.Connection[Any]) -> None:
    ask_for(conn, "acme", 2)
    conn.execute("UPDATE stored_events SET topic = 'task.of-tomorrow' WHERE originator_id = 'acme/task-acme-0'")
    with dispatching(lent_url, Answers()):
        eventually(lambda: list(reported(conn)) == ["acme-1"])


def test_a_task_whose_events_make_no_sense_holds_up_no_other(lent_url: str, conn: psycopg.Connection[Any]) -> None:
    ask_for(conn, "acme", 2)
    conn.execute("DELETE FROM stored_events WHERE originator_id = 'acme/task-acme-0' AND originator_version = 1")
    with dispatching(lent_url, Answers()):
        eventually(lambda: set(reported(conn)) == {"acme-1"})


def test_an_outcome_that_no_json_can_hold_holds_up_no_other(lent_url: str, conn: psycopg.Connection[Any]) -> None:
    for tenant in ("odd", "other"):
        ask_for(conn, tenant)
    with dispatching(lent_url, Answers()):
        eventually(lambda: set(reported(conn)) == {"odd-0", "other-0"})
    odd = reported(conn)["odd-0"]
    assert (odd["succeeded"], odd["reference"], odd["code"], odd["message"]) == (False, "r-?", "?", "a\0b")


def test_a_provider_that_fails_in_an_unknown_way_is_a_failed_attempt(
    lent_url: str, conn: psycopg.Connection[Any]
) -> None:
    ask_for(conn, "broken")
    with dispatching(lent_url, Answers()):
        eventually(lambda: reported(conn))
    assert reported(conn)["broken-0"]["code"] == "error"


def test_a_lease_that_ran_out_is_called_again_under_the_same_key(lent_url: str, conn: psycopg.Connection[Any]) -> None:
    ask_for(conn, "slow")
    dying, next_one = Answers(at_once=False), Answers()
    with dispatching(lent_url, dying):
        eventually(lambda: dying.calls)
        with dispatching(lent_url, next_one):

            def taken_over() -> bool:
                # The first one may renew its lease in between.
                conn.execute("UPDATE deadlines SET wake_at = now() WHERE todo = 'call'")
                return bool(next_one.keys)

            eventually(taken_over)
            eventually(lambda: reported(conn))
        assert set(next_one.keys) == set(dying.keys) == {"slow/slow-0/1"}


def test_a_lease_that_ran_out_makes_no_second_call_while_the_first_is_under_way_here(
    lent_url: str, conn: psycopg.Connection[Any]
) -> None:
    ask_for(conn, "slow")
    answers = Answers(at_once=False)
    with dispatching(lent_url, answers) as dispatcher:
        eventually(lambda: answers.calls)
        conn.execute("UPDATE deadlines SET wake_at = now()")
        dispatcher.look()
        eventually(lambda: conn.execute("SELECT 1 FROM deadlines WHERE sends = 2").fetchall())
        assert answers.loop is not None
        answers.loop.call_soon_threadsafe(answers.go.set)
        eventually(lambda: reported(conn))
    assert len(answers.calls) == 1


def test_stop_is_quick_and_leaves_the_attempt_to_its_lease(
    lent_url: str, conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher_module, "STOP_TIMEOUT", 0.2)
    ask_for(conn, "slow")
    answers = Answers(at_once=False)
    with dispatching(lent_url, answers) as dispatcher:
        eventually(lambda: answers.calls)
        dispatcher.stop()  # and nobody lets the call end
    assert conn.execute("SELECT todo, sends, wake_at > now() FROM deadlines").fetchall() == [("call", 1, True)]


def test_a_call_that_ends_while_the_service_stops_is_written_down(lent_url: str, conn: psycopg.Connection[Any]) -> None:
    ask_for(conn, "slow")
    answers = Answers(at_once=False)
    with dispatching(lent_url, answers) as dispatcher:
        eventually(lambda: answers.calls)
        dispatcher.stop()
        assert answers.loop is not None
        answers.loop.call_soon_threadsafe(answers.go.set)
    assert list(reported(conn)) == ["slow-0"]


def test_an_outcome_survives_the_database_being_away(lent_url: str, conn: psycopg.Connection[Any]) -> None:
    ask_for(conn, "slow")
    answers = Answers(at_once=False)
    with database_proxy(lent_url) as (proxy, through), dispatching(through, answers) as dispatcher:
        eventually(lambda: answers.calls)
        proxy.down()
        assert answers.loop is not None
        answers.loop.call_soon_threadsafe(answers.go.set)
        eventually(lambda: dispatcher.unready == ["dispatcher"])
        # The lease may run out meanwhile.
        conn.execute("UPDATE deadlines SET wake_at = now()")
        proxy.up()
        eventually(lambda: list(reported(conn)) == ["slow-0"])
    assert len(answers.calls) == 1


# End to end: a task with a plan, the worker, the read models, the scheduler, and a provider called over HTTP.


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


async def test_a_task_that_is_due_goes_out_signed_and_once(lent_url: str, amqp_url: str, provider: Answering) -> None:
    provider.answer = lambda _: (200, {}, b'{"id": "p-1"}')
    async with running(lent_url, amqp_url, *ALL), Client(amqp_url) as client:
        await configure(client, provider)
        await create(client)
        await eventually_async(lambda: "task.dispatch-succeeded" in names_of(lent_url))
        await eventually_async(lambda: rows(lent_url, "SELECT 1 FROM deadlines") == [])
    (received,) = provider.received
    stamp = received.headers["x-foldwork-timestamp"]
    assert received.headers["x-foldwork-signature"] == signature(CANARY, stamp, received.body)
    assert json.loads(received.body)["id"] == "a"
    assert names_of(lent_url) == [
        "task.created",
        "task.wake-set",
        "task.dispatch-requested",
        "task.dispatch-succeeded",
    ]


async def test_three_failures_fail_the_task_and_no_secret_is_told(
    lent_url: str, amqp_url: str, provider: Answering
) -> None:
    provider.answer = lambda _: (503, {}, b'{"message": "busy"}')
    env = {"dispatch_hosts": "127.0.0.1", "dispatch_secrets": json.dumps({"acme/hook": CANARY}), "log_level": "debug"}
    env |= {"database_url": lent_url, "amqp_url": amqp_url, "follower_poll": "0.2"}
    async with running(lent_url, amqp_url, "commands", "projections"), Client(amqp_url) as client:
        with nursery().start("policies", env=env) as process:
            await configure(client, provider)
            await create(client)
            await eventually_async(lambda: "task.failed" in names_of(lent_url))
            await eventually_async(lambda: rows(lent_url, "SELECT 1 FROM deadlines") == [])
            process.signal(signal.SIGTERM)
            assert await process.ended() == 0
    assert names_of(lent_url) == ["task.created", *WAKE, *TRIED, *WAKE, *TRIED, *WAKE, *TRIED, "task.failed"]
    assert [received.key for received in provider.received] == ["acme/a/1", "acme/a/2", "acme/a/3"]
    recorded_ = str(rows(lent_url, "SELECT convert_from(state, 'UTF8') FROM stored_events"))
    assert "the provider answered 503: busy" in recorded_
    assert "x-foldwork-signature" in provider.received[0].headers
    assert '"started"' in process.output
    assert CANARY not in process.output + recorded_


async def test_a_failure_is_followed_by_a_success(lent_url: str, amqp_url: str, provider: Answering) -> None:
    provider.answer = lambda received: (500 if received.key.endswith("/1") else 200, {}, b"")
    async with running(lent_url, amqp_url, *ALL), Client(amqp_url) as client:
        await configure(client, provider)
        await create(client)
        await eventually_async(lambda: "task.dispatch-succeeded" in names_of(lent_url))
    assert [received.key for received in provider.received] == ["acme/a/1", "acme/a/2"]


async def test_a_dispatcher_killed_after_the_call_calls_again_under_the_same_key(
    lent_url: str, amqp_url: str, provider: Answering
) -> None:
    env = {"database_url": lent_url, "amqp_url": amqp_url, "dispatch_hosts": "127.0.0.1", "follower_poll": "0.2"}
    async with running(lent_url, amqp_url, "commands", "projections"), Client(amqp_url) as client:
        await configure(client, provider, secret=None)
        await create(client)
        with nursery().start("policies", env={**env, "test_build": "1", "crash_at": "after-call"}) as process:
            assert await process.ended() == -signal.SIGKILL, process.output
        assert [received.key for received in provider.received] == ["acme/a/1"]
        # Its lease keeps others off until it runs out.
        assert rows(lent_url, "UPDATE deadlines SET wake_at = now() WHERE wake_at > now() RETURNING todo") == [
            ("call",)
        ]
        async with running(lent_url, amqp_url, "policies"):
            await eventually_async(lambda: "task.dispatch-succeeded" in names_of(lent_url))
    assert [received.key for received in provider.received] == ["acme/a/1", "acme/a/1"]
    assert names_of(lent_url).count("task.dispatch-succeeded") == 1


async def test_a_report_that_was_lost_is_sent_again_without_another_call(
    lent_url: str, amqp_url: str, provider: Answering
) -> None:
    publisher = Publisher(amqp_url, "test")
    await publisher.start()
    sending, losing = Scheduler(command_sender(publisher)), Scheduler(lambda _: None)
    with psycopg.connect(lent_url, autocommit=True) as session:
        async with running(lent_url, amqp_url, "commands", "projections"), Client(amqp_url) as client:
            await configure(client, provider)
            await create(client)
            await eventually_async(lambda: rows(lent_url, "SELECT kind FROM deadlines") == [("dispatch",)])
            await asyncio.to_thread(sending.step, session)
            await eventually_async(lambda: rows(lent_url, "SELECT kind FROM deadlines") == [("attempt",)])
            given = settings(lent_url, amqp_url, dispatch_hosts=("127.0.0.1",), dispatch_secrets=SECRETS)
            with dispatching(lent_url, Providers(given)):
                await eventually_async(lambda: reported(session))
            await asyncio.to_thread(losing.step, session)
            assert rows(lent_url, "SELECT sends, wake_at > now() FROM deadlines") == [(1, True)]
            session.execute("UPDATE deadlines SET wake_at = now()")
            await asyncio.to_thread(sending.step, session)
            await eventually_async(lambda: rows(lent_url, "SELECT kind FROM deadlines") == [])
    await publisher.close()
    assert names_of(lent_url)[-1] == "task.dispatch-succeeded"
    assert len(provider.received) == 1


async def test_a_task_that_ends_while_it_is_called_stays_ended(
    lent_url: str, amqp_url: str, provider: Answering
) -> None:
    async with running(lent_url, amqp_url, *ALL), Client(amqp_url) as client:
        await configure(client, provider)
        provider.hold.clear()
        await create(client)
        await eventually_async(lambda: provider.received)
        reply = await client.ask("task.cancel", {"id": "a"})
        assert reply.accepted
        await eventually_async(lambda: rows(lent_url, "SELECT 1 FROM deadlines") == [])
        provider.hold.set()
        await create(client, "b")
        await eventually_async(lambda: "task.dispatch-succeeded" in names_of(lent_url, "b"))
    assert names_of(lent_url)[-1] == "task.canceled"
