"""The dispatcher: each attempt is one call, every outcome is recorded, and a slow provider stops nobody else."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any, Self

import psycopg
import pytest

from domain.plan import DispatchPlan, Provider
from domain.task import ChangeTask, DispatchRequested, TaskCreated
from projections import deadlines
from services.processors import calling
from services.processors import dispatcher as dispatcher_module
from services.processors.providers import Call, Outcome
from tests import builders
from tests.eventually import eventually
from tests.given import given_commands
from tests.projections.recording import recorded, store
from tests.services.dispatchers import dispatching, reported
from tests.services.harness import rows
from tests.services.proxy import database_proxy


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
            if not self._at_once and call.tenant.startswith("slow"):
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


def test_an_attempt_becomes_a_report_and_the_payload_is_the_task_s_own(
    migrated_url: str, conn: psycopg.Connection[Any]
) -> None:
    ask_for(conn, "acme")
    answers = Answers()
    with dispatching(migrated_url, answers):
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


def test_the_provider_is_told_what_is_a_message() -> None:
    scene = given_commands([builders.task(type="MESSAGE", plan=builders.plan())])
    assert json.loads(dispatcher_module.payload("acme", scene.state("task", "t")))["type"] == "MESSAGE"


def test_two_dispatchers_call_once(migrated_url: str, conn: psycopg.Connection[Any]) -> None:
    for tenant in ("aaa", "bbb", "ccc"):
        ask_for(conn, tenant, 30)
    first, second = Answers(), Answers()
    with dispatching(migrated_url, first), dispatching(migrated_url, second):
        eventually(lambda: len(reported(conn)) == 90)
    assert len(first.keys) + len(second.keys) == 90
    assert len({*first.keys, *second.keys}) == 90


def test_a_slow_provider_of_one_tenant_stops_no_other(migrated_url: str, conn: psycopg.Connection[Any]) -> None:
    ask_for(conn, "slow", 200)
    answers = Answers(at_once=False)
    with dispatching(migrated_url, answers) as dispatcher:
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


def test_slow_providers_of_many_tenants_leave_places_to_the_next(
    migrated_url: str, conn: psycopg.Connection[Any]
) -> None:
    many = dispatcher_module.SHARED_CALLS // dispatcher_module.MAX_CALLS_OF_TENANT
    for number in range(many):
        ask_for(conn, f"slow-{number}", 10)
    answers = Answers(at_once=False)
    with dispatching(migrated_url, answers) as dispatcher:
        eventually(lambda: answers.open.total() == dispatcher_module.SHARED_CALLS)
        ask_for(conn, "slow-late", 10)
        ask_for(conn, "quick", 20)
        dispatcher.look()
        eventually(lambda: len([name for name in reported(conn) if name.startswith("quick")]) == 20)
        eventually(lambda: answers.open["slow-late"] == 1)
        assert answers.open.total() == dispatcher_module.SHARED_CALLS + 1
        assert answers.loop is not None
        answers.loop.call_soon_threadsafe(answers.go.set)
        eventually(lambda: len(reported(conn)) == 10 * (many + 1) + 20)
    assert len(set(answers.keys)) == len(answers.keys)
    assert max(answers.most.values()) == dispatcher_module.MAX_CALLS_OF_TENANT


def test_what_is_over_by_the_log_is_not_called(migrated_url: str, conn: psycopg.Connection[Any]) -> None:
    """The read model may be behind; the task's own stream never is."""
    ask_for(conn, "acme", 2)
    conn.execute("DELETE FROM stored_events WHERE originator_id = 'acme/task-acme-1' AND topic LIKE '%dispatch%'")
    conn.execute("UPDATE deadlines SET due = '7' WHERE task_id = 'acme-0'")
    answers = Answers()
    with dispatching(migrated_url, answers):
        eventually(lambda: rows(migrated_url, "SELECT 1 FROM deadlines WHERE sends = 1") == [(1,), (1,)])
    assert answers.calls == []


def test_a_task_that_cannot_be_read_holds_up_no_other(migrated_url: str, conn: psycopg.Connection[Any]) -> None:
    ask_for(conn, "acme", 2)
    conn.execute("UPDATE stored_events SET topic = 'task.of-tomorrow' WHERE originator_id = 'acme/task-acme-0'")
    with dispatching(migrated_url, Answers()):
        eventually(lambda: list(reported(conn)) == ["acme-1"])


