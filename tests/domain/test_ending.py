"""What the commands that end a task, or open it again, answer."""

from __future__ import annotations

from datetime import timedelta

from domain.activity import ActivityCanceled, CancelActivity
from domain.decider import UniqueKey
from domain.directory import RetireEntry
from domain.lifecycle import CANCELED, FAILED, OPEN
from domain.task import (
    CancelTask,
    CompleteTask,
    Dispatch,
    FailTask,
    Resolution,
    RetryTask,
    SaveTask,
    TargetsResolved,
    TaskCanceled,
    TaskCompleted,
    TaskFailed,
    TaskRetried,
    TaskStarted,
)
from tests.builders import activity, manager, task, workflow
from tests.domain.cases import Case, done, each, ids_and_strangers, refused
from tests.domain.task_scenes import (
    RUNNING_ANN,
    active,
    anns,
    completed,
    ended,
    failed,
    gated,
    late,
    made_for,
    nobodys,
    paused,
    people,
    unresolved,
)
from tests.given import NOW

COMPLETE = [
    done(
        "task.complete",
        "at work; the draft is part of the output, and the person is free",
        lambda: active(SaveTask("t", {"a": 1, "b": 1})).when(CompleteTask("t", {"b": 2}), "ann"),
        [TaskCompleted("t", None, {"a": 1, "b": 2}, False)],
        {RUNNING_ANN: None},
    ),
    done(
        "task.complete",
        "not begun: it is started first",
        lambda: people(task(assignees=("ann", "bob"))).when(CompleteTask("t"), "bob"),
        [TaskStarted("t", None, "bob"), TaskCompleted("t", None, {}, False)],
        {},
    ),
    done(
        "task.complete",
        "paused",
        lambda: paused().when(CompleteTask("t"), "ann"),
        [TaskCompleted("t", None, {}, False)],
        {},
    ),
    done(
        "task.complete",
        "just in time",
        lambda: anns(end="2025-10-31T08:00:00+07:00").when(CompleteTask("t"), "ann"),
        [TaskStarted("t", None, "ann"), TaskCompleted("t", None, {}, False)],
    ),
    *(
        done(
            "task.complete",
            f"late, and the policy is {value}",
            lambda value=value: late(value).when(CompleteTask("t"), "ann", NOW + timedelta(days=1)),
            [TaskStarted("t", None, "ann"), TaskCompleted("t", None, {}, flagged)],
        )
        for value, flagged in ((None, True), ("flag", True), ("allow", False))
    ),
    done(
        "task.complete",
        "late, and the policy that refused it was retired",
        lambda: (
            late("reject")
            .and_commands([RetireEntry("policy", "late-completion")])
            .when(CompleteTask("t"), "ann", NOW + timedelta(days=1))
        ),
        [TaskStarted("t", None, "ann"), TaskCompleted("t", None, {}, True)],
    ),
    *ids_and_strangers(CompleteTask, "task.complete"),
    *ended("task.complete", CompleteTask("t")),
    refused("task.complete", "not-assignee", "a manager", lambda: active().when(CompleteTask("t"), "max")),
    refused("task.complete", "not-assignee", "nobody's, not begun", lambda: nobodys().when(CompleteTask("t"))),
    refused("task.complete", "blocked", "an earlier step is open", lambda: gated().when(CompleteTask("t2"), "bob")),
    refused(
        "task.complete",
        "late",
        "the tenant refuses it",
        lambda: late("reject").when(CompleteTask("t"), "ann", NOW + timedelta(days=1)),
    ),
]


