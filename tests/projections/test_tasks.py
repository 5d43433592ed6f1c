from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest

from domain.plan import Criterion, DispatchPlan, Provider, Target
from domain.task import (
    AttributesResolved,
    DispatchFailed,
    DispatchRequested,
    DispatchSucceeded,
    ResolutionDeferred,
    ResolutionFailed,
    ResultRecorded,
    TargetsResolved,
    TaskAssigned,
    TaskCanceled,
    TaskCompleted,
    TaskCreated,
    TaskDataSaved,
    TaskFailed,
    TaskFieldsChanged,
    TaskFieldsMapped,
    TaskPaused,
    TaskReassigned,
    TaskReopened,
    TaskRescheduled,
    TaskResumed,
    TaskRetried,
    TaskStarted,
    TaskUnassigned,
    TaskWakeSet,
)
from projections.support.documents import MissingDocument
from projections.task import table as tasks
from projections.task.document import encode, placed
from tests.builders import EARLY, LATE
from tests.given import NOW
from tests.projections.recording import recorded

MADE = TaskCreated("t", "Visit", "a", 0, "survey", "f1", {"k": 1}, EARLY, None, "north", "p", after=("t0",))
GIVEN = TaskAssigned("t", "a", ("ann", "bob"))
RUNS = TaskStarted("t", "a", "ann")
RETRIED, REOPENED = TaskRetried("t", "a"), TaskReopened("t", "a")
WAKES = TaskWakeSet("t", "a", "dispatch", LATE)
REQUESTED = DispatchRequested("t", "a", 1, "SMS", Provider("console"))
FOUND = Target("t1", "ANY", "RESOLVED", "u1")
MISSED = Target("t1", "ROLE_MATCH", "FAILED", None, "nobody fits")
NAMED = Target("t1", "MANUAL", "PENDING", strategy="MANUAL")
SHOWN_FOUND, SHOWN_MISSED = asdict(FOUND), asdict(MISSED)


def shown(*events: Any, seconds: float = 100) -> dict[str, Any]:
    found = tasks.render_from_events(recorded(events, every=10), "t", NOW + timedelta(seconds=seconds))
    assert found is not None
    return found


def test_a_new_task_shows_what_it_was_made_with() -> None:
    task = shown(MADE)
    assert task["status"] == "open"
    assert (task["activity_id"], task["step"], task["flow"], task["flow_id"]) == ("a", 0, "survey", "f1")
    assert (task["start"], task["end"], task["hub"], task["project"]) == (EARLY, None, "north", "p")
    assert (task["created_at"], task["created_by"]) == ("2025-10-31T01:00:00.000Z", "max")
    assert (task["version"], task["position"], task["after"], task["fields"]) == (1, 1, ("t0",), {"k": 1})
    assert (task["working_seconds"], task["live_seconds"], task["pipeline_seconds"]) == (0.0, 0.0, 100.0)


