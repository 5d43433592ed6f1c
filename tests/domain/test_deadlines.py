"""What a deadline that came due does to a task, and that one which is not the task's own any more does nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from domain.decider import text_of
from domain.directory import ChangeEntry, RetireEntry
from domain.plan import Criterion, Provider, Target
from domain.task import (
    AttributesResolved,
    CancelTask,
    ChangeTask,
    CompleteTask,
    DispatchRequested,
    DispatchTask,
    FailTask,
    PauseTask,
    ProcessTask,
    ReportDispatch,
    ResolutionFailed,
    ResolveTarget,
    RetryTask,
    SubmitResult,
    TargetsResolved,
    TaskBecameOverdue,
    TaskWakeSet,
    UnassignTask,
    WakeTask,
)
from domain.task.dispatching import PROVIDER_WAIT
from tests.builders import EARLY, EMAIL, LATE, entry, manager, member, plan, task
from tests.domain.cases import Case, done, each, ids_and_strangers, ignored, refused
from tests.given import NOW, Given, given_commands

PAST = "2025-10-30T08:55:00.000+07:00"
FIRST_TRY, SECOND_TRY = "2025-10-31T01:01:00.000Z", "2025-10-31T01:05:00.000Z"
REQUESTED = DispatchRequested("t", None, 1, "EMAIL", Provider("console", None, None, 5.0, 30.0))
OVERDUE = TaskBecameOverdue("t", None, EARLY)


def due(kind: Any = "overdue", at: str = EARLY) -> WakeTask:
    return WakeTask("t", kind, at)


def people(*more: Any) -> Given:
    return given_commands([member("ann"), manager("max"), EMAIL, *more])


def ending(*more: Any, end: str = EARLY) -> Given:
    return people(task(assignees=("ann",), end=end), *more)


def scheduled(*more: Any, **rest: Any) -> Given:
    return people(task(assignees=("ann",), plan=plan(scheduled_at=PAST, **rest)), *more)


ANYBODY = ChangeEntry("commerce", "c", {"users": [{"id": "u"}]})


def unresolved(*more: Any) -> Given:
    return people(
        entry("commerce", "c", users=[]),
        task(commerce="c", plan=plan(scheduled_at=PAST, criteria=(Criterion("ANY"),))),
        *more,
    )


CASES: list[Case] = [
    *(
        done("task.wake", f"its end has passed, {why}", lambda more=more: ending(*more).when(due()), [OVERDUE], {})
        for why, more in (
            ("and nobody began", ()),
            ("at work", (ProcessTask("t"),)),
            ("paused", (ProcessTask("t"), PauseTask("t"))),
            ("retried", (due(), FailTask("t"), RetryTask("t"))),
        )
    ),
    done(
        "task.wake",
        "it has another end, and that has passed",
        lambda: ending(due(), ChangeTask("t", end=LATE)).when(due(at=LATE)),
        [TaskBecameOverdue("t", None, LATE)],
    ),
    done("task.wake", "its dispatch is due", lambda: scheduled().when(due("dispatch", PAST)), [REQUESTED], {}),
    done(
        "task.wake",
        "its dispatch is due, and what is resolved on dispatch with it",
        lambda: people(
            entry("commerce", "c", segment="gold"),
            entry("attribute", "segment", strategy="ON_DISPATCH", source="commerce.segment"),
            task(commerce="c", plan=plan(scheduled_at=PAST, attribute_keys=("segment",))),
        ).when(due("dispatch", PAST)),
        [AttributesResolved("t", None, {"segment": "gold"}), REQUESTED],
    ),
    *(
        done(
            "task.wake",
            f"its dispatch is due, and cannot be: {why}",
            lambda more=more: scheduled(*more).when(due("dispatch", PAST)),
            [TaskWakeSet("t", None, "dispatch", None)],
        )
        for why, more in (
            ("somebody is at it", (ProcessTask("t"),)),
            ("it is paused", (ProcessTask("t"), PauseTask("t"))),
        )
    ),
    done(
        "task.wake",
        "its dispatch is due, and its channel has no provider just now: it looks again before long",
        lambda: scheduled(RetireEntry("dispatch", "EMAIL")).when(due("dispatch", PAST)),
        [TaskWakeSet("t", None, "dispatch", text_of(NOW + timedelta(seconds=PROVIDER_WAIT)))],
    ),
    done(
        "task.wake",
        "its targets are looked for again, in vain",
        lambda: unresolved().when(due("resolution", FIRST_TRY)),
        [
            ResolutionFailed(
                "t", None, "nobody fits the criteria", (Target("t1", "ANY", "FAILED", None, "nobody fits"),), 2
            ),
            TaskWakeSet("t", None, "resolution", SECOND_TRY),
        ],
    ),
    done(
        "task.wake",
        "its targets are looked for again and found",
        lambda: unresolved(RetireEntry("commerce", "c"), entry("commerce", "c", users=[{"id": "u"}])).when(
            due("resolution", FIRST_TRY)
        ),
        [
            TargetsResolved("t", None, (Target("t1", "ANY", "RESOLVED", "u"),)),
            TaskWakeSet("t", None, "dispatch", PAST),
        ],
    ),
    *(
        ignored("task.wake", why, lambda scene=scene, said=said: scene().when(said))
        for why, scene, said in (
            ("overdue twice", lambda: ending(due()), due()),
            ("it has another end", lambda: ending(ChangeTask("t", end=LATE)), due()),
            ("the same end in another text", ending, due(at="2025-10-31T01:50:00Z")),
            ("it has no end", lambda: people(task()), due()),
            ("an end that is no time", ending, due(at="")),
            ("completed", lambda: ending(CompleteTask("t")), due()),
            ("failed", lambda: ending(FailTask("t")), due()),
            ("cancelled", lambda: ending(CancelTask("t")), due()),
            ("it never had a wake", lambda: people(task(plan=plan())), due("dispatch", PAST)),
            ("its wake at another time", scheduled, due("dispatch", EARLY)),
            ("its wake of another kind", scheduled, due("resolution", PAST)),
            ("its wake, twice", lambda: scheduled(due("dispatch", PAST)), due("dispatch", PAST)),
            ("its wake, sent out by hand since", lambda: scheduled(DispatchTask("t")), due("dispatch", PAST)),
            ("its wake, cancelled since", lambda: scheduled(CancelTask("t")), due("dispatch", PAST)),
            ("its wake, failed since", lambda: scheduled(FailTask("t")), due("dispatch", PAST)),
            (
                "its wake, a result since",
                lambda: scheduled(SubmitResult("t", "COMPLETED")),
                due("dispatch", PAST),
            ),
            (
                "a try, resolved by hand since",
                lambda: unresolved(ANYBODY, ResolveTarget("t", "t1", "u")),
                due("resolution", FIRST_TRY),
            ),
            ("a try, tried since", lambda: unresolved(due("resolution", FIRST_TRY)), due("resolution", FIRST_TRY)),
        )
    ),
    *ids_and_strangers(WakeTask, "task.wake", "overdue", EARLY),
    *(
        refused("task.wake", "forbidden", f"{who} is not the service", lambda who=who: ending().when(due(), who))
        for who in ("ann", "max", "nobody")
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


@pytest.mark.parametrize("command", [CompleteTask("t"), FailTask("t"), CancelTask("t")])
def test_what_has_ended_is_not_overdue_and_wakes_no_more(command: Any) -> None:
    scene = people(task(assignees=("ann",), end=EARLY, plan=plan(scheduled_at=LATE)), due())
    assert (scene.state("task", "t").overdue, scene.state("task", "t").wake) == (True, ("dispatch", LATE))
    scene.and_commands([command])
    assert (scene.state("task", "t").overdue, scene.state("task", "t").wake) == (False, None)


def test_a_task_with_another_end_is_judged_anew() -> None:
    scene = ending(due())
    assert scene.state("task", "t").overdue
    scene.and_commands([ChangeTask("t", end=LATE)])
    assert not scene.state("task", "t").overdue


def test_a_task_scheduled_before_its_targets_are_found_goes_out_once_they_are() -> None:
    scene = unresolved()
    scene.when(due("dispatch", PAST)).then_nothing()
    scene.and_commands([ANYBODY, ResolveTarget("t", "t1", "u")])
    scene.when(due("dispatch", PAST)).then([REQUESTED])


def test_a_dispatch_passed_over_is_not_lost() -> None:
    scene = scheduled(ProcessTask("t"), due("dispatch", PAST))
    assert scene.state("task", "t").wake is None
    scene.and_commands([UnassignTask("t")])
    kind, at = scene.state("task", "t").wake
    scene.when(due(kind, at)).then([REQUESTED])


def test_a_wake_fires_once_however_often_it_comes() -> None:
    scene = scheduled()
    for _ in range(3):
        scene.when(due("dispatch", PAST))
    scene.when(ReportDispatch("t", 1, succeeded=True))
    scene.when(due("dispatch", PAST)).then_nothing()
    assert [type(event) for event in scene.log].count(DispatchRequested) == 1
