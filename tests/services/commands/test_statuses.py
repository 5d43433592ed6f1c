"""The status of an activity is recorded with the command that changes it, whoever else writes at the same time."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from domain.activity import CancelActivity, NewTask
from domain.lifecycle import FAILED
from domain.task import (
    CancelTask,
    CompleteTask,
    FailTask,
    ProcessTask,
    RetryTask,
    TaskCompleted,
    TaskFailed,
    TaskStarted,
)
from domain.workflow import RetireWorkflow
from services.commands.worker import Worker
from services.store import log
from services.store.event_store import EventStore
from tests import builders
from tests.projections.recording import recorded, store
from tests.services.commands.deciding import ACCEPTED, a_worker, create, incoming, replies, told
from tests.services.harness import rows, stored

PEOPLE = [builders.member(name) for name in ("ann", "bob", "cid")]
FAST = [*PEOPLE, builders.workflow(3, failure="fail_fast"), builders.activity(3, assignees=(("ann",), ("bob",), ()))]
SLOW = [*PEOPLE, builders.workflow(), builders.activity()]


def run(worker: Worker, *commands: Any, actor: str = "system") -> list[tuple[str, bool, str | None]]:
    """Run commands as one batch."""
    return [told(reply) for reply in replies(worker.run([incoming(command, actor=actor) for command in commands]))]


def changes(url: str) -> list[Any]:
    with psycopg.connect(url) as conn:
        return [row.recorded() for row in log.read(conn, 0, 10_000) if row.name == "activity.status-changed"]


def walk(url: str, activity_id: str = "a") -> list[tuple[str, str, str]]:
    """Return the changes of an activity's status, which follow on one another."""
    found = [event.data for event in changes(url) if event.entity_id == activity_id]
    assert [each.old for each in found] == ["OPEN", *(each.new for each in found)][: len(found)]
    return [(each.old, each.new, each.rule) for each in found]


def test_the_answer_names_the_change_and_the_change_names_the_command(worker: Worker, migrated_url: str) -> None:
    run(worker, *SLOW)
    (reply,) = replies(worker.run([incoming(ProcessTask("t1"), "start", correlation_id="c", traceparent="trace")]))
    assert [(event.type, event.stream, event.version) for event in reply.events] == [
        ("task.started", "task-t1", 2),
        ("activity.status-changed", "activity_status-a", 1),
    ]
    (changed,) = changes(migrated_url)
    assert changed.position == reply.position == reply.events[-1].position
    assert (changed.command_id, changed.causation_id, changed.correlation_id) == ("start", "start", "c")
    assert (changed.actor, changed.traceparent) == ("system", "trace")
    assert changed.data.progress["active"] == 1


def test_a_whole_life_over_several_batches(worker: Worker, migrated_url: str) -> None:
    run(worker, *SLOW)
    for command in (ProcessTask("t1"), CompleteTask("t1"), ProcessTask("t2"), CompleteTask("t2")):
        assert run(worker, command) == [ACCEPTED]
    assert walk(migrated_url) == [("OPEN", "ACTIVE", "U8"), ("ACTIVE", "COMPLETED", "U2")]
    assert [event.version for event in changes(migrated_url)] == [1, 2]


def test_a_whole_life_in_one_batch(worker: Worker, migrated_url: str) -> None:
    life = [command for task in ("t1", "t2") for command in (ProcessTask(task), CompleteTask(task))]
    assert run(worker, *SLOW, *life) == [ACCEPTED] * 9
    assert walk(migrated_url) == [("OPEN", "ACTIVE", "U8"), ("ACTIVE", "COMPLETED", "U2")]


