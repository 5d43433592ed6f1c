from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from domain.activity import ActivityCanceled, ActivityStatusChanged, CancelActivity, NewTask
from domain.plan import Provider
from domain.recorded import Recorded
from domain.task import (
    CancelTask,
    CompleteTask,
    DispatchRequested,
    DispatchSucceeded,
    FailTask,
    ProcessTask,
    RetryTask,
    TaskAssigned,
    TaskCanceled,
    TaskDataSaved,
    TaskFailed,
    TaskUnassigned,
)
from domain.workflow import RetireWorkflow
from services.broker.sender import Outgoing
from services.commands.wire import Incoming
from services.commands.worker import Worker
from services.processors import rollup
from services.store import log
from services.store.append import append_in
from services.store.event_store import EventStore
from services.store.failures import OutsideUnavailable
from services.store.follower import Follower
from services.store.reader import Step
from tests import builders
from tests.given import COMMAND_NAMES, NOW
from tests.projections.recording import after, recorded, store

SCENE = [builders.workflow(), builders.member(), builders.activity()]
FAST = [builders.workflow(3, failure="fail_fast"), builders.activity(3)]


def drain(conn: psycopg.Connection[Any], follower: Follower) -> Step:
    follower.enlist(conn)
    while (step := follower.step(conn)) is Step.WORKED:
        pass
    return step


def changes(conn: psycopg.Connection[Any]) -> list[Recorded]:
    return [row.recorded() for row in log.read(conn, 0, 10_000) if row.name == "activity.status-changed"]


def walk(conn: psycopg.Connection[Any]) -> list[tuple[str, str, str]]:
    return [(event.data.old, event.data.new, event.data.rule) for event in changes(conn)]


def quiet(commands: Sequence[Outgoing]) -> None:
    assert not commands, "nothing is to be sent here"


@pytest.mark.parametrize("batch", [1, 3, 500])
def test_there_and_back_inside_a_batch_are_two_changes_in_order(conn: psycopg.Connection[Any], batch: int) -> None:
    back = TaskUnassigned("t1", "a", ("ann",))
    store(conn, recorded(after(SCENE, TaskAssigned("t1", "a", ("ann",)), back, TaskAssigned("t2", "a", ("ann",)))))
    assert drain(conn, rollup.follower(append_in, quiet, batch=batch)) is Step.IDLE
    assert walk(conn) == [("OPEN", "ACTIVE", "U8"), ("ACTIVE", "OPEN", "U10"), ("OPEN", "ACTIVE", "U8")]


def test_a_cancelled_task_takes_back_what_it_had_made_of_its_activity(conn: psycopg.Connection[Any]) -> None:
    sent = DispatchRequested("t1", "a", 1, "SMS", Provider("console")), DispatchSucceeded("t1", "a", 1)
    store(conn, recorded(after(SCENE, *sent, TaskCanceled("t1", "a", None, ()))))
    drain(conn, rollup.follower(append_in, quiet))
    assert walk(conn) == [("OPEN", "ACTIVE", "U8"), ("ACTIVE", "OPEN", "U10")]


