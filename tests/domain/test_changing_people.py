"""What `task.change` does beside title, fields and times: people and completion, all together or nothing of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from domain.decider import UniqueKey
from domain.directory import EntryRegistered
from domain.task import (
    ChangeTask,
    PauseTask,
    ProcessTask,
    SaveTask,
    TaskAssigned,
    TaskCompleted,
    TaskDataSaved,
    TaskFieldsChanged,
    TaskPaused,
    TaskReassigned,
    TaskRescheduled,
    TaskStarted,
    TaskUnassigned,
)
from tests.builders import EARLY, LATE, activity, entry, manager, member, task, workflow
from tests.domain.cases import Case, done, each, ignored, refused
from tests.given import NOW, Given, given_commands

RUNNING = UniqueKey("running", "ann")
TITLE = TaskFieldsChanged("t", None, {"title": None}, {"title": "U"})
COMPLETED = TaskCompleted("t", None, {}, False)


def people(*more: Any) -> Given:
    return given_commands([member("ann", email="ann@x.vn"), member("bob"), manager("max"), *more])


def nobodys(*more: Any, **rest: Any) -> Given:
    return people(task(**rest), *more)


def anns(*more: Any, **rest: Any) -> Given:
    return people(task(assignees=("ann",), **rest), *more)


CASES: list[Case] = [
    done(
        "task.change",
        "people for a task of nobody's",
        lambda: nobodys().when(ChangeTask("t", "U", assignees=("bob", "ann@x.vn")), "max"),
        [TITLE, TaskAssigned("t", None, ("bob", "ann"))],
        {},
    ),
    done(
        "task.change",
        "other people, one of them new",
        lambda: anns().when(ChangeTask("t", assignees=("new@x.vn",)), "ann"),
        [
            EntryRegistered("member", "id-1", {"email": "new@x.vn", "account_id": 4}),
            TaskReassigned("t", None, ("ann",), ("id-1",)),
        ],
    ),
    done(
        "task.change",
        "other people for a task that is being worked on",
        lambda: anns(ProcessTask("t")).when(ChangeTask("t", "U", assignees=("bob",))),
        [TITLE, TaskPaused("t", None, "reassigned"), TaskReassigned("t", None, ("ann",), ("bob",))],
        {RUNNING: None},
    ),
    done(
        "task.change",
        "nobody",
        lambda: anns(ProcessTask("t")).when(ChangeTask("t", assignees=())),
        [TaskPaused("t", None, "unassigned"), TaskUnassigned("t", None, ("ann",))],
        {RUNNING: None},
    ),
    done(
        "task.change",
        "the same people, named by e-mail, and a title",
        lambda: anns().when(ChangeTask("t", "U", assignees=("Ann@x.vn",))),
        [TITLE],
        {},
    ),
    done(
        "task.change",
        "it is completed with all else",
        lambda: anns(start=EARLY).when(ChangeTask("t", "U", {"a": 1}, end=LATE, complete=True), "ann"),
        [
            TaskFieldsChanged("t", None, {"title": None, "fields": {"a": None}}, {"title": "U", "fields": {"a": 1}}),
            TaskRescheduled("t", None, EARLY, None, EARLY, LATE),
            TaskStarted("t", None, "ann"),
            COMPLETED,
        ],
        {},
    ),
    done(
        "task.change",
        "completed while at work: the person is free",
        lambda: anns(ProcessTask("t")).when(ChangeTask("t", complete=True), "ann"),
        [COMPLETED],
        {RUNNING: None},
    ),
    done(
        "task.change",
        "paused, and completed by the system for somebody new",
        lambda: anns(ProcessTask("t"), PauseTask("t")).when(ChangeTask("t", assignees=("bob",), complete=True)),
        [
            TaskReassigned("t", None, ("ann",), ("bob",)),
            TaskStarted("t", None, "bob"),
            COMPLETED,
        ],
        {},
    ),
    done(
        "task.change",
        "at work, and completed by the system for somebody new: nobody has a running task",
        lambda: anns(ProcessTask("t")).when(ChangeTask("t", assignees=("new@x.vn",), complete=True)),
        [
            EntryRegistered("member", "id-1", {"email": "new@x.vn", "account_id": 4}),
            TaskPaused("t", None, "reassigned"),
            TaskReassigned("t", None, ("ann",), ("id-1",)),
            TaskStarted("t", None, "id-1"),
            COMPLETED,
        ],
        {RUNNING: None, UniqueKey("member-email", "new@x.vn"): "id-1", UniqueKey("member-account", "4"): "id-1"},
    ),
    done(
        "task.change",
        "a new end that has not passed: it is not late",
        lambda: anns(end=EARLY).when(ChangeTask("t", end=LATE, complete=True), now=NOW + timedelta(hours=2)),
        [TaskRescheduled("t", None, None, EARLY, None, LATE), TaskStarted("t", None, "ann"), COMPLETED],
    ),
    done(
        "task.change",
        "a field of which there is a draft: the draft says the same from now on",
        lambda: anns(SaveTask("t", {"a": 1, "b": 1}), fields={"a": 0}).when(ChangeTask("t", fields={"a": 2, "c": 3})),
        [
            TaskFieldsChanged("t", None, {"fields": {"a": 0, "c": None}}, {"fields": {"a": 2, "c": 3}}),
            TaskDataSaved("t", None, {"a": 1}, {"a": 2}),
        ],
    ),
    ignored(
        "task.change",
        "the same people in another order",
        lambda: people(task(assignees=("ann", "bob"))).when(ChangeTask("t", assignees=("bob", "ann"))),
    ),
    ignored("task.change", "nobody, of nobody's", lambda: nobodys().when(ChangeTask("t", assignees=()))),
    refused(
        "task.change",
        "invalid",
        "more people than a task can have",
        lambda: anns().when(ChangeTask("t", assignees=tuple(f"m{number}@x.vn" for number in range(51)))),
        "/assignees",
    ),
    refused(
        "task.change",
        "not-found",
        "an unknown person",
        lambda: anns().when(ChangeTask("t", "U", assignees=("ann", "zoe"))),
        "/assignees/1",
    ),
    refused(
        "task.change",
        "not-eligible",
        "somebody who is shut out",
        lambda: anns(blacklist=("bob",)).when(ChangeTask("t", "U", assignees=("bob",))),
        "/assignees/0",
    ),
    refused(
        "task.change",
        "already-processing",
        "people for what a system works on",
        lambda: nobodys(ProcessTask("t")).when(ChangeTask("t", assignees=("ann",))),
    ),
    *(
        refused("task.change", "not-assignee", why, lambda scene=scene, said=said, who=who: scene().when(said, who))
        for why, scene, said, who in (
            ("a manager completes", anns, ChangeTask("t", "U", complete=True), "max"),
            ("nobody's is completed", nobodys, ChangeTask("t", "U", complete=True), "system"),
            ("taken from its people and completed", anns, ChangeTask("t", assignees=(), complete=True), "system"),
            ("given away and completed", anns, ChangeTask("t", assignees=("bob",), complete=True), "ann"),
        )
    ),
    refused(
        "task.change",
        "blocked",
        "completed before an earlier step",
        lambda: people(workflow(gating="sequential"), activity(assignees=(("ann",), ("bob",)))).when(
            ChangeTask("t2", "U", complete=True), "bob"
        ),
    ),
    refused(
        "task.change",
        "late",
        "completed when the tenant does not want it any more",
        lambda: anns(entry("policy", "late-completion", value="reject"), end=EARLY).when(
            ChangeTask("t", "U", complete=True), "ann", NOW + timedelta(hours=2)
        ),
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_what_is_refused_in_part_is_refused_as_a_whole() -> None:
    scene = anns()
    before = scene.state("task", "t")
    scene.when(ChangeTask("t", "U", {"a": 1}, assignees=("bob",), complete=True), "ann").then_rejected("not-assignee")
    assert scene.state("task", "t") == before
