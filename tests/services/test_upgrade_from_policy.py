"""A store in which a follower recorded the statuses is taken over by the upgrade, in the middle of its work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import psycopg
import pytest

from domain.activity import ActivityCanceled, ActivityStatusChanged, NewTask
from domain.task import (
    CompleteTask,
    ProcessTask,
    TaskAssigned,
    TaskCanceled,
    TaskCompleted,
    TaskFailed,
    TaskRetried,
    TaskStarted,
    TaskUnassigned,
)
from domain.workflow import RetireWorkflow
from services.processors import verify
from services.store import log, migrate
from services.store.migrate import SchemaMismatch
from tests import builders
from tests.projections.recording import after, recorded, store
from tests.services.commands.deciding import ACCEPTED, a_worker, incoming, replies, told
from tests.services.harness import rows, stored

Connection = psycopg.Connection[Any]
POLICY = "rollup-policy"
PEOPLE = [builders.member(name) for name in ("ann", "bob")]
SLOW = [*PEOPLE, builders.workflow(), builders.activity()]
FAST = [*PEOPLE, builders.workflow(3, failure="fail_fast"), builders.activity(3, assignees=((), ("bob",), ()))]


@pytest.fixture
def url(fresh_database: Callable[[], str]) -> str:
    """A database as it was while the policy worked."""
    made = fresh_database()
    with psycopg.connect(made) as conn:
        conn.execute("CREATE TABLE migrations (number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz)")
        for each in migrate.migrations():
            if each.number < 4:
                conn.execute(each.statements.encode())
                conn.execute("INSERT INTO migrations VALUES (%s, %s)", (each.number, each.name))
        conn.execute("INSERT INTO followers (name) VALUES (%s)", (POLICY,))
    return made


class Before:
    """What workers, and the policy, of the version before recorded in a store."""

    def __init__(self, url: str) -> None:
        self._conn = psycopg.connect(url, autocommit=True)
        self._versions: dict[str, int] = {}

    def work(self, events: Iterable[Any], tenant: str = "acme") -> None:
        """Record what commands led to, without what the policy added later."""
        self._put([event for event in events if not isinstance(event, ActivityStatusChanged)], tenant)

    def follow(self, *changes: ActivityStatusChanged, tenant: str = "acme") -> None:
        """Let the policy record changes, and reach the end of the log."""
        self._put(changes, tenant)
        self._conn.execute(
            "UPDATE followers SET position = (SELECT max(notification_id) FROM stored_events) WHERE name = %s",
            (POLICY,),
        )

    def hold(self, entity: str, *positions: int) -> None:
        """Let the policy hold events back."""
        self._conn.execute(
            "INSERT INTO held_entities (follower, entity, position, error, retry_at) VALUES (%s, %s, %s, 'x', now())",
            (POLICY, entity, positions[0]),
        )
        for position in positions:
            self._conn.execute("INSERT INTO held_events VALUES (%s, %s, %s)", (POLICY, entity, position))

    def keys(self, *unique_keys: tuple[str, str, str]) -> None:
        for unique in unique_keys:
            self._conn.execute("INSERT INTO claims (tenant, kind, key, holder) VALUES ('acme', %s, %s, %s)", unique)

    def _put(self, events: Iterable[Any], tenant: str) -> None:
        made = recorded(events, tenant=tenant, first=log.head(self._conn) + 1)
        numbered = []
        for event in made:
            stream = f"{tenant}/{event.category}-{event.entity_id}"
            version = self._versions[stream] = self._versions.get(stream, 0) + 1
            numbered.append(event._replace(version=version))
        store(self._conn, numbered)

    def close(self) -> None:
        self._conn.close()


@pytest.fixture
def before(url: str) -> Iterable[Before]:
    made = Before(url)
    yield made
    made.close()


def changes(url: str, tenant: str = "acme", activity_id: str = "a") -> list[Any]:
    with psycopg.connect(url) as conn:
        read = [row.recorded() for row in log.read(conn, 0, 10_000) if row.name == "activity.status-changed"]
    return [event for event in read if (event.tenant, event.entity_id) == (tenant, activity_id)]


def walk(url: str, tenant: str = "acme", activity_id: str = "a") -> list[tuple[str, str, str]]:
    return [(each.data.old, each.data.new, each.data.rule) for each in changes(url, tenant, activity_id)]


def test_what_the_policy_had_not_reached_is_recorded_as_it_would_have_been(url: str, before: Before) -> None:
    before.work([*after(SLOW), TaskAssigned("t1", "a", ("ann",))])
    before.follow(ActivityStatusChanged("a", "OPEN", "ACTIVE", "U8", {}))
    back = TaskUnassigned("t1", "a", ("ann",))
    before.work([back, TaskStarted("t2", "a", None), TaskCompleted("t2", "a", {}), TaskStarted("t1", "a", None)])
    before.work(after([*SLOW]), tenant="other")
    before.work([TaskStarted("t2", "a", None)], tenant="other")
    assert migrate.upgrade(url)
    assert walk(url) == [("OPEN", "ACTIVE", "U8"), ("ACTIVE", "OPEN", "U10"), ("OPEN", "ACTIVE", "U8")]
    assert walk(url, "other") == [("OPEN", "ACTIVE", "U8")]
    with psycopg.connect(url) as conn:
        cause = next(row.recorded() for row in log.read(conn, 0, 1000) if row.name == "task.unassigned")
    changed = changes(url)[1]
    assert (changed.command_id, changed.correlation_id, changed.causation_id, changed.actor, changed.occurred_at) == (
        cause.command_id,
        cause.correlation_id,
        cause.event_id,
        "system",
        cause.occurred_at,
    )
    assert [event.version for event in changes(url)] == [1, 2, 3]
    # Positions and versions have no gaps.
    assert stored(url)


def test_the_policy_is_gone_and_does_not_come_back(url: str) -> None:
    migrate.upgrade(url)
    assert rows(url, "SELECT name FROM followers WHERE name = %s", POLICY) == []
    assert rows(url, "SELECT to_regclass('rollup_activities')") == [(None,)]
    with psycopg.connect(url) as conn, pytest.raises(psycopg.errors.CheckViolation):
        # A process of the version before that connects again.
        conn.execute("INSERT INTO followers (name) VALUES (%s) ON CONFLICT DO NOTHING", (POLICY,))


def test_a_worker_waits_for_the_upgrade(url: str) -> None:
    with psycopg.connect(url) as conn, pytest.raises(SchemaMismatch, match="foldwork db upgrade"):
        migrate.demand_current(conn)


def test_the_siblings_of_a_failed_task_are_cancelled_and_their_people_free(url: str, before: Before) -> None:
    before.work(after(FAST))
    before.follow(ActivityStatusChanged("a", "OPEN", "ACTIVE", "U8", {}))
    before.work([TaskStarted("t2", "a", "bob"), TaskFailed("t1", "a", None)])
    # One of them was cancelled by then, by the policy's command or by somebody.
    before.work([TaskCanceled("t3", "a", None, ())])
    before.keys(("running", "bob", "t2"), ("workflow-use/w", "a", "a"))
    migrate.upgrade(url)
    # The end of the siblings is no second effect of the command that failed the task.
    assert [each.detail for each in verify.verify(url).violations] == []
    assert walk(url)[1:] == [("ACTIVE", "FAILED", "U4")]
    assert [name for stream, _, name in stored(url) if name == "task.canceled"] == ["task.canceled"] * 2
    assert rows(url, "SELECT kind FROM claims WHERE kind <> 'workflow-name'") == []
    with a_worker(url) as worker:
        got = replies(worker.run([incoming(builders.task("x", assignees=("bob",))), incoming(RetireWorkflow("w"))]))
    assert [told(reply) for reply in got] == [ACCEPTED, ACCEPTED]


def test_a_failure_that_was_taken_back_keeps_the_failed_task(url: str, before: Before) -> None:
    before.work([*after(FAST), TaskFailed("t1", "a", None), TaskRetried("t1", "a")])
    migrate.upgrade(url)
    # The second of these is the failure taken back, the third what the end of the siblings leaves.
    assert walk(url)[1:] == [("ACTIVE", "FAILED", "U4"), ("FAILED", "ACTIVE", "U8"), ("ACTIVE", "OPEN", "U10")]
    canceled = [stream for stream, _, name in stored(url) if name == "task.canceled"]
    assert canceled == ["acme/task-t2", "acme/task-t3"]
    with psycopg.connect(url) as conn:
        ids = [row.recorded().event_id for row in log.read(conn, 0, 1000)]
    # By which subscribers recognise an event that they have.
    assert len(set(ids)) == len(ids)


def test_what_the_policy_held_back_is_recorded_too(url: str, before: Before) -> None:
    before.work(after(SLOW))
    before.follow()
    first = log_head(url) + 1
    before.work([TaskStarted("t1", "a", None), TaskCompleted("t1", "a", {})])
    before.follow()
    before.hold("acme/activity-a", first, first + 1)
    # Of an activity that is not there.
    before.work([TaskAssigned("t9", "lost", ("ann",))])
    before.follow()
    before.hold("acme/activity-lost", first + 2)
    before.work([ActivityCanceled("a", None), TaskCanceled("t2", "a", "activity-canceled", ())])
    migrate.upgrade(url)
    assert walk(url) == [("OPEN", "ACTIVE", "U8"), ("ACTIVE", "CANCELED", "U1")]
    assert rows(url, "SELECT * FROM held_events") == rows(url, "SELECT * FROM held_entities") == []


def log_head(url: str) -> int:
    with psycopg.connect(url) as conn:
        return log.head(conn)


def test_what_the_policy_had_recorded_is_not_recorded_again(url: str, before: Before) -> None:
    before.work([*after(SLOW), TaskStarted("t1", "a", None)])
    before.follow(ActivityStatusChanged("a", "OPEN", "ACTIVE", "U8", {}))
    before.work([TaskCompleted("t1", "a", {})])
    there = stored(url)
    migrate.upgrade(url)
    assert stored(url) == there


def test_the_activities_of_many_batches_and_one_that_cannot_be_read(url: str, before: Before) -> None:
    names = [f"a{number}" for number in range(420)]
    made = [builders.activity(1, id=name, tasks=(NewTask(f"{name}-1"),)) for name in names]
    before.work(after([builders.workflow(1), *made]))
    before.work(TaskStarted(f"{name}-1", name, None) for name in names)
    with psycopg.connect(url) as conn:
        conn.execute("UPDATE stored_events SET topic = 'of.tomorrow' WHERE originator_id = 'acme/activity-a7'")
    migrate.upgrade(url)
    changed = [stream for stream, _, name in stored(url) if name == "activity.status-changed"]
    assert sorted(changed) == sorted(f"acme/activity_status-{name}" for name in names if name != "a7")


def test_the_next_command_goes_on_from_what_the_upgrade_recorded(url: str, before: Before) -> None:
    before.work([*after(SLOW), TaskStarted("t1", "a", None), TaskCompleted("t1", "a", {})])
    before.keys(("workflow-use/w", "a", "a"))
    migrate.upgrade(url)
    with a_worker(url) as worker:
        got = replies(worker.run([incoming(ProcessTask("t2")), incoming(CompleteTask("t2"))]))
    assert [told(reply) for reply in got] == [ACCEPTED, ACCEPTED]
    assert walk(url) == [("OPEN", "ACTIVE", "U8"), ("ACTIVE", "COMPLETED", "U2")]