def test_a_task_whose_events_make_no_sense_holds_up_no_other(migrated_url: str, conn: psycopg.Connection[Any]) -> None:
    ask_for(conn, "acme", 2)
    conn.execute("DELETE FROM stored_events WHERE originator_id = 'acme/task-acme-0' AND originator_version = 1")
    with dispatching(migrated_url, Answers()):
        eventually(lambda: set(reported(conn)) == {"acme-1"})


def test_an_outcome_that_no_json_can_hold_holds_up_no_other(migrated_url: str, conn: psycopg.Connection[Any]) -> None:
    for tenant in ("odd", "other"):
        ask_for(conn, tenant)
    with dispatching(migrated_url, Answers()):
        eventually(lambda: set(reported(conn)) == {"odd-0", "other-0"})
    odd = reported(conn)["odd-0"]
    assert (odd["succeeded"], odd["reference"], odd["code"], odd["message"]) == (False, "r-?", "?", "a\0b")


def test_a_provider_that_fails_in_an_unknown_way_is_a_failed_attempt(
    migrated_url: str, conn: psycopg.Connection[Any]
) -> None:
    ask_for(conn, "broken")
    with dispatching(migrated_url, Answers()):
        eventually(lambda: reported(conn))
    assert reported(conn)["broken-0"]["code"] == "error"


def test_a_lease_that_ran_out_is_called_again_under_the_same_key(
    migrated_url: str, conn: psycopg.Connection[Any]
) -> None:
    ask_for(conn, "slow")
    dying, next_one = Answers(at_once=False), Answers()
    with dispatching(migrated_url, dying):
        eventually(lambda: dying.calls)
        with dispatching(migrated_url, next_one):

            def taken_over() -> bool:
                # The first one may renew its lease in between.
                conn.execute("UPDATE deadlines SET wake_at = now() WHERE todo = 'call'")
                return bool(next_one.keys)

            eventually(taken_over)
            eventually(lambda: reported(conn))
        assert set(next_one.keys) == set(dying.keys) == {"slow/slow-0/1"}


def test_a_lease_that_ran_out_makes_no_second_call_while_the_first_is_under_way_here(
    migrated_url: str, conn: psycopg.Connection[Any]
) -> None:
    ask_for(conn, "slow")
    answers = Answers(at_once=False)
    with dispatching(migrated_url, answers) as dispatcher:
        eventually(lambda: answers.calls)
        conn.execute("UPDATE deadlines SET wake_at = now()")
        dispatcher.look()
        eventually(lambda: conn.execute("SELECT 1 FROM deadlines WHERE sends = 2").fetchall())
        assert answers.loop is not None
        answers.loop.call_soon_threadsafe(answers.go.set)
        eventually(lambda: reported(conn))
    assert len(answers.calls) == 1


def test_stop_is_quick_and_leaves_the_attempt_to_its_lease(
    migrated_url: str, conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calling, "STOP_TIMEOUT", 0.2)
    ask_for(conn, "slow")
    answers = Answers(at_once=False)
    with dispatching(migrated_url, answers) as dispatcher:
        eventually(lambda: answers.calls)
        dispatcher.stop()  # and nobody lets the call end
    assert conn.execute("SELECT todo, sends, wake_at > now() FROM deadlines").fetchall() == [("call", 1, True)]


def test_a_call_that_ends_while_the_service_stops_is_written_down(
    migrated_url: str, conn: psycopg.Connection[Any]
) -> None:
    ask_for(conn, "slow")
    answers = Answers(at_once=False)
    with dispatching(migrated_url, answers) as dispatcher:
        eventually(lambda: answers.calls)
        dispatcher.stop()
        assert answers.loop is not None
        answers.loop.call_soon_threadsafe(answers.go.set)
    assert list(reported(conn)) == ["slow-0"]


def test_an_outcome_survives_the_database_being_away(migrated_url: str, conn: psycopg.Connection[Any]) -> None:
    ask_for(conn, "slow")
    answers = Answers(at_once=False)
    with database_proxy(migrated_url) as (proxy, through), dispatching(through, answers) as dispatcher:
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
