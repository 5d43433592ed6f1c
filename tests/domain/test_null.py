"""What null says in a change: the value goes away, where that is possible; the type refuses it everywhere else."""

from __future__ import annotations

from typing import Any

from domain.activity import ActivityFieldsChanged, ChangeActivity, NewTask
from domain.decider import UniqueKey
from domain.steps import FieldMapping, Step
from domain.task import (
    ChangeTask,
    CompleteTask,
    ProcessTask,
    ResultRecorded,
    SaveTask,
    SubmitResult,
    TaskCompleted,
    TaskDataSaved,
    TaskFieldsChanged,
    TaskPaused,
    TaskRescheduled,
    TaskUnassigned,
)
from tests.builders import EARLY, LATE, activity, member, task, workflow
from tests.domain.cases import Case, done, each, ignored
from tests.given import Given, given_commands

RUNNING = UniqueKey("running", "ann")


def people(*more: Any) -> Given:
    return given_commands([member("ann"), member("bob"), *more])


def anns(*more: Any, **rest: Any) -> Given:
    return people(task(assignees=("ann",), **rest), *more)


CASES: list[Case] = [
    done(
        "task.change",
        "null takes the title, the hub and the times away",
        lambda: anns(title="T", hub="h", start=EARLY, end=LATE).when(
            ChangeTask("t", title=None, hub=None, start=None, end=None), "ann"
        ),
        [
            TaskFieldsChanged("t", None, {"title": "T", "hub": "h"}, {"title": None, "hub": None}),
            TaskRescheduled("t", None, EARLY, LATE, None, None),
        ],
    ),
    done(
        "task.change",
        "null takes the end away, and the start may lie behind it",
        lambda: anns(start=EARLY, end=EARLY).when(ChangeTask("t", start=LATE, end=None), "ann"),
        [TaskRescheduled("t", None, EARLY, EARLY, LATE, None)],
    ),
    done(
        "task.change",
        "null takes the task from its people",
        lambda: anns(ProcessTask("t")).when(ChangeTask("t", assignees=None)),
        [TaskPaused("t", None, "unassigned"), TaskUnassigned("t", None, ("ann",))],
        {RUNNING: None},
    ),
    ignored(
        "task.change",
        "null for what is not there",
        lambda: people(task()).when(
            ChangeTask("t", title=None, fields={"a": None}, start=None, end=None, hub=None, assignees=None)
        ),
    ),
    done(
        "task.save",
        "null takes away what was saved, and the field under it",
        lambda: anns(SaveTask("t", {"a": 1, "b": 1}), fields={"a": 0, "c": 0}).when(
            SaveTask("t", {"a": None, "c": None, "d": None}), "ann"
        ),
        [
            TaskDataSaved("t", None, {"a": 1}, {"a": None}),
            TaskFieldsChanged("t", None, {"fields": {"a": 0, "c": 0}}, {"fields": {"a": None, "c": None}}),
        ],
        {},
    ),
    ignored("task.save", "null for what is not there", lambda: anns().when(SaveTask("t", {"a": None}), "ann")),
    done(
        "task.complete",
        "null takes the field away; the output says so",
        lambda: anns(ProcessTask("t"), SaveTask("t", {"a": 1}), fields={"a": 0}).when(
            CompleteTask("t", {"a": None}), "ann"
        ),
        [
            TaskFieldsChanged("t", None, {"fields": {"a": 0}}, {"fields": {"a": None}}),
            TaskCompleted("t", None, {"a": None}),
        ],
    ),
    done(
        "task.submit-result",
        "null takes the field away",
        lambda: anns(fields={"a": 0}).when(SubmitResult("t", "COMPLETED", data={"a": None})),
        [
            ResultRecorded("t", None, "COMPLETED", None, False, {"a": None}, None),
            TaskFieldsChanged("t", None, {"fields": {"a": 0}}, {"fields": {"a": None}}),
            TaskCompleted("t", None, {"a": None}),
        ],
    ),
    done(
        "activity.change",
        "null takes the hub away",
        lambda: people(workflow(), activity(hub="h")).when(ChangeActivity("a", hub=None)),
        [ActivityFieldsChanged("a", {"hub": "h"}, {"hub": None})],
    ),
    ignored(
        "activity.change",
        "null for what is not there",
        lambda: people(workflow(), activity()).when(ChangeActivity("a", hub=None, fields={"a": None})),
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_what_was_taken_away_feeds_no_later_step() -> None:
    mapped = (Step("One"), Step("Two", field_mapping=(FieldMapping(0, "a", "b"),)))
    tasks = (NewTask("t1", assignees=("ann",), fields={"a": 1}), NewTask("t2"))
    for how in ((SaveTask("t1", {"a": None}), CompleteTask("t1")), (CompleteTask("t1", {"a": None}),)):
        scene = people(workflow(steps=mapped), activity(tasks=tasks), *how)
        assert scene.state("task", "t1").fields == {}
        assert scene.state("task", "t2").fields == {}
