"""What the outside says of a task that was sent there: a result is final once, unless it is overridden."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from domain.activity import ActivityCanceled, CancelActivity
from domain.decider import UniqueKey
from domain.lifecycle import CANCELED, COMPLETED, FAILED
from domain.plan import Criterion
from domain.task import (
    CancelTask,
    CompleteTask,
    Dispatch,
    DispatchTask,
    FailTask,
    PauseTask,
    ProcessTask,
    ReportDispatch,
    ResultRecorded,
    RetryTask,
    SaveTask,
    SubmitResult,
    TaskAssigned,
    TaskCanceled,
    TaskCompleted,
    TaskFailed,
    TaskReopened,
)
from tests.builders import EARLY, EMAIL, activity, admin, entry, manager, member, plan, task, workflow
from tests.domain.cases import Case, done, each, ids_and_strangers, ignored, refused
from tests.given import NOW, Given, Outcome, given_commands

RUNNING = UniqueKey("running", "ann")


def people(*more: Any) -> Given:
    return given_commands([member("ann"), member("bob"), manager("max"), admin("eve"), EMAIL, *more])


def anns(*more: Any, **rest: Any) -> Given:
    return people(task(assignees=("ann",), **rest), *more)


def sent(*more: Any) -> Given:
    return anns(DispatchTask("t"), ReportDispatch("t", 1, succeeded=True), *more, plan=plan())


def submit(scene: Given, result: Any, actor: str = "system", **rest: Any) -> Outcome:
    return scene.when(SubmitResult("t", result, **rest), actor)


def recorded(result: str, previous: str | None = None, override: bool = False, **rest: Any) -> ResultRecorded:
    return ResultRecorded("t", None, result, previous, override, **rest)


REOPENED = TaskReopened("t", None)

CASES: list[Case] = [
    *(
        done(
            "task.submit-result",
            f"{result}, of what was sent out",
            lambda result=result: submit(sent(), result, "max", data={"a": 1}, comment="so"),
            [recorded(result, data={"a": 1}, comment="so"), event],
            {},
        )
        for result, event in (
            ("COMPLETED", TaskCompleted("t", None, {"a": 1}, False)),
            ("TRANSFERRED", TaskCompleted("t", None, {"a": 1}, False)),
            ("EFFECTIVE", TaskCompleted("t", None, {"a": 1}, False)),
            ("NOT_EFFECTIVE", TaskCompleted("t", None, {"a": 1}, False)),
            ("NOT_EXECUTED", TaskFailed("t", None, "so")),
            ("CANCELED", TaskCanceled("t", None, "so", ("ann",))),
        )
    ),
    *(
        done(
            "task.submit-result",
            f"{result} by {actor}, while somebody is at it: the person is free",
            lambda result=result, actor=actor, override=override: submit(
                anns(ProcessTask("t")), result, actor, hard_override=override
            ),
            [recorded(result, None, override), event],
            {RUNNING: None},
        )
        for result, actor, override, event in (
            ("COMPLETED", "ann", False, TaskCompleted("t", None, {}, False)),
            ("NOT_EFFECTIVE", "ann", False, TaskCompleted("t", None, {}, False)),
            ("NOT_EXECUTED", "ann", False, TaskFailed("t", None, None)),
            ("NOT_EXECUTED", "eve", True, TaskFailed("t", None, None)),
            ("CANCELED", "max", False, TaskCanceled("t", None, None, ("ann",))),
            ("CANCELED", "eve", True, TaskCanceled("t", None, None, ("ann",))),
        )
    ),
    *(
        refused(
            "task.submit-result",
            "forbidden",
            f"who has the task cannot end it as {result}, hard override {override}",
            lambda result=result, override=override: submit(
                anns(ProcessTask("t")), result, "ann", hard_override=override
            ),
        )
        for result, override in (("CANCELED", False), ("CANCELED", True), ("COMPLETED", True), ("PENDING", True))
    ),
    refused(
        "task.submit-result",
        "forbidden",
        "who had the task cannot override how it ended",
        lambda: submit(anns(CompleteTask("t")), "NOT_EXECUTED", "ann", hard_override=True),
    ),
    refused(
        "task.submit-result",
        "forbidden",
        "nor can a manager",
        lambda: submit(anns(CompleteTask("t")), "NOT_EXECUTED", "max", hard_override=True),
    ),
    done(
        "task.submit-result",
        "the draft is part of the output",
        lambda: submit(anns(SaveTask("t", {"a": 1, "b": 1})), "COMPLETED", data={"b": 2}),
        [recorded("COMPLETED", data={"b": 2}), TaskCompleted("t", None, {"a": 1, "b": 2}, False)],
    ),
    done(
        "task.submit-result",
        "paused, and never sent out",
        lambda: submit(anns(ProcessTask("t"), PauseTask("t")), "COMPLETED"),
        [recorded("COMPLETED"), TaskCompleted("t", None, {}, False)],
        {},
    ),
    done(
        "task.submit-result",
        "not resolved, and nobody's",
        lambda: submit(people(task(plan=plan(criteria=(Criterion("ANY"),)))), "TRANSFERRED"),
        [recorded("TRANSFERRED"), TaskCompleted("t", None, {}, False)],
    ),
    *(
        done(
            "task.submit-result",
            f"late, and the policy is {value}: it has happened",
            lambda value=value: anns(
                *([entry("policy", "late-completion", value=value)] if value else []), end=EARLY
            ).when(SubmitResult("t", "COMPLETED"), now=NOW + timedelta(days=1)),
            [recorded("COMPLETED"), TaskCompleted("t", None, {}, late)],
        )
        for value, late in ((None, True), ("flag", True), ("reject", True), ("allow", False))
    ),
    done(
        "task.submit-result",
        "an override of a result",
        lambda: submit(sent(SubmitResult("t", "COMPLETED", data={"a": 1})), "NOT_EXECUTED", hard_override=True),
        [recorded("NOT_EXECUTED", "COMPLETED", True), REOPENED, TaskFailed("t", None, None)],
        {},
    ),
    done(
        "task.submit-result",
        "an override of what a person completed keeps the output",
        lambda: submit(anns(CompleteTask("t", {"a": 1})), "TRANSFERRED", hard_override=True, data={"b": 2}),
        [
            recorded("TRANSFERRED", None, True, data={"b": 2}),
            REOPENED,
            TaskCompleted("t", None, {"a": 1, "b": 2}, False),
        ],
    ),
    done(
        "task.submit-result",
        "an override of a cancelled task: it is theirs again",
        lambda: submit(anns(CancelTask("t")), "COMPLETED", hard_override=True),
        [
            recorded("COMPLETED", None, True),
            REOPENED,
            TaskAssigned("t", None, ("ann",)),
            TaskCompleted("t", None, {}, False),
        ],
        {},
    ),
    done(
        "task.submit-result",
        "an override that cancels what was cancelled still remembers whose it was",
        lambda: submit(anns(CancelTask("t")), "CANCELED", hard_override=True),
        [
            recorded("CANCELED", None, True),
            REOPENED,
            TaskAssigned("t", None, ("ann",)),
            TaskCanceled("t", None, None, ("ann",)),
        ],
    ),
    done(
        "task.submit-result",
        "an override of a cancelled task that was nobody's",
        lambda: submit(people(task(), CancelTask("t")), "NOT_EXECUTED", hard_override=True),
        [recorded("NOT_EXECUTED", None, True), REOPENED, TaskFailed("t", None, None)],
    ),
    done(
        "task.submit-result",
        "after a retry, a result is the first again",
        lambda: submit(sent(SubmitResult("t", "NOT_EXECUTED"), RetryTask("t")), "COMPLETED"),
        [recorded("COMPLETED"), TaskCompleted("t", None, {}, False)],
    ),
    done(
        "task.submit-result",
        "an override completes a step that is blocked",
        lambda: people(workflow(gating="sequential"), activity()).when(
            SubmitResult("t2", "COMPLETED", hard_override=True)
        ),
        [ResultRecorded("t2", "a", "COMPLETED", None, True), TaskCompleted("t2", "a", {}, False)],
    ),
    done(
        "task.submit-result",
        "a step that is blocked fails all the same",
        lambda: people(workflow(gating="sequential"), activity()).when(SubmitResult("t2", "NOT_EXECUTED")),
        [ResultRecorded("t2", "a", "NOT_EXECUTED"), TaskFailed("t2", "a", None)],
    ),
    ignored("task.submit-result", "nothing is known yet", lambda: submit(sent(), "PENDING", data={"a": 1})),
    ignored(
        "task.submit-result",
        "an override by which nothing is known",
        lambda: submit(anns(CompleteTask("t")), "PENDING", hard_override=True),
    ),
    *ids_and_strangers(SubmitResult, "task.submit-result", "COMPLETED"),
    refused("task.submit-result", "forbidden", "a stranger", lambda: submit(sent(), "COMPLETED", "bob")),
    refused(
        "task.submit-result",
        "forbidden",
        "a stranger with an override",
        lambda: submit(anns(CompleteTask("t")), "CANCELED", "bob", hard_override=True),
    ),
    *(
        refused(
            "task.submit-result",
            "result-final",
            f"{result} of a task that is {why}",
            lambda ending=ending, result=result: submit(anns(ending), result),
        )
        for why, ending, result in (
            ("completed", CompleteTask("t"), "COMPLETED"),
            ("failed", FailTask("t"), "COMPLETED"),
            ("cancelled", CancelTask("t"), "NOT_EXECUTED"),
            ("completed by its result", SubmitResult("t", "COMPLETED"), "COMPLETED"),
            ("completed and PENDING by now", CompleteTask("t"), "PENDING"),
        )
    ),
    *(
        refused(
            "task.submit-result",
            "blocked",
            f"{result} of a step whose earlier one is open",
            lambda result=result: people(workflow(gating="sequential"), activity()).when(SubmitResult("t2", result)),
        )
        for result in ("COMPLETED", "TRANSFERRED")
    ),
    refused(
        "task.submit-result",
        "activity-canceled",
        "an override under a cancelled activity",
        lambda: people(workflow(), activity(), CancelActivity("a")).when(
            SubmitResult("t1", "COMPLETED", hard_override=True)
        ),
    ),
    refused(
        "task.submit-result",
        "activity-canceled",
        "an override of a failed task under a cancelled activity",
        lambda: (
            people(workflow(), activity(), FailTask("t1"))
            .and_events([ActivityCanceled("a", None)])
            .when(SubmitResult("t1", "COMPLETED", hard_override=True))
        ),
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


@pytest.mark.parametrize("result", ["COMPLETED", "NOT_EXECUTED", "CANCELED"])
def test_a_result_while_an_attempt_is_under_way_ends_the_task_for_good(result: Any) -> None:
    scene = anns(DispatchTask("t"), plan=plan(scheduled_at=EARLY))
    scene.and_commands([SubmitResult("t", result)])
    before = scene.state("task", "t")
    scene.when(ReportDispatch("t", 1, succeeded=False)).then_nothing()
    scene.when(ReportDispatch("t", 1, succeeded=True)).then_nothing()
    assert (scene.state("task", "t"), before.wake) == (before, None)


def test_an_old_attempt_does_not_answer_for_one_that_was_made_since() -> None:
    scene = anns(DispatchTask("t"), SubmitResult("t", "NOT_EXECUTED"), RetryTask("t"), DispatchTask("t"), plan=plan())
    scene.when(ReportDispatch("t", 1, succeeded=True)).then_nothing()
    scene.and_commands([ReportDispatch("t", 2, succeeded=True)])
    assert scene.state("task", "t").dispatch is Dispatch.DISPATCHED


@pytest.mark.parametrize(
    ("result", "lifecycle", "people_after"),
    [("COMPLETED", COMPLETED, ("ann",)), ("NOT_EXECUTED", FAILED, ("ann",)), ("CANCELED", CANCELED, ())],
)
def test_an_override_leaves_the_state_that_it_names(result: Any, lifecycle: Any, people_after: Any) -> None:
    for ending in (CompleteTask("t"), FailTask("t"), CancelTask("t")):
        scene = anns(ProcessTask("t"), ending)
        submit(scene, result, hard_override=True)
        state = scene.state("task", "t")
        assert (state.lifecycle, state.assignees, state.runner, state.result) == (
            lifecycle,
            people_after,
            None,
            result,
        )
        assert RUNNING not in scene.holders


def test_overrides_follow_one_another_and_each_knows_the_one_before() -> None:
    scene = anns(SubmitResult("t", "COMPLETED"))
    for previous, result in (("COMPLETED", "CANCELED"), ("CANCELED", "NOT_EXECUTED"), ("NOT_EXECUTED", "TRANSFERRED")):
        event = submit(scene, result, hard_override=True).events[0]
        assert event == recorded(result, previous, True)
    assert scene.state("task", "t").assignees == ("ann",)


def test_a_failed_result_can_be_retried_by_a_manager() -> None:
    scene = sent(SubmitResult("t", "NOT_EXECUTED"))
    scene.and_commands([RetryTask("t")], "max")
    state = scene.state("task", "t")
    assert (state.dispatch, state.result, state.assignees) == (Dispatch.NONE, None, ("ann",))