@pytest.mark.parametrize(
    ("events", "changed"),
    [
        ([GIVEN], {"assignees": ("ann", "bob"), "status": "open"}),
        ([GIVEN, TaskReassigned("t", "a", ("ann",), ("cy",))], {"assignees": ("cy",)}),
        ([GIVEN, TaskUnassigned("t", "a", ("ann",))], {"assignees": ()}),
        ([GIVEN, RUNS], {"status": "active", "runner": "ann", "started_at": "2025-10-31T01:00:20.000Z"}),
        ([GIVEN, RUNS, TaskPaused("t", "a", "asked")], {"status": "paused", "runner": None, "worked_seconds": 10.0}),
        ([RUNS, TaskPaused("t", "a", "asked"), TaskResumed("t", "a", "bob")], {"status": "active", "runner": "bob"}),
        ([GIVEN, RUNS, TaskReassigned("t", "a", ("ann",), ("cy",))], {"status": "open", "working_since": None}),
        ([TaskDataSaved("t", "a", {}, {"x": 1}), TaskDataSaved("t", "a", {}, {"y": 2})], {"data": {"x": 1, "y": 2}}),
        (
            [TaskFieldsChanged("t", "a", {}, {"title": "Else", "hub": "south", "fields": {"k": None, "l": 2}})],
            {"title": "Else", "hub": "south", "fields": {"l": 2}},
        ),
        ([TaskRescheduled("t", "a", EARLY, None, EARLY, LATE)], {"start": EARLY, "end": LATE}),
        (
            [RUNS, TaskCompleted("t", "a", {"ok": True}, late=True)],
            {"status": "completed", "output": {"ok": True}, "data": {"ok": True}, "late": True, "live_seconds": 10.0},
        ),
        ([TaskFailed("t", "a", "no road")], {"status": "failed", "comment": "no road", "pipeline_seconds": 10.0}),
        ([TaskFailed("t", "a", "no"), TaskRetried("t", "a")], {"status": "open", "comment": None, "ended_at": None}),
        ([GIVEN, TaskCanceled("t", "a", "why", ("ann",))], {"status": "canceled", "assignees": (), "reason": "why"}),
        ([AttributesResolved("t", "a", {"tier": "gold"})], {"attributes": {"tier": "gold"}}),
        ([TargetsResolved("t", "a", (FOUND,))], {"resolution": "RESOLVED", "targets": (SHOWN_FOUND,)}),
        ([ResolutionFailed("t", "a", "nobody", (MISSED,))], {"resolution": "FAILED", "targets": (SHOWN_MISSED,)}),
        (
            [ResolutionFailed("t", "a", "nobody", (MISSED,)), WAKES, TargetsResolved("t", "a", (FOUND,))],
            {"resolution": "RESOLVED", "targets": (SHOWN_FOUND,), "wake": None, "wake_at": None},
        ),
        (
            [WAKES, ResolutionDeferred("t", "a", "MANUAL", (NAMED,))],
            {"resolution": "PENDING", "targets": (asdict(NAMED),), "wake": None, "wake_at": None, "resolved_at": None},
        ),
        (
            [ResolutionDeferred("t", "a", "ON_DISPATCH", (NAMED,)), WAKES],
            {"resolution": "DEFERRED", "wake": "dispatch"},
        ),
        ([WAKES], {"wake": "dispatch", "wake_at": LATE}),
        ([WAKES, TaskWakeSet("t", "a", "dispatch", None)], {"wake": None, "wake_at": None}),
        ([WAKES, REQUESTED], {"dispatch": "REQUESTED", "attempt": 1, "in_flight": True, "wake_at": None}),
        ([WAKES, TaskFailed("t", "a", "no")], {"wake": None, "wake_at": None}),
        ([WAKES, TaskCanceled("t", "a", None, ())], {"wake": None, "wake_at": None}),
        ([WAKES, TaskCompleted("t", "a", {})], {"wake": None, "wake_at": None}),
        ([REQUESTED, DispatchSucceeded("t", "a", 1)], {"dispatch": "DISPATCHED", "in_flight": False}),
        (
            [REQUESTED, DispatchFailed("t", "a", 1, "no", "no", final=True), TaskFailed("t", "a", "no"), RETRIED],
            {"dispatch": "NONE", "attempt": 1, "in_flight": False, "status": "open"},
        ),
        (
            [ResultRecorded("t", "a", "NOT_EXECUTED"), TaskFailed("t", "a", "no"), RETRIED],
            {"result": None, "comment": None},
        ),
        (
            [TaskCompleted("t", "a", {"x": 1}, late=True), ResultRecorded("t", "a", "PENDING"), REOPENED],
            {"result": "PENDING", "status": "open", "output": None, "late": False, "data": {"x": 1}},
        ),
        ([TaskCanceled("t", "a", "why", ()), REOPENED], {"reason": None, "ended_at": None}),
        ([TaskFailed("t", "a", "why"), REOPENED], {"comment": None, "status": "open"}),
        ([TaskFieldsMapped("t", "a", "t0", {}, {"l": 2})], {"fields": {"k": 1, "l": 2}}),
    ],
)
def test_each_event_changes_just_its_facts(events: list[Any], changed: dict[str, Any]) -> None:
    task = shown(MADE, *events)
    assert {name: task[name] for name in changed} == changed


def done_by(*events: tuple[Any, str]) -> list[Any]:
    """Return who gave the task to its people and when, who did it, and who changed it last, after events of actors."""
    log = [
        event._replace(actor=actor) for event, (_, actor) in zip(recorded([e for e, _ in events]), events, strict=True)
    ]
    found = tasks.render_from_events(log, "t", NOW)
    assert found is not None
    return [found[name] for name in ("assigned_by", "assigned_at", "done_by", "updated_by", "created_by")]