@pytest.mark.parametrize("together", [True, False])
def test_fail_fast_cancels_the_open_siblings_with_the_failure(
    worker: Worker, migrated_url: str, together: bool
) -> None:
    run(worker, *FAST, ProcessTask("t2"))
    alone = builders.task("alone", assignees=("bob",))
    batch = [alone, FailTask("t1"), ProcessTask("t2"), CompleteTask("t3"), ProcessTask("alone")]
    batches = [batch] if together else [[command] for command in batch]
    terminal = ("rejected", False, "terminal")
    got = [answer for each in batches for answer in run(worker, *each)]
    # Whoever worked on a sibling is free for another task.
    assert got == [ACCEPTED, ACCEPTED, terminal, terminal, ACCEPTED]
    assert walk(migrated_url) == [("OPEN", "ACTIVE", "U8"), ("ACTIVE", "FAILED", "U4")]
    failed = next(row for row in stored(migrated_url) if row[2] == "task.failed")
    after = stored(migrated_url)[stored(migrated_url).index(failed) :]
    assert [(stream, name) for stream, _, name in after][:4] == [
        ("acme/task-t1", "task.failed"),
        ("acme/task-t2", "task.canceled"),
        ("acme/task-t3", "task.canceled"),
        ("acme/activity_status-a", "activity.status-changed"),
    ]
    assert changes(migrated_url)[-1].data.progress["canceled"] == 2
    assert rows(migrated_url, "SELECT holder FROM claims WHERE kind = 'running'") == [("alone",)]


def test_siblings_stay_when_the_workflow_waits(worker: Worker, migrated_url: str) -> None:
    assert run(worker, *SLOW, FailTask("t1"), ProcessTask("t2")) == [ACCEPTED] * 7
    assert walk(migrated_url) == [("OPEN", "ACTIVE", "U7")]


def uses(url: str) -> list[str]:
    return [key for (key,) in rows(url, "SELECT key FROM claims WHERE kind = 'workflow-use/w' ORDER BY key")]


@pytest.mark.parametrize("together", [True, False])
def test_a_workflow_is_in_use_while_an_activity_of_it_goes_on(
    worker: Worker, migrated_url: str, together: bool
) -> None:
    in_use, retire = ("rejected", False, "in-use"), RetireWorkflow("w")
    second = builders.activity(id="b", tasks=(NewTask("b1"), NewTask("b2")))
    given = [
        (builders.workflow(), ACCEPTED),
        (builders.activity(), ACCEPTED),
        (second, ACCEPTED),
        (CancelActivity("b"), ACCEPTED),
        (retire, in_use),
        (FailTask("t1"), ACCEPTED),
        (FailTask("t2"), ACCEPTED),
        # It goes on, so its workflow is in use again.
        (RetryTask("t1"), ACCEPTED),
        (retire, in_use),
        (CancelTask("t1"), ACCEPTED),
        (RetryTask("t2"), ACCEPTED),
        (CancelTask("t2"), ACCEPTED),
    ]
    batches = [given] if together else [[each] for each in given]
    for batch in batches:
        assert run(worker, *(command for command, _ in batch)) == [answer for _, answer in batch]
    assert uses(migrated_url) == []
    assert run(worker, retire) == [ACCEPTED]
    assert run(worker, builders.activity(id="c", tasks=(NewTask(), NewTask()))) == [("rejected", False, "not-found")]


def test_two_workers_that_complete_the_last_tasks_at_once(migrated_url: str) -> None:
    """Neither sees the other's task completed, yet one of them records that all are."""
    with a_worker(migrated_url) as first:
        run(first, *SLOW, ProcessTask("t1"), ProcessTask("t2"))
        left = [CompleteTask("t1")]
        with a_worker(migrated_url, on_decided=lambda: run(first, left.pop()) if left else None) as second:
            assert run(second, CompleteTask("t2")) == [ACCEPTED]
        assert not left
    assert walk(migrated_url) == [("OPEN", "ACTIVE", "U8"), ("ACTIVE", "COMPLETED", "U2")]


def test_a_sibling_that_starts_while_a_task_fails_has_come_too_late(migrated_url: str) -> None:
    with a_worker(migrated_url) as first:
        run(first, *FAST)
        left = [FailTask("t1")]
        with a_worker(migrated_url, on_decided=lambda: run(first, left.pop()) if left else None) as second:
            assert run(second, ProcessTask("t3")) == [("rejected", False, "terminal")]
        assert not left


def test_a_task_that_fails_while_a_sibling_starts_cancels_it(migrated_url: str) -> None:
    with a_worker(migrated_url) as first:
        run(first, *FAST)
        left = [ProcessTask("t2")]
        with a_worker(migrated_url, on_decided=lambda: run(first, left.pop()) if left else None) as second:
            assert run(second, FailTask("t1")) == [ACCEPTED]
    assert [name for stream, _, name in stored(migrated_url) if stream == "acme/task-t2"][-2:] == [
        "task.started",
        "task.canceled",
    ]
    assert rows(migrated_url, "SELECT * FROM claims WHERE kind = 'running'") == []


