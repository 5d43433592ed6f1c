"""What asking for a dispatch, and the report of an attempt, answer."""

from __future__ import annotations

from domain.directory import ChangeEntry, RetireEntry
from domain.lifecycle import ACTIVE
from domain.plan import Attribute, Criterion, Provider
from domain.task import (
    AttributesResolved,
    CancelTask,
    CompleteTask,
    Dispatch,
    DispatchFailed,
    DispatchSucceeded,
    DispatchTask,
    FailTask,
    PauseTask,
    ProcessTask,
    ReportDispatch,
    RetryTask,
    TaskFailed,
    UnassignTask,
)
from tests.builders import plan, task
from tests.domain.cases import Case, done, each, ids_and_strangers, ignored, refused
from tests.domain.dispatch_scenes import (
    ALL,
    SAME,
    gated,
    in_flight,
    later,
    people,
    planned,
    policy,
    report,
    requested,
    sent,
    tried,
    wake,
)

CASES: list[Case] = [
    # Dispatch.
    done("task.dispatch", "the first attempt", lambda: planned().when(DispatchTask("t"), "max"), [requested()], {}),
    done(
        "task.dispatch",
        "after one that failed, before the next is due",
        lambda: in_flight(report()).when(DispatchTask("t")),
        [requested(2)],
    ),
    done(
        "task.dispatch",
        "open again, though the service gave up while somebody was at it",
        lambda: planned(
            *(DispatchTask("t"), report(1), DispatchTask("t"), report(2), DispatchTask("t")),
            *(ProcessTask("t"), report(3), UnassignTask("t")),
        ).when(DispatchTask("t")),
        [requested(4)],
    ),
    done(
        "task.dispatch",
        "what is resolved on dispatch is looked up now",
        lambda: people(
            policy("city", "ON_DISPATCH", source="commerce.address.city"),
            policy("own", "ON_DISPATCH", source="commerce.nothing", fallback="none"),
            task(commerce="c", plan=plan(attribute_keys=("city",)), attributes=(Attribute("own", "x"),)),
        ).when(DispatchTask("t")),
        [AttributesResolved("t", None, {"city": "Huế", "own": "x"}, ("own",)), requested()],
    ),
    done(
        "task.dispatch",
        "a step whose earlier ones are done",
        lambda: gated(CompleteTask("t1")).when(DispatchTask("t")),
        [requested(activity_id="a")],
    ),
    *ids_and_strangers(DispatchTask, "task.dispatch"),
    refused("task.dispatch", "forbidden", "the assignee", lambda: planned().when(DispatchTask("t"), "ann")),
    refused("task.dispatch", "forbidden", "a stranger", lambda: planned().when(DispatchTask("t"), "bob")),
    *(
        refused("task.dispatch", "no-provider", why, lambda scene=scene: scene().when(DispatchTask("t")))
        for why, scene in (
            ("nobody takes it", lambda: people(task(plan=plan("SMS")))),
            ("nobody takes it any more", lambda: planned(RetireEntry("dispatch", "EMAIL"))),
        )
    ),
    *(
        refused("task.dispatch", "not-ready", why, lambda scene=scene: scene().when(DispatchTask("t")))
        for why, scene in (
            ("no channel", lambda: people(task())),
            ("not resolved", lambda: planned(criteria=(Criterion("ANY"),))),
            ("under way", in_flight),
            ("out", sent),
            ("at work", lambda: planned(ProcessTask("t"))),
            ("paused", lambda: planned(ProcessTask("t"), PauseTask("t"))),
            ("completed", lambda: planned(CompleteTask("t"))),
            ("cancelled", lambda: planned(CancelTask("t"))),
            ("failed", lambda: tried(3)),
            ("an earlier step is open", gated),
        )
    ),
    # What came of it.
    done(
        "task.report-dispatch",
        "it is out",
        lambda: in_flight().when(report(succeeded=True, reference="msg-1")),
        [DispatchSucceeded("t", None, 1, "msg-1")],
        {},
    ),
    done(
        "task.report-dispatch",
        "it is out: who was contacted is remembered",
        lambda: people(task(commerce="c", plan=plan(criteria=(Criterion("ANY"),))), DispatchTask("t")).when(
            report(succeeded=True)
        ),
        [DispatchSucceeded("t", None, 1)],
        {ALL: "u-1", SAME: "u-1"},
    ),
    done(
        "task.report-dispatch",
        "it is out: the same was contacted over another channel before",
        lambda: (
            people(task(commerce="c", plan=plan(criteria=(Criterion("ANY"),))), DispatchTask("t"))
            .and_unique_keys({ALL: "u-1", SAME: "u-0"})
            .when(report(succeeded=True))
        ),
        [DispatchSucceeded("t", None, 1)],
        {SAME: "u-1"},
    ),
    done(
        "task.report-dispatch",
        "it failed: another attempt follows",
        lambda: in_flight().when(report(code="http-503", message="busy")),
        [DispatchFailed("t", None, 1, "http-503", "busy", False), wake(later(30))],
        {},
    ),
    done(
        "task.report-dispatch",
        "it failed again: twice the wait, as the provider says",
        lambda: (
            tried(1)
            .and_commands([ChangeEntry("dispatch", "EMAIL", {"backoff_seconds": 7}), DispatchTask("t")])
            .when(report(2))
        ),
        [
            DispatchFailed("t", None, 2, "failed", "the provider did not take the task", False),
            wake(later(14)),
        ],
    ),
    done(
        "task.report-dispatch",
        "it failed, and the provider was retired: the usual wait",
        lambda: in_flight(RetireEntry("dispatch", "EMAIL")).when(report()),
        [DispatchFailed("t", None, 1, "failed", "the provider did not take the task", False), wake(later(30))],
    ),
    done(
        "task.report-dispatch",
        "it failed a third time",
        lambda: tried(2, DispatchTask("t")).when(report(3, code="timeout", message="no answer")),
        [
            DispatchFailed("t", None, 3, "timeout", "no answer", True),
            TaskFailed("t", None, "dispatch failed: no answer"),
        ],
        {},
    ),
    done(
        "task.report-dispatch",
        "it failed a third time, while somebody is at it: the work goes on",
        lambda: tried(2, DispatchTask("t"), ProcessTask("t")).when(report(3)),
        [DispatchFailed("t", None, 3, "failed", "the provider did not take the task", True)],
        {},
    ),
    done(
        "task.report-dispatch",
        "the first attempt after a retry is the first of three again",
        lambda: tried(3, RetryTask("t"), DispatchTask("t")).when(report(4)),
        [DispatchFailed("t", None, 4, "failed", "the provider did not take the task", False), wake(later(30))],
    ),
    *(
        ignored("task.report-dispatch", why, lambda scene=scene, said=said: scene().when(said))
        for why, scene, said in (
            ("twice", sent, report(succeeded=True)),
            ("a failure after a success", sent, report()),
            ("an attempt that is over", lambda: tried(1, DispatchTask("t")), report(1, succeeded=True)),
            ("an attempt that was never made", in_flight, report(2, succeeded=True)),
            ("never sent out", planned, report(succeeded=True)),
            ("no channel", lambda: people(task()), report()),
            ("cancelled since", lambda: in_flight(CancelTask("t")), report(succeeded=True)),
            ("failed and retried since", lambda: in_flight(FailTask("t"), RetryTask("t")), report(succeeded=True)),
        )
    ),
    *ids_and_strangers(ReportDispatch, "task.report-dispatch", 1, True),
    *(
        refused(
            "task.report-dispatch",
            "forbidden",
            f"{who} is not the service",
            lambda who=who: in_flight().when(report(succeeded=True), who),
        )
        for who in ("ann", "max", "nobody")
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_whoever_works_on_a_task_is_not_stopped_by_its_dispatch() -> None:
    scene = in_flight(ProcessTask("t"))
    scene.and_commands([report(succeeded=True)])
    state = scene.state("task", "t")
    assert (state.lifecycle, state.runner, state.dispatch) == (ACTIVE, "ann", Dispatch.DISPATCHED)


def test_a_provider_is_taken_down_as_it_is_at_the_attempt() -> None:
    scene = tried(1)
    scene.and_commands(
        [ChangeEntry("dispatch", "EMAIL", {"provider": "http", "url": "https://p.example", "secret": "s"})]
    )
    event = scene.when(DispatchTask("t")).events[0]
    assert event.provider == Provider("http", "https://p.example", "s", 5.0, 30.0)
