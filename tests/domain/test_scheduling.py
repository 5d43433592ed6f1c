"""When a task goes out by itself, and again after a retry or after somebody gave it back."""

from __future__ import annotations

from domain.lifecycle import FAILED, OPEN
from domain.plan import Criterion
from domain.task import (
    CancelTask,
    Dispatch,
    DispatchFailed,
    DispatchSucceeded,
    FailTask,
    PauseTask,
    ProcessTask,
    ReassignTask,
    RetryTask,
    SubmitResult,
    TaskPaused,
    TaskReassigned,
    TaskRetried,
    TaskUnassigned,
    UnassignTask,
    WakeTask,
)
from tests.builders import LATE, task
from tests.domain.cases import Case, done, each
from tests.domain.dispatch_scenes import (
    PAST,
    gated,
    in_flight,
    later,
    people,
    planned,
    report,
    requested,
    sent,
    tried,
    wake,
)

CASES: list[Case] = [
    # A retry sends it again.
    done(
        "task.retry",
        "the service gave up: it goes out again at once",
        lambda: tried(3, scheduled_at=PAST).when(RetryTask("t")),
        [TaskRetried("t", None), wake()],
        {},
    ),
    done(
        "task.retry",
        "it is scheduled for later: it keeps its time",
        lambda: planned(FailTask("t"), scheduled_at=LATE).when(RetryTask("t")),
        [TaskRetried("t", None), wake(LATE)],
    ),
    done(
        "task.retry",
        "it was out: it goes out again",
        lambda: sent(SubmitResult("t", "NOT_EXECUTED"), scheduled_at=PAST).when(RetryTask("t")),
        [TaskRetried("t", None), wake()],
    ),
    done(
        "task.retry",
        "never scheduled: it goes out when it is asked for",
        lambda: tried(3).when(RetryTask("t")),
        [TaskRetried("t", None)],
    ),
    done(
        "task.retry",
        "not resolved: its targets are looked for at once",
        lambda: planned(FailTask("t"), criteria=(Criterion("ANY"),)).when(RetryTask("t")),
        [TaskRetried("t", None), wake(kind="resolution")],
    ),
    # What was passed over while somebody was at it goes out once it is open again.
    done(
        "task.unassign",
        "its dispatch came due while somebody was at it",
        lambda: planned(ProcessTask("t"), WakeTask("t", "dispatch", PAST), scheduled_at=PAST).when(UnassignTask("t")),
        [TaskPaused("t", None, "unassigned"), TaskUnassigned("t", None, ("ann",)), wake()],
    ),
    done(
        "task.reassign",
        "an attempt failed, and the next came due while it was paused",
        lambda: in_flight(report(), ProcessTask("t"), PauseTask("t"), WakeTask("t", "dispatch", later(30))).when(
            ReassignTask("t", ("bob",))
        ),
        [TaskReassigned("t", None, ("ann",), ("bob",)), wake()],
    ),
    *(
        done(
            "task.reassign",
            f"nothing was passed over: {why}",
            lambda scene=scene: scene().when(ReassignTask("t", ("bob",))),
            [*paused, TaskReassigned("t", None, ("ann",), ("bob",))],
        )
        for why, paused, scene in (
            ("its dispatch is still to come", (), lambda: planned(scheduled_at=LATE)),
            (
                "its dispatch is still to come, at work",
                (TaskPaused("t", None, "reassigned"),),
                lambda: planned(ProcessTask("t"), scheduled_at=LATE),
            ),
            (
                "it is out",
                (TaskPaused("t", None, "reassigned"),),
                lambda: sent(ProcessTask("t"), scheduled_at=PAST),
            ),
            (
                "it is under way",
                (TaskPaused("t", None, "reassigned"),),
                lambda: in_flight(ProcessTask("t"), scheduled_at=PAST),
            ),
            ("it has no channel", (), lambda: people(task(assignees=("ann",)))),
        )
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_a_scheduled_task_goes_out_by_itself_until_it_is_out() -> None:
    scene = planned(scheduled_at=PAST)
    scene.when(WakeTask("t", "dispatch", PAST)).then([requested()])
    scene.when(report(1)).then(
        [DispatchFailed("t", None, 1, "failed", "the provider did not take the task"), wake(later(30))]
    )
    assert scene.state("task", "t").dispatch is Dispatch.REQUESTED
    scene.when(WakeTask("t", "dispatch", later(30))).then([requested(2)])
    scene.when(report(2, succeeded=True)).then([DispatchSucceeded("t", None, 2)])
    state = scene.state("task", "t")
    assert (state.lifecycle, state.dispatch, state.wake, state.in_flight) == (OPEN, Dispatch.DISPATCHED, None, False)


def test_a_step_that_must_wait_keeps_its_wake_and_goes_out_once_the_earlier_is_done_with() -> None:
    scene = gated()
    assert scene.state("task", "t").wake == ("dispatch", PAST)
    scene.when(WakeTask("t", "dispatch", PAST)).then_nothing()
    scene.and_commands([CancelTask("t1")])
    scene.when(WakeTask("t", "dispatch", PAST)).then([requested(activity_id="a")])


def test_after_giving_up_the_task_has_failed_and_nothing_wakes_it() -> None:
    state = tried(3, scheduled_at=PAST).state("task", "t")
    assert (state.lifecycle, state.dispatch, state.wake, state.attempt) == (FAILED, Dispatch.GAVE_UP, None, 3)
