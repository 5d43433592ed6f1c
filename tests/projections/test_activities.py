from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from domain.activity import ActivityCanceled, ActivityFieldsChanged
from domain.plan import Provider
from domain.task import (
    CompleteTask,
    DispatchRequested,
    DispatchSucceeded,
    FailTask,
    ProcessTask,
    ResolutionFailed,
    TaskCanceled,
    TaskCompleted,
    TaskFailed,
)
from projections import activities
from projections.support.documents import MissingDocument
from tests import builders
from tests.given import NOW
from tests.projections.recording import after, recorded

LABELED = builders.steps(2, status_mapping={"DONE": "Half way"})
SCENE = [builders.workflow(steps=LABELED), builders.member(), builders.activity(assignees=[("ann",)])]


def shown(events: list[Any], seconds: float = 0) -> dict[str, Any]:
    found = activities.render_from_events(recorded(events), "a", NOW + timedelta(seconds=seconds))
    assert found is not None
    return found


def test_a_new_activity_is_rolled_up_from_its_children() -> None:
    activity = shown(after(SCENE))
    assert (activity["status"], activity["rule"], activity["assignees"]) == ("active", "U8", ("ann",))
    assert activity["workflow"] == {"id": "w", "version": 1, "name": "Visit"}
    assert [(child["id"], child["step"], child["title"]) for child in activity["children"]] == [
        ("t1", 0, "Step 1"),
        ("t2", 1, "Step 2"),
    ]
    assert activity["progress"]["total"] == 2
    assert (activity["current_step"], activity["sub_status"], activity["canceled"]) == (0, None, False)


def test_children_move_the_activity() -> None:
    activity = shown(after([*SCENE, CompleteTask("t1"), ProcessTask("t2")]), seconds=60)
    assert (activity["status"], activity["sub_status"], activity["current_step"]) == ("active", "Half way", 1)
    assert activity["progress"]["percent"] == 50
    assert activity["working_seconds"] > 0
    assert activity["live_seconds"] > activity["working_seconds"]
    whole = shown(after([*SCENE, CompleteTask("t1"), ProcessTask("t2"), CompleteTask("t2")]), seconds=60)
    assert (whole["status"], whole["rule"], whole["ended_at"] is not None) == ("completed", "U2", True)


def test_its_own_events_change_title_hub_and_fields_and_cancel_it() -> None:
    changed = ActivityFieldsChanged("a", {}, {"title": "Else", "hub": "h", "fields": {"k": 1}})
    activity = shown(after(SCENE, changed, ActivityCanceled("a", "storm")))
    assert (activity["title"], activity["hub"], activity["fields"]) == ("Else", "h", {"k": 1})
    assert (activity["status"], activity["rule"], activity["reason"]) == ("canceled", "U1", "storm")
    assert activity["version"] == 3


def test_who_changed_an_activity_or_one_of_its_tasks_last() -> None:
    log = recorded(after([*SCENE, CompleteTask("t1")]))
    last = log[-1]._replace(actor="ann")
    found = activities.render_from_events([*log[:-1], last], "a", NOW)
    assert found is not None
    assert (found["created_by"], found["updated_by"]) == ("max", "ann")


def test_a_child_event_moves_the_position_but_not_the_version() -> None:
    before, later = shown(after(SCENE)), shown(after([*SCENE, ProcessTask("t1")]))
    assert later["position"] > before["position"]
    assert later["version"] == before["version"] == 1


@pytest.mark.parametrize(
    ("more", "rule", "decide"),
    [
        ([], "U8", [True, False]),
        ([TaskFailed("t2", "a", None)], "U7", [False, True]),
        ([TaskCompleted("t1", "a", {}), TaskCompleted("t2", "a", {})], "U2", [True, True]),
        ([ActivityCanceled("a", None)], "U1", [False, False]),
    ],
)
def test_the_explanation_names_the_rule_and_who_decides(more: list[Any], rule: str, decide: list[bool]) -> None:
    explained = explanation(after(SCENE, *more))
    assert explained["rule"] == rule
    assert explained["rule_text"]
    assert [child["decides"] for child in explained["children"]] == decide
    assert all(child["position"] <= explained["position"] for child in explained["children"])


def test_an_unresolved_child_decides_rule_nine() -> None:
    events = after([builders.workflow(), builders.activity()], ResolutionFailed("t2", "a", "nobody"))
    assert [child["decides"] for child in explanation(events)["children"]] == [False, True]


@pytest.mark.parametrize(
    "trouble",
    [
        [DispatchRequested("t1", "a", 1, "SMS", Provider("console")), DispatchSucceeded("t1", "a", 1)],
        [ResolutionFailed("t1", "a", "nobody")],
    ],
)
def test_a_cancelled_child_no_longer_speaks_for_its_activity(trouble: list[Any]) -> None:
    scene = after([builders.workflow(), builders.activity()], *trouble)
    assert [child["decides"] for child in explanation(scene)["children"]] == [True, False]
    gone = [*scene, TaskCanceled("t1", "a", None, ())]
    activity, explained = shown(gone), explanation(gone)
    assert (activity["status"], activity["rule"], activity["unresolved"]) == ("open", "U10", False)
    assert (explained["rule"], [child["decides"] for child in explained["children"]]) == ("U10", [False, True])


def explanation(events: list[Any]) -> dict[str, Any]:
    activity = None
    for event in recorded(events):
        key = activities.key_of(event)
        activity = activities.apply(activity, event) if key is not None and key[1] == "a" else activity
    assert activity is not None
    activities.settle(activity)
    return activities.explain((msgspec.json.encode(activity).decode(), "a", ""))


def test_a_failure_that_fails_fast_fails_the_whole() -> None:
    scene = [builders.workflow(failure="fail_fast"), builders.activity(), FailTask("t1")]
    assert shown(after(scene))["rule"] == "U4"


def test_a_childs_event_without_its_activity_is_no_silent_loss() -> None:
    with pytest.raises(MissingDocument):
        activities.apply(None, recorded([TaskFailed("t1", "a", None)])[0])