CREATED, RAN, DONE = (MADE, "max"), (RUNS, "ann"), (TaskCompleted("t", "a", {}), "eve")
ASSIGNED, AGAIN = (GIVEN, "eve"), (TaskReassigned("t", "a", ("ann", "bob"), ("cy",)), "joe")
SECOND, THIRD = "2025-10-31T01:00:01.000Z", "2025-10-31T01:00:02.000Z"


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([CREATED], [None, None, None, "max", "max"]),
        ([CREATED, ASSIGNED], ["eve", SECOND, None, "eve", "max"]),
        ([CREATED, ASSIGNED, AGAIN], ["joe", THIRD, None, "joe", "max"]),
        ([CREATED, ASSIGNED, RAN], ["eve", SECOND, None, "ann", "max"]),
        ([CREATED, ASSIGNED, (TaskUnassigned("t", "a", ("ann",)), "joe")], [None, None, None, "joe", "max"]),
        ([CREATED, ASSIGNED, (TaskCanceled("t", "a", None, ("ann",)), "joe")], [None, None, None, "joe", "max"]),
        # Who was at work did it, whoever said so; else who said so.
        ([CREATED, ASSIGNED, RAN, DONE], ["eve", SECOND, "ann", "eve", "max"]),
        ([CREATED, ASSIGNED, DONE], ["eve", SECOND, "eve", "eve", "max"]),
        ([CREATED, ASSIGNED, RAN, DONE, (REOPENED, "joe")], ["eve", SECOND, None, "joe", "max"]),
    ],
)
def test_who_gave_it_who_did_it_and_who_changed_it_last(events: list[tuple[Any, str]], expected: list[Any]) -> None:
    assert done_by(*events) == expected


@pytest.mark.parametrize("own", [10, -0.5, 0, None])
def test_a_task_without_an_order_index_has_its_place_by_its_creation(own: float | None) -> None:
    assert shown(replace(MADE, order_index=own))["order_index"] == own
    assert placed(own, "2025-10-31T01:00:00.123Z") == (176187240012300 if own is None else own)
    changed = TaskFieldsChanged("t", "a", {"order_index": own}, {"order_index": 7})
    assert shown(replace(MADE, order_index=own), changed)["order_index"] == 7


def test_a_plan_is_shown_whole_and_says_whether_the_task_can_be_sent_out() -> None:
    plan = DispatchPlan("SMS", "visit", EARLY, criteria=(Criterion("ROLE_MATCH", 2, "buyer"),), attribute_keys=("k",))
    made = replace(MADE, plan=plan, workflow_id="w")
    task = shown(made)
    assert (task["plan"], task["workflow_id"]) == (asdict(plan), "w")

    def dispatchable(*events: Any) -> bool:
        folded = None
        for event in recorded(events):
            folded = tasks.apply(folded, event)
        assert folded is not None
        return folded.dispatchable

    failed = DispatchFailed("t", "a", 1, "no", "no")
    assert dispatchable(made)
    assert not dispatchable(MADE)
    assert not dispatchable(made, REQUESTED)
    assert dispatchable(made, REQUESTED, failed)
    assert not dispatchable(made, REQUESTED, replace(failed, final=True))
    assert not dispatchable(made, REQUESTED, DispatchSucceeded("t", "a", 1))


def test_an_open_working_period_counts_when_it_is_read() -> None:
    assert shown(MADE, RUNS, seconds=25)["working_seconds"] == 15.0
    assert shown(MADE, RUNS, seconds=25)["live_seconds"] == 15.0


def test_no_period_is_below_zero_when_clocks_differ() -> None:
    task = shown(MADE, RUNS, seconds=-50)
    assert (task["working_seconds"], task["live_seconds"], task["pipeline_seconds"]) == (0.0, 0.0, 0.0)


def test_an_event_that_was_folded_before_changes_nothing() -> None:
    log = recorded([MADE, GIVEN, RUNS, TaskPaused("t", "a", "asked")])
    once = tasks.render_from_events(log, "t", NOW)
    assert tasks.render_from_events([*log, *log], "t", NOW) == once


def test_events_render_on_top_of_a_row_that_is_behind() -> None:
    log = recorded([MADE, GIVEN, RUNS])
    behind = None
    for event in log[:2]:
        behind = tasks.apply(behind, event)
    assert behind is not None
    base = encode(behind).decode()
    assert tasks.render_from_events(log[2:], "t", NOW, base) == tasks.render_from_events(log, "t", NOW)
    assert tasks.render_from_events(log[1:], "t", NOW, base) == tasks.render_from_events(log, "t", NOW)
    assert tasks.render_from_events(log[2:], "t", NOW) is None


def test_a_change_of_a_task_that_was_never_made_is_no_silent_loss() -> None:
    with pytest.raises(MissingDocument):
        tasks.apply(None, recorded([RUNS])[0])
