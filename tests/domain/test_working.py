"""What the commands of those who work on a task answer."""

from __future__ import annotations

from domain.directory import RetireEntry
from domain.lifecycle import ACTIVE
from domain.plan import Target
from domain.task import (
    CancelTask,
    CompleteTask,
    PauseTask,
    ProcessTask,
    SaveTask,
    TargetsResolved,
    TaskDataSaved,
    TaskPaused,
    TaskResumed,
    TaskStarted,
)
from tests.builders import task
from tests.domain.cases import Case, done, each, ids_and_strangers, ignored, refused
from tests.domain.task_scenes import (
    RUNNING_ANN,
    RUNNING_BOB,
    active,
    anns,
    completed,
    ended,
    gated,
    nobodys,
    paused,
    people,
    unresolved,
)
from tests.given import COMMAND_NAMES

PROCESS = [
    done(
        "task.process",
        "start",
        lambda: anns().when(ProcessTask("t"), "ann"),
        [TaskStarted("t", None, "ann")],
        {RUNNING_ANN: "t"},
    ),
    done(
        "task.process",
        "resume, by the other of two",
        lambda: people(task(assignees=("ann", "bob")), ProcessTask("t"), PauseTask("t")).when(ProcessTask("t"), "bob"),
        [TaskResumed("t", None, "bob")],
        {RUNNING_BOB: "t"},
    ),
    done(
        "task.process",
        "the system starts for the first assignee",
        lambda: people(task(assignees=("bob", "ann"))).when(ProcessTask("t")),
        [TaskStarted("t", None, "bob")],
        {RUNNING_BOB: "t"},
    ),
    done(
        "task.process",
        "the system starts what is nobody's",
        lambda: nobodys().when(ProcessTask("t")),
        [TaskStarted("t", None, None)],
        {},
    ),
    done(
        "task.process",
        "another running task of the person is paused first",
        lambda: active(task("u", assignees=("ann",))).when(ProcessTask("u"), "ann"),
        [TaskPaused("t", None, "other-task-started"), TaskStarted("u", None, "ann")],
        {RUNNING_ANN: "u"},
    ),
    done(
        "task.process",
        "the next step, once the one before is completed",
        lambda: gated().and_commands([CompleteTask("t1")]).when(ProcessTask("t2"), "bob"),
        [TaskStarted("t2", "a", "bob")],
        {RUNNING_BOB: "t2"},
    ),
    done(
        "task.process",
        "targets that were resolved later",
        lambda: (
            unresolved()
            .and_events([TargetsResolved("t", None, (Target("t1", "ANY", "RESOLVED", "x"),))])
            .when(ProcessTask("t"))
        ),
        [TaskStarted("t", None, None)],
    ),
    done(
        "task.process",
        "an earlier step that was cancelled",
        lambda: gated().and_commands([CancelTask("t1")]).when(ProcessTask("t2"), "bob"),
        [TaskStarted("t2", "a", "bob")],
    ),
    *ids_and_strangers(ProcessTask, "task.process"),
    *ended("task.process", ProcessTask("t")),
    refused("task.process", "not-assignee", "a stranger", lambda: anns().when(ProcessTask("t"), "bob")),
    refused("task.process", "not-assignee", "a manager", lambda: anns().when(ProcessTask("t"), "max")),
    *(
        refused(
            COMMAND_NAMES[type(command)],
            "not-assignee",
            "the system, when whoever has it was retired",
            lambda command=command: anns().and_commands([RetireEntry("member", "ann")]).when(command),
        )
        for command in (ProcessTask("t"), CompleteTask("t"))
    ),
    refused("task.process", "already-processing", "twice", lambda: active().when(ProcessTask("t"), "ann")),
    refused("task.process", "blocked", "an earlier step is open", lambda: gated().when(ProcessTask("t2"), "bob")),
    refused(
        "task.process",
        "blocked",
        "an earlier step is at work",
        lambda: gated().and_commands([ProcessTask("t1")]).when(ProcessTask("t2"), "bob"),
    ),
    refused("task.process", "unresolved", "targets not resolved", lambda: unresolved().when(ProcessTask("t"))),
]


PAUSE = [
    done(
        "task.pause",
        "by the assignee, who is free",
        lambda: active().when(PauseTask("t"), "ann"),
        [TaskPaused("t", None, "asked")],
        {RUNNING_ANN: None},
    ),
    done(
        "task.pause",
        "what a system works on",
        lambda: nobodys().and_commands([ProcessTask("t")]).when(PauseTask("t")),
        [TaskPaused("t", None, "asked")],
        {},
    ),
    *ids_and_strangers(PauseTask, "task.pause"),
    *ended("task.pause", PauseTask("t"), "not-processing"),
    refused("task.pause", "not-processing", "not begun", lambda: anns().when(PauseTask("t"), "ann")),
    refused("task.pause", "not-processing", "twice", lambda: paused().when(PauseTask("t"), "ann")),
    refused("task.pause", "not-assignee", "a manager", lambda: active().when(PauseTask("t"), "max")),
]


SAVE = [
    done(
        "task.save",
        "old and new of what differs",
        lambda: anns(SaveTask("t", {"a": 1, "b": 1})).when(SaveTask("t", {"a": 1, "b": 2, "c": [3]}), "ann"),
        [TaskDataSaved("t", None, {"b": 1, "c": None}, {"b": 2, "c": [3]})],
        {},
    ),
    done(
        "task.save",
        "zero, one and truth are four values",
        lambda: anns(SaveTask("t", {"a": 1, "b": {"c": 0}})).when(SaveTask("t", {"a": True, "b": {"c": False}})),
        [TaskDataSaved("t", None, {"a": 1, "b": {"c": 0}}, {"a": True, "b": {"c": False}})],
    ),
    ignored("task.save", "the same again", lambda: anns(SaveTask("t", {"a": 1})).when(SaveTask("t", {"a": 1}), "ann")),
    ignored("task.save", "nothing said", lambda: anns().when(SaveTask("t", {}), "ann")),
    *ids_and_strangers(SaveTask, "task.save", {}),
    *ended("task.save", SaveTask("t", {"a": 1})),
    refused("task.save", "not-assignee", "a manager", lambda: anns().when(SaveTask("t", {"a": 1}), "max")),
]


CASES: list[Case] = [*PROCESS, *PAUSE, *SAVE]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_what_starts_while_another_stands_paused_pauses_nothing() -> None:
    scene = paused().and_commands([task("u", assignees=("ann",))])
    scene.when(ProcessTask("u"), "ann").then([TaskStarted("u", None, "ann")])
    assert scene.state("task", "u").lifecycle is ACTIVE


def test_a_unique_key_whose_task_has_ended_stops_nobody() -> None:
    scene = completed().and_commands([task("u", assignees=("ann",))]).and_unique_keys({RUNNING_ANN: "t"})
    scene.when(ProcessTask("u"), "ann").then([TaskStarted("u", None, "ann")])