def uses(conn: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    found = conn.execute("SELECT kind, key FROM claims WHERE kind LIKE 'workflow-use/%' ORDER BY key").fetchall()
    return [(kind, key) for kind, key in found]


@pytest.mark.parametrize("batch", [1, 500])
def test_a_workflow_is_in_use_while_an_activity_of_it_goes_on(
    migrated_url: str, conn: psycopg.Connection[Any], batch: int
) -> None:
    events = EventStore(migrated_url)
    drawn = itertools.count(1)
    worker = Worker(events, lambda: NOW, lambda: f"id-{next(drawn)}", lambda: next(drawn))
    policy = rollup.follower(append_in, quiet, batch=batch)
    policy.enlist(conn)
    mine, other = ("workflow-use/w", "a"), ("workflow-use/w", "b")

    def give(*commands: Any) -> list[str | None]:
        batch = [
            Incoming("acme", f"c{next(drawn)}", COMMAND_NAMES[type(command)], command, repr(command).encode())
            for command in commands
        ]
        replies = [outcome.reply for outcome in worker.run(batch)]
        drain(conn, policy)
        return [None if reply is None or reply.error is None else reply.error.code for reply in replies]

    retire = RetireWorkflow("w")
    second = builders.activity(id="b", tasks=(NewTask("b1"), NewTask("b2")))
    assert give(builders.workflow(), builders.activity(), second, retire) == [None, None, None, "in-use"]
    assert uses(conn) == [mine, other]
    assert give(CancelActivity("b"), retire) == [None, "in-use"]
    assert uses(conn) == [mine]
    assert give(FailTask("t1"), FailTask("t2")) == [None, None]
    assert uses(conn) == []
    # It goes on, so its workflow is in use again.
    assert give(RetryTask("t1")) == [None]
    assert uses(conn) == [mine]
    assert give(retire) == ["in-use"]
    assert give(CancelTask("t1")) == [None]
    assert uses(conn) == []
    assert give(retire, builders.activity(id="c", tasks=(NewTask(), NewTask()))) == [None, "not-found"]
    events.close()


def test_a_change_names_its_cause_and_stands_on_a_stream_of_its_own(conn: psycopg.Connection[Any]) -> None:
    given = recorded(after(SCENE, TaskAssigned("t1", "a", ("ann",))))
    store(conn, given)
    drain(conn, rollup.follower(append_in, quiet))
    (changed,) = changes(conn)
    cause = given[-1]
    assert (changed.category, changed.entity_id, changed.version) == ("activity_status", "a", 1)
    assert isinstance(changed.data, ActivityStatusChanged)
    assert changed.data.progress["total"] == 2
    assert (changed.command_id, changed.correlation_id) == (cause.command_id, cause.correlation_id)
    assert (changed.causation_id, changed.actor) == (cause.event_id, "system")
    assert changed.occurred_at == cause.occurred_at
    assert conn.execute("SELECT status, version FROM rollup_activities").fetchall() == [("ACTIVE", 1)]


def test_a_whole_life_is_recorded_over_several_batches(conn: psycopg.Connection[Any]) -> None:
    scene = [*SCENE[:2], builders.activity(assignees=[("ann",), ("ann",)])]
    life = [ProcessTask("t1"), CompleteTask("t1"), ProcessTask("t2"), CompleteTask("t2")]
    store(conn, recorded(after([*scene, *life])))
    drain(conn, rollup.follower(append_in, quiet, batch=2))
    assert walk(conn) == [("OPEN", "ACTIVE", "U8"), ("ACTIVE", "COMPLETED", "U2")]
    assert [event.version for event in changes(conn)] == [1, 2]


def test_what_moves_no_status_records_nothing_nor_does_a_lone_task(conn: psycopg.Connection[Any]) -> None:
    lone = TaskAssigned("lone", None, ("ann",))
    store(conn, recorded(after([*SCENE, builders.task("lone")], TaskDataSaved("t1", "a", {}, {"x": 1}), lone)))
    drain(conn, rollup.follower(append_in, quiet))
    assert walk(conn) == []


def test_a_crash_between_append_and_commit_leaves_nothing_double(conn: psycopg.Connection[Any]) -> None:
    store(conn, recorded(after(SCENE, TaskAssigned("t1", "a", ("ann",)), ActivityCanceled("a", None))))
    attempted: list[Any] = []

    def crash(session: psycopg.Connection[Any], events: Any) -> None:
        append_in(session, events)
        attempted.extend(events)
        raise psycopg.OperationalError("the server closed the connection")

    dying = rollup.follower(crash, quiet)
    dying.enlist(conn)
    with pytest.raises(psycopg.OperationalError):
        dying.step(conn)
    assert walk(conn) == []
    drain(conn, rollup.follower(append_in, quiet))
    assert walk(conn) == [("OPEN", "ACTIVE", "U8"), ("ACTIVE", "CANCELED", "U1")]
    assert [event.event_id for event in changes(conn)] == [event.metadata.id for event in attempted]


def test_fail_fast_cancels_the_open_siblings_by_ids_that_a_repetition_gives_again(
    conn: psycopg.Connection[Any],
) -> None:
    store(conn, recorded(after([*FAST, FailTask("t2")])))
    sent: list[Outgoing] = []

    def lose(commands: Sequence[Outgoing]) -> None:
        sent.extend(commands)
        raise OutsideUnavailable("the broker is gone")

    losing = rollup.follower(append_in, lose)
    losing.enlist(conn)
    with pytest.raises(OutsideUnavailable):
        losing.step(conn)
    assert walk(conn) == []
    again: list[Outgoing] = []
    drain(conn, rollup.follower(append_in, again.extend))
    assert walk(conn) == [("OPEN", "FAILED", "U4")]
    assert sent == again
    assert [json.loads(command.body)["id"] for command in again] == ["t1", "t3"]
    # Somebody who could tell an id before its cause is recorded could take it, and the sibling would stay open.
    failed = next(row.recorded() for row in log.read(conn, 0, 100) if row.name == "task.failed")
    assert [command.command_id for command in again] == [
        rollup.id_from("acme", "a", failed.event_id, child) for child in ("t1", "t3")
    ]
    assert {(command.name, command.routing_key, command.tenant, command.actor) for command in again} == {
        ("task.cancel", "a", "acme", "system")
    }


def test_siblings_stay_when_the_workflow_waits_or_the_activity_is_cancelled(conn: psycopg.Connection[Any]) -> None:
    store(conn, recorded(after([*SCENE, FailTask("t1")])))
    drain(conn, rollup.follower(append_in, quiet))
    canceled = recorded(after(FAST, ActivityCanceled("a", None), TaskFailed("t1", "a", None)), tenant="other")
    store(conn, canceled)
    drain(conn, rollup.follower(append_in, quiet))
    assert walk(conn) == [("OPEN", "ACTIVE", "U7"), ("OPEN", "CANCELED", "U1")]


def test_two_tenants_with_the_same_ids_are_two_activities(conn: psycopg.Connection[Any]) -> None:
    for tenant in ("acme", "other"):
        store(conn, recorded(after(SCENE, TaskAssigned("t1", "a", ("ann",))), tenant=tenant))
    drain(conn, rollup.follower(append_in, quiet))
    assert [event.tenant for event in changes(conn)] == ["acme", "other"]
    assert len({event.event_id for event in changes(conn)}) == 2
