"""What the commands on an activity that is there answer."""

from __future__ import annotations

from domain.activity import (
    ActivityCanceled,
    ActivityFieldsChanged,
    CancelActivity,
    ChangeActivity,
)
from domain.decider import UniqueKey
from domain.directory import RetireEntry
from domain.lifecycle import CANCELED, COMPLETED
from domain.steps import Step
from domain.task import CancelTask, CompleteTask, FailTask, ProcessTask, TaskCanceled
from domain.workflow import ChangeWorkflow
from tests.builders import activity, entry, manager, member, workflow
from tests.domain.activity_scenes import ready, running
from tests.domain.cases import Case, done, each, ignored, refused
from tests.given import given, given_commands

CASES: list[Case] = [
    done(
        "activity.change",
        "old and new of what differs",
        lambda: running(fields={"a": 1, "b": 1}).when(ChangeActivity("a", "Mine", "h", {"a": None, "b": 1, "c": [2]})),
        [
            ActivityFieldsChanged(
                "a",
                {"title": "Visit", "hub": None, "fields": {"a": 1, "c": None}},
                {"title": "Mine", "hub": "h", "fields": {"a": None, "c": [2]}},
            )
        ],
        {},
    ),
    done(
        "activity.change",
        "all tasks are completed",
        lambda: running(CompleteTask("t1"), CompleteTask("t2"), manager()).when(ChangeActivity("a", "Mine"), "max"),
        [ActivityFieldsChanged("a", {"title": "Visit"}, {"title": "Mine"})],
    ),
    ignored(
        "activity.change",
        "everything as it is",
        lambda: running(hub="h", fields={"a": 1}).when(ChangeActivity("a", "Visit", "h", {"a": 1, "b": None})),
    ),
    ignored("activity.change", "nothing said", lambda: running().when(ChangeActivity("a"))),
    refused("activity.change", "invalid", "an id with a slash", lambda: given().when(ChangeActivity("a/b")), "/id"),
    refused(
        "activity.change", "invalid", "a hub with a NUL", lambda: running().when(ChangeActivity("a", hub="\0")), "/hub"
    ),
    refused("activity.change", "not-found", "unknown", lambda: given().when(ChangeActivity("a")), "/id"),
    refused(
        "activity.change",
        "not-found",
        "a hub that was retired",
        lambda: running(entry("hub", "h"), RetireEntry("hub", "h")).when(ChangeActivity("a", hub="h")),
        "/hub",
    ),
    refused("activity.change", "forbidden", "who has a task", lambda: running().when(ChangeActivity("a", "x"), "ann")),
    refused(
        "activity.change",
        "activity-canceled",
        "cancelled",
        lambda: running(CancelActivity("a")).when(ChangeActivity("a", "Mine")),
    ),
    done(
        "activity.cancel",
        "open, at work and failed tasks go along; completed ones stay",
        lambda: ready(
            member("cid"),
            activity(4, assignees=(("ann",), ("bob",), ("cid",), ())),
            CompleteTask("t1"),
            ProcessTask("t2"),
            FailTask("t3"),
            count=4,
        ).when(CancelActivity("a", "rain")),
        [
            ActivityCanceled("a", "rain"),
            TaskCanceled("t2", "a", "activity-canceled", ("bob",)),
            TaskCanceled("t3", "a", "activity-canceled", ("cid",)),
            TaskCanceled("t4", "a", "activity-canceled", ()),
        ],
        {UniqueKey("running", "bob"): None, UniqueKey("workflow-use/w", "a"): None},
    ),
    done(
        "activity.cancel",
        "by a manager; just a failed task is left",
        lambda: running(CancelTask("t1"), FailTask("t2"), manager()).when(CancelActivity("a"), "max"),
        [ActivityCanceled("a", None), TaskCanceled("t2", "a", "activity-canceled", ("bob",))],
        {},
    ),
    refused("activity.cancel", "invalid", "an id with a NUL", lambda: given().when(CancelActivity("a\0")), "/id"),
    refused("activity.cancel", "not-found", "unknown", lambda: given().when(CancelActivity("a")), "/id"),
    refused("activity.cancel", "not-found", "a task's id", lambda: running().when(CancelActivity("t1")), "/id"),
    refused("activity.cancel", "forbidden", "who has a task", lambda: running().when(CancelActivity("a"), "ann")),
    refused(
        "activity.cancel",
        "forbidden",
        "a manager of another project",
        lambda: given_commands([entry("project", "p"), workflow(project="p"), activity(), manager(project="q")]).when(
            CancelActivity("a"), "max"
        ),
    ),
    refused("activity.cancel", "terminal", "twice", lambda: running(CancelActivity("a")).when(CancelActivity("a"))),
    refused(
        "activity.cancel",
        "terminal",
        "completed",
        lambda: running(CompleteTask("t1"), CompleteTask("t2")).when(CancelActivity("a")),
    ),
    refused(
        "activity.cancel",
        "terminal",
        "each task was cancelled or completed",
        lambda: running(CompleteTask("t1"), CancelTask("t2")).when(CancelActivity("a")),
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_a_later_change_of_the_workflow_does_not_reach_the_activity() -> None:
    scene = running()
    before = scene.state("activity", "a"), scene.state("task", "t1")
    scene.and_commands([ChangeWorkflow("w", name="Audit", steps=(Step("X"), Step("Y")), gating="sequential")])
    assert before == (scene.state("activity", "a"), scene.state("task", "t1"))
    scene.when(ProcessTask("t2"), "bob").then_unique_keys({UniqueKey("running", "bob"): "t2"})


def test_cancelling_ends_every_task_but_the_completed() -> None:
    scene = running(CompleteTask("t1"), CancelActivity("a"))
    assert scene.state("activity", "a").canceled
    assert [scene.state("task", child).lifecycle for child in ("t1", "t2")] == [COMPLETED, CANCELED]


def test_cancelling_frees_everybody_at_work() -> None:
    scene = running(ProcessTask("t1"), ProcessTask("t2"), CancelActivity("a"))
    assert [unique for unique in scene.holders if unique.kind == "running"] == []