REST = [
    done(
        "task.error",
        "at work; the person is free",
        lambda: active().when(FailTask("t", "broken"), "ann"),
        [TaskFailed("t", None, "broken")],
        {RUNNING_ANN: None},
    ),
    done("task.error", "nobody's", lambda: nobodys().when(FailTask("t"), "max"), [TaskFailed("t", None, None)], {}),
    *ids_and_strangers(FailTask, "task.error"),
    *ended("task.error", FailTask("t")),
    refused("task.error", "forbidden", "a stranger", lambda: anns().when(FailTask("t"), "bob")),
    done(
        "task.cancel",
        "at work; the event remembers whose it was",
        lambda: active().when(CancelTask("t", "no need"), "max"),
        [TaskCanceled("t", None, "no need", ("ann",))],
        {RUNNING_ANN: None},
    ),
    done(
        "task.cancel",
        "failed, under a cancelled activity",
        lambda: (
            people(workflow(), activity(), FailTask("t1"))
            .and_events([ActivityCanceled("a", None)])
            .when(CancelTask("t1"))
        ),
        [TaskCanceled("t1", "a", None, ())],
        {UniqueKey("workflow-use/w", "a"): None},
    ),
    done(
        "task.cancel",
        "a manager who has it himself",
        lambda: people(task(assignees=("max",))).when(CancelTask("t"), "max"),
        [TaskCanceled("t", None, None, ("max",))],
    ),
    *ids_and_strangers(CancelTask, "task.cancel"),
    *ended("task.cancel", CancelTask("t")),
    refused("task.cancel", "forbidden", "the assignee", lambda: anns().when(CancelTask("t"), "ann")),
    refused(
        "task.cancel",
        "forbidden",
        "a manager of another project",
        lambda: made_for(project="p").and_commands([manager("eve", project="q")]).when(CancelTask("t"), "eve"),
    ),
    refused(
        "task.cancel",
        "terminal",
        "failed, under an activity that goes on",
        lambda: people(workflow(), activity(), FailTask("t1")).when(CancelTask("t1")),
    ),
    done(
        "task.retry",
        "it is open again, and still theirs",
        lambda: failed().when(RetryTask("t"), "max"),
        [TaskRetried("t", None)],
        {},
    ),
    *ids_and_strangers(RetryTask, "task.retry"),
    refused("task.retry", "forbidden", "the assignee", lambda: failed().when(RetryTask("t"), "ann")),
    *(
        refused("task.retry", "not-failed", why, lambda scene=scene: scene().when(RetryTask("t")))
        for why, scene in (
            ("not begun", anns),
            ("at work", active),
            ("paused", paused),
            ("completed", completed),
            ("cancelled", lambda: anns(CancelTask("t"))),
        )
    ),
    refused(
        "task.retry",
        "activity-canceled",
        "under a cancelled activity",
        lambda: (
            people(workflow(), activity(), FailTask("t1"))
            .and_events([ActivityCanceled("a", None)])
            .when(RetryTask("t1"))
        ),
    ),
]


CASES: list[Case] = [*COMPLETE, *REST]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_a_retried_task_is_open_and_its_dispatch_is_reset() -> None:
    state = failed().and_commands([RetryTask("t")]).state("task", "t")
    assert (state.lifecycle, state.assignees, state.dispatch) == (OPEN, ("ann",), Dispatch.NONE)


def test_a_cancelled_task_is_nobodys() -> None:
    state = active(CancelTask("t")).state("task", "t")
    assert (state.lifecycle, state.assignees, state.runner) == (CANCELED, (), None)


def test_a_failed_task_keeps_its_people() -> None:
    state = active(FailTask("t")).state("task", "t")
    assert (state.lifecycle, state.assignees, state.runner) == (FAILED, ("ann",), None)


def test_what_is_resolved_is_a_fact_of_its_own() -> None:
    scene = unresolved()
    assert (scene.state("task", "t").lifecycle, scene.state("task", "t").resolution) == (OPEN, Resolution.FAILED)
    scene.and_events([TargetsResolved("t", None, ())])
    assert scene.state("task", "t").resolution is Resolution.RESOLVED


def test_cancelling_an_activity_and_retrying_its_task_read_one_another() -> None:
    scene = people(workflow(), activity(), FailTask("t1"))
    assert scene.ask(RetryTask("t1")).events
    scene.and_commands([CancelActivity("a")])
    scene.when(RetryTask("t1")).then_rejected("not-failed")
