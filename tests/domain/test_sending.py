"""What a task carries and how it goes out: its plan, its attributes, the attempts at dispatch."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from domain.activity import ActivityCreated, NewTask
from domain.decider import Claim, text_of
from domain.directory import ChangeEntry, RetireEntry
from domain.lifecycle import ACTIVE, FAILED, OPEN
from domain.plan import Attribute, Criterion, DispatchPlan, Provider, Target
from domain.task import (
    AttributesResolved,
    CancelTask,
    CompleteTask,
    CreateTask,
    Dispatch,
    DispatchFailed,
    DispatchRequested,
    DispatchSucceeded,
    DispatchTask,
    FailTask,
    PauseTask,
    ProcessTask,
    ReassignTask,
    ReportDispatch,
    ResolutionFailed,
    RetryTask,
    SubmitResult,
    TargetsResolved,
    TaskAssigned,
    TaskCreated,
    TaskFailed,
    TaskPaused,
    TaskReassigned,
    TaskRetried,
    TaskUnassigned,
    TaskWakeSet,
    UnassignTask,
    WakeTask,
)
from tests.builders import EMAIL, LATE, activity, entry, manager, member, plan, steps, task, workflow
from tests.domain.cases import Case, done, each, ids_and_strangers, ignored, refused
from tests.given import NOW, Given, given, given_commands

NOW_TEXT = text_of(NOW)
PAST = "2025-10-30T08:55:00.000+07:00"
CONSOLE = Provider("console", None, None, 5.0, 30.0)
SHOP = entry("commerce", "c", segment="gold", address={"city": "Huế"}, users=[{"id": "u-1"}])
# What can name nobody: another kind of name, numbers that are not written as ours are, spaces, an empty text.
ODD = (
    *("phone:112", "account:", "account:01", "account:0", "account:-1", "account:+1", "account:1.0", "account: 1"),
    *("account:٣", "account:9007199254740992", "account:1@x.vn", "operator:", f"operator:{'o' * 201}"),
    *("", " ", " ann", "ann@x.vn ", "\u00a0ann@x.vn", "ann\u200b@x.vn", "mailto:ann@x.vn", "a@b@c", "a/b"),
)
ALL, SAME = Claim("contacted", "c"), Claim("contacted", "c/EMAIL")


def people(*more: Any) -> Given:
    return given_commands([member("ann"), member("bob"), manager("max"), EMAIL, SHOP, *more])


def planned(*more: Any, assignees: tuple[str, ...] = ("ann",), **rest: Any) -> Given:
    return people(task(assignees=assignees, plan=plan(**rest)), *more)


def policy(key: str, strategy: str, **rest: Any) -> Any:
    return entry("attribute", key, strategy=strategy, **rest)


def report(attempt: int = 1, *, succeeded: bool = False, **rest: Any) -> ReportDispatch:
    return ReportDispatch("t", attempt, succeeded, **rest)


def in_flight(*more: Any, **rest: Any) -> Given:
    return planned(DispatchTask("t"), *more, **rest)


def sent(*more: Any, **rest: Any) -> Given:
    return in_flight(report(succeeded=True), *more, **rest)


def tried(times: int, *more: Any, **rest: Any) -> Given:
    """A task whose attempts failed so often, each asked for by hand."""
    attempts = [command for n in range(1, times + 1) for command in (DispatchTask("t"), report(n))]
    return planned(*attempts, *more, **rest)


def gated(*more: Any) -> Given:
    """Two steps, the second of which goes out by itself but must wait for the first."""
    tasks = (NewTask("t1", assignees=("ann",)), NewTask("t", plan=plan(scheduled_at=PAST)))
    return people(workflow(gating="sequential"), activity(tasks=tasks), *more)


def requested(attempt: int = 1, activity_id: str | None = None) -> DispatchRequested:
    return DispatchRequested("t", activity_id, attempt, "EMAIL", CONSOLE)


def wake(at: str | None = NOW_TEXT, kind: str = "dispatch") -> TaskWakeSet:
    return TaskWakeSet("t", None, kind, at)


def later(seconds: float) -> str:
    return text_of(NOW + timedelta(seconds=seconds))


FULL = plan(
    reason="renewal",
    scheduled_at=PAST,
    suggested_at=LATE,
    user_status="active",
    score=7,
    assignment_reason="nearest",
    criteria=(Criterion("ANY"),),
    attribute_keys=("segment",),
)

CASES: list[Case] = [
    # What a new task begins with.
    done(
        "task.create",
        "with a whole plan: targets, attributes and when it goes out",
        lambda: people(policy("segment", "UPFRONT", source="commerce.segment")).when(task(commerce="c", plan=FULL)),
        [
            TaskCreated("t", "renewal", commerce="c", plan=replace(FULL, reason=None)),
            AttributesResolved("t", None, {"segment": "gold"}),
            TargetsResolved("t", None, (Target("t1", "ANY", "RESOLVED", "u-1"),)),
            wake(PAST),
        ],
        {},
    ),
    done(
        "task.create",
        "the reason and the title are one",
        lambda: people().when(task(title="renewal", plan=plan(reason="renewal"))),
        [TaskCreated("t", "renewal", plan=plan())],
    ),
    refused(
        "task.create",
        "invalid",
        "a reason beside another title",
        lambda: people().when(task(title="Visit", plan=plan(reason="renewal"))),
        "/plan/reason",
    ),
    done(
        "task.create",
        "scheduled, over a channel that nobody takes from: it stays",
        lambda: people().when(task(plan=plan("SMS", scheduled_at=PAST))),
        [TaskCreated("t", plan=plan("SMS", scheduled_at=PAST))],
    ),
    done(
        "task.create",
        "scheduled, over a channel whose provider was retired",
        lambda: people(RetireEntry("dispatch", "EMAIL")).when(task(plan=plan(scheduled_at=PAST))),
        [TaskCreated("t", plan=plan(scheduled_at=PAST))],
    ),
    done(
        "task.create",
        "not scheduled: it goes out when it is asked for",
        lambda: people().when(task(plan=plan())),
        [TaskCreated("t", plan=plan())],
    ),
    done(
        "task.create",
        "not resolved: it does not go out before it is",
        lambda: people().when(task(plan=plan(scheduled_at=PAST, criteria=(Criterion("ANY"),)))),
        [
            TaskCreated("t", plan=plan(scheduled_at=PAST, criteria=(Criterion("ANY"),))),
            ResolutionFailed(
                "t", None, "nobody fits the criteria", (Target("t1", "ANY", "FAILED", None, "nobody fits"),), 1
            ),
            wake(later(60), "resolution"),
        ],
    ),
    done(
        "task.create",
        "a channel of the tenant's own",
        lambda: people(entry("policy", "channels", value=["FAX"])).when(task(plan=plan("FAX"))),
        [TaskCreated("t", plan=plan("FAX"))],
    ),
    done(
        "task.create",
        "an operator who is a member has it",
        lambda: people(entry("operator", "Op-1"), ChangeEntry("member", "ann", {"operator_id": "op-1"})).when(
            task(operator="Op-1")
        ),
        [TaskCreated("t", operator="Op-1"), TaskAssigned("t", None, ("ann",))],
        {},
    ),
    done(
        "task.create",
        "an operator who is a member, and others who are named",
        lambda: people(entry("operator", "op-1"), ChangeEntry("member", "ann", {"operator_id": "op-1"})).when(
            task(operator="op-1", assignees=("bob",))
        ),
        [TaskCreated("t", operator="op-1"), TaskAssigned("t", None, ("bob",))],
    ),
    done(
        "task.create",
        "an operator who is no member any more",
        lambda: people(
            entry("operator", "op-1"),
            ChangeEntry("member", "ann", {"operator_id": "op-1"}),
            RetireEntry("member", "ann"),
        ).when(task(operator="op-1")),
        [TaskCreated("t", operator="op-1")],
    ),
    done(
        "task.create",
        "people by account and by operator",
        lambda: people(ChangeEntry("member", "bob", {"operator_id": "Op-2"})).when(
            task(assignees=("account:1", "operator:oP-2", "ann"))
        ),
        [TaskCreated("t"), TaskAssigned("t", None, ("ann", "bob"))],
    ),
    refused(
        "task.create",
        "not-eligible",
        "an operator whose member is shut out",
        lambda: people(entry("operator", "op-1"), ChangeEntry("member", "ann", {"operator_id": "op-1"})).when(
            task(operator="op-1", blacklist=("ann",))
        ),
        "/operator",
    ),
    *(
        refused(
            "task.create",
            "not-found",
            f"nobody is {reference!r}",
            lambda reference=reference: people().when(task(assignees=("ann", reference))),
            "/assignees/1",
        )
        for reference in ("account:99", "operator:x", "operator:a:b", "operator:ann@x.vn", "zoe", "system", "7")
    ),
    *(
        refused(
            "task.create",
            "invalid",
            f"no name of a person: {reference!r}",
            lambda reference=reference: people().when(task(assignees=("ann", reference))),
            "/assignees/1",
        )
        for reference in ODD
    ),
    refused("task.create", "invalid", "no channel", lambda: people().when(task(plan=plan("FAX"))), "/plan/channel"),
    refused(
        "task.create",
        "invalid",
        "a standard channel that the tenant does not have",
        lambda: people(entry("policy", "channels", value=["FAX"])).when(task(plan=plan())),
        "/plan/channel",
    ),
    *(
        refused(
            "task.create",
            "invalid",
            f"{name} without offset",
            lambda name=name: people().when(task(plan=plan(**{name: "2025-10-31T08:55:00"}))),
            f"/plan/{name}",
        )
        for name in ("scheduled_at", "suggested_at")
    ),
    refused(
        "task.create",
        "invalid",
        "a role that is not named",
        lambda: people().when(task(plan=plan(criteria=(Criterion("ANY"), Criterion("ROLE_MATCH"))))),
        "/plan/criteria/1/role",
    ),
    refused(
        "task.create",
        "invalid",
        "an attribute's key with a slash",
        lambda: people().when(task(plan=plan(attribute_keys=("a", "b/c")))),
        "/plan/attribute_keys/1",
    ),
    *(
        refused("task.create", "invalid", f"too many {why}", lambda rest=rest: people().when(task(**rest)), at)
        for why, at, rest in (
            ("criteria", "/plan/criteria", {"plan": plan(criteria=(Criterion("ANY"),) * 101)}),
            (
                "attribute keys",
                "/plan/attribute_keys",
                {"plan": plan(attribute_keys=tuple(f"a{n}" for n in range(101)))},
            ),
            (
                "attributes",
                "/attributes",
                {"plan": plan(), "attributes": tuple(Attribute(f"a{n}", n) for n in range(101))},
            ),
        )
    ),
    done(
        "activity.create",
        "steps with plans, commerce, operator and attributes",
        lambda: people(
            entry("operator", "op-1"), ChangeEntry("member", "ann", {"operator_id": "op-1"}), workflow(1)
        ).when(
            activity(tasks=(NewTask("t", commerce="c", operator="op-1", attributes=(Attribute("k", 1),), plan=plan()),))
        ),
        [
            ActivityCreated("a", "Visit", "w", 1, "Visit", steps(1), "none", "wait_all", ("t",)),
            TaskCreated(
                "t",
                "Step 1",
                "a",
                0,
                "flow-1",
                commerce="c",
                operator="op-1",
                workflow_id="w",
                plan=plan(),
            ),
            TaskAssigned("t", "a", ("ann",)),
            AttributesResolved("t", "a", {"k": 1}),
        ],
    ),
    *(
        refused(
            "activity.create",
            code,
            f"a step's {name}",
            lambda name=name, value=value: people(workflow()).when(
                activity(tasks=(NewTask("t1"), NewTask("t2", **{name: value})))
            ),
            f"/tasks/1/{pointer}",
        )
        for name, value, code, pointer in (
            ("commerce", "x", "not-found", "commerce"),
            ("route", "a/b", "invalid", "route"),
            ("operator", "x", "not-found", "operator"),
            ("plan", plan("FAX"), "invalid", "plan/channel"),
        )
    ),
    refused(
        "activity.create",
        "not-eligible",
        "a step's operator is a member who is shut out",
        lambda: people(
            entry("operator", "op-1"),
            ChangeEntry("member", "ann", {"operator_id": "op-1"}),
            workflow(steps=steps(2, blacklist=("ann",))),
        ).when(activity(tasks=(NewTask("t1"), NewTask("t2", operator="op-1")))),
        "/tasks/1/operator",
    ),
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
        [AttributesResolved("t", None, {"city": "Huế", "own": "x"}), requested()],
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
        refused("task.dispatch", "not-ready", why, lambda scene=scene: scene().when(DispatchTask("t")))
        for why, scene in (
            ("no channel", lambda: people(task())),
            ("nobody takes it", lambda: people(task(plan=plan("SMS")))),
            ("nobody takes it any more", lambda: planned(RetireEntry("dispatch", "EMAIL"))),
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
            .and_claims({ALL: "u-1", SAME: "u-0"})
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


@pytest.mark.parametrize(
    ("strategy", "attribute", "upfront", "on_dispatch"),
    [
        # With a source, upfront: the source wins, then the caller, then the fallbacks.
        ({"strategy": "UPFRONT", "source": "commerce.segment"}, Attribute("k", "own"), "gold", None),
        ({"strategy": "UPFRONT", "source": "commerce.address"}, Attribute("k"), {"city": "Huế"}, None),
        ({"strategy": "UPFRONT", "source": "commerce"}, None, None, None),
        ({"strategy": "UPFRONT", "source": "commerce.segment.x.y"}, Attribute("k", "own", "else"), "own", None),
        ({"strategy": "UPFRONT", "source": "commerce."}, Attribute("k", None, "else"), "else", None),
        ({"strategy": "UPFRONT", "source": "route.name", "fallback": "last"}, None, "last", None),
        ({"strategy": "UPFRONT", "source": "route.name"}, None, None, None),
        # On dispatch: until then what the caller says or a fallback.
        ({"strategy": "ON_DISPATCH", "source": "commerce.segment"}, None, None, "gold"),
        ({"strategy": "ON_DISPATCH", "source": "commerce.segment"}, Attribute("k", 0), 0, "gold"),
        ({"strategy": "ON_DISPATCH", "source": "commerce.nothing", "fallback": 1}, None, 1, None),
        ({"strategy": "ON_DISPATCH", "source": "commerce.nothing"}, Attribute("k", None, False), False, None),
        # The caller's own: whatever source there is does not count.
        ({"strategy": "CALLER_PROVIDED"}, Attribute("k", "own"), "own", None),
        ({"strategy": "CALLER_PROVIDED", "source": "commerce.segment"}, None, None, None),
        ({"strategy": "CALLER_PROVIDED", "fallback": "last"}, Attribute("k"), "last", None),
        # No policy.
        (None, Attribute("k", None, "else"), "else", None),
        (None, Attribute("k"), None, None),
    ],
)
def test_where_an_attribute_comes_from(
    strategy: dict[str, Any] | None, attribute: Attribute | None, upfront: Any, on_dispatch: Any
) -> None:
    own = [policy("k", **strategy)] if strategy is not None else []
    new = task(
        commerce="c",
        plan=plan(attribute_keys=("k",)),
        attributes=() if attribute is None else (attribute,),
    )
    scene = people(*own, new)
    found = scene.state("task", "t").attributes
    if strategy is not None and strategy.get("source") == "commerce":
        assert found["k"]["segment"] == "gold"
        return
    assert found == ({} if upfront is None else {"k": upfront})
    events = scene.when(DispatchTask("t")).events
    wanted = [] if on_dispatch is None else [AttributesResolved("t", None, {"k": on_dispatch})]
    assert events == [*wanted, requested()]


def test_a_policy_that_was_retired_counts_no_more() -> None:
    scene = people(policy("k", "UPFRONT", source="commerce.segment"), RetireEntry("attribute", "k"))
    scene.when(task(commerce="c", plan=plan(attribute_keys=("k",)))).then(
        [TaskCreated("t", commerce="c", plan=plan(attribute_keys=("k",)))]
    )


def test_odd_keys_are_the_callers_own() -> None:
    odd = (Attribute("a/b", 1), Attribute("", 2), Attribute("é" * 200, 3))
    found = people().when(CreateTask("t", attributes=odd)).events[1]
    assert found == AttributesResolved("t", None, {"a/b": 1, "": 2, "é" * 200: 3})


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


def test_a_hundred_attributes_need_no_more_rounds_than_one() -> None:
    def rounds(count: int) -> tuple[int, int]:
        keys = tuple(f"k{number}" for number in range(count))
        scene = people(*(policy(key, "ON_DISPATCH", source="commerce.segment") for key in keys))
        created = scene.when(task(commerce="c", plan=plan(attribute_keys=keys)))
        return created.rounds, scene.when(DispatchTask("t")).rounds

    assert rounds(100) == rounds(1)


def test_ten_planned_steps_need_no_more_rounds_than_one() -> None:
    def rounds(count: int) -> int:
        shops = [entry("commerce", f"c{number}", users=[{"id": "u"}]) for number in range(count)]
        operators = [entry("operator", f"op-{number}") for number in range(count)]
        criteria = (
            Criterion("LAST_CONTACTED_SAME_CHANNEL"),
            Criterion("LAST_CONTACTED_ALL_CHANNELS"),
            Criterion("ANY"),
        )
        tasks = tuple(
            NewTask(f"t{n}", commerce=f"c{n}", operator=f"op-{n}", plan=plan(criteria=criteria)) for n in range(count)
        )
        return people(workflow(count), *shops, *operators).when(activity(tasks=tasks)).rounds

    assert rounds(10) == rounds(1)


def test_no_refusal_for_a_plan_that_says_nothing_but_its_channel() -> None:
    assert given().when(task(plan=DispatchPlan("PUSH"))).events == [TaskCreated("t", plan=DispatchPlan("PUSH"))]