@pytest.mark.parametrize("category", ["activity", "activity_status", "task"])
def test_what_is_of_a_newer_version_keeps_the_commands_of_its_whole_activity(migrated_url: str, category: str) -> None:
    with a_worker(migrated_url) as worker:
        run(worker, *SLOW, ProcessTask("t2"))
    name = "t2" if category == "task" else "a"
    with psycopg.connect(migrated_url) as conn:
        conn.execute(
            "UPDATE stored_events SET topic = 'of.tomorrow' WHERE originator_id = %s", (f"acme/{category}-{name}",)
        )
    before = stored(migrated_url)
    with a_worker(migrated_url) as worker:
        assert run(worker, ProcessTask("t1"), builders.task("other")) == [
            ("rejected", False, "newer-version"),
            ACCEPTED,
        ]
    assert stored(migrated_url)[: len(before)] == before
    assert rows(migrated_url, "SELECT count(*) FROM ledger WHERE code = 'newer-version'") == [(0,)]


def put(url: str, *events: Any, versions: dict[str, int]) -> None:
    """Add events as a worker of the version before records them: without what follows for their activity."""
    with psycopg.connect(url) as conn:
        store(conn, [each._replace(version=versions[each.entity_id] + each.version) for each in recorded(events)])


def test_the_next_command_makes_up_for_a_worker_of_the_version_before(worker: Worker, migrated_url: str) -> None:
    run(worker, *SLOW)
    put(migrated_url, TaskStarted("t1", "a", None), TaskCompleted("t1", "a", {}), versions={"t1": 1})
    assert walk(migrated_url) == []
    assert run(worker, CompleteTask("t2")) != [ACCEPTED]
    assert run(worker, ProcessTask("t2"), CompleteTask("t2")) == [ACCEPTED] * 2
    assert walk(migrated_url) == [("OPEN", "ACTIVE", "U8"), ("ACTIVE", "COMPLETED", "U2")]


def test_the_next_command_makes_up_for_a_failure_too(worker: Worker, migrated_url: str) -> None:
    run(worker, *FAST)
    put(migrated_url, TaskFailed("t1", "a", None), versions={"t1": 2})
    (reply,) = replies(worker.run([incoming(ProcessTask("t3"))]))
    assert [event.type for event in reply.events] == [
        "task.started",
        "task.canceled",
        "task.canceled",
        "activity.status-changed",
    ]
    assert walk(migrated_url)[-1] == ("ACTIVE", FAILED, "U4")


def test_a_batch_loads_all_that_it_reads_in_a_few_queries(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[int] = []
    load = EventStore.load

    def counted(store: EventStore, streams: list[str]) -> Any:
        loaded.append(len(streams))
        return load(store, streams)

    monkeypatch.setattr(EventStore, "load", counted)
    names = [f"a{number}" for number in range(20)]
    made = [builders.activity(id=name, tasks=tuple(NewTask(f"{name}-{step}") for step in range(3))) for name in names]
    with a_worker(migrated_url) as worker:
        run(worker, builders.workflow(3), *made)
        # All is new, so nothing is loaded but what the batch names first.
        assert len(loaded) == 1
    loaded.clear()
    with a_worker(migrated_url) as worker:
        assert run(worker, *(ProcessTask(f"{name}-0") for name in names)) == [ACCEPTED] * 20
        # The tasks, then their activities, then the siblings.
        assert loaded == [20, 40, 40]
        assert run(worker, *(CompleteTask(f"{name}-0") for name in names)) == [ACCEPTED] * 20
        assert run(worker, *(ProcessTask(f"{name}-1") for name in names)) == [ACCEPTED] * 20
        assert len(loaded) == 3


def test_a_lone_task_reads_and_changes_no_activity(worker: Worker, migrated_url: str) -> None:
    assert replies(worker.run([create("x")]))[0].outcome == "accepted"
    assert run(worker, ProcessTask("x"), CompleteTask("x")) == [ACCEPTED] * 2
    assert changes(migrated_url) == []
