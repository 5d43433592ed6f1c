"""What a new task with a plan begins with, and which plans are refused."""

from __future__ import annotations

from dataclasses import replace

from domain.activity import ActivityCreated, NewTask
from domain.directory import ChangeEntry, RetireEntry
from domain.plan import Attribute, Criterion, DispatchPlan, Target
from domain.task import (
    AttributesResolved,
    CreateTask,
    ResolutionFailed,
    TargetsResolved,
    TaskAssigned,
    TaskCreated,
)
from tests.builders import LATE, activity, entry, plan, steps, task, workflow
from tests.domain.cases import Case, done, each, refused
from tests.domain.dispatch_scenes import (
    PAST,
    later,
    people,
    policy,
    wake,
)
from tests.given import given

# What can name nobody: another kind of name, numbers that are not written as ours are, spaces, an empty text.
ODD = (
    *("phone:112", "account:", "account:01", "account:0", "account:-1", "account:+1", "account:1.0", "account: 1"),
    *("account:٣", "account:9007199254740992", "account:1@x.vn", "operator:", f"operator:{'o' * 201}"),
    *("", " ", " ann", "ann@x.vn ", "\u00a0ann@x.vn", "ann\u200b@x.vn", "mailto:ann@x.vn", "a@b@c", "a/b"),
)


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
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_odd_keys_are_the_callers_own() -> None:
    odd = (Attribute("a/b", 1), Attribute("", 2), Attribute("é" * 200, 3))
    found = people().when(CreateTask("t", attributes=odd)).events[1]
    assert found == AttributesResolved("t", None, {"a/b": 1, "": 2, "é" * 200: 3})


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
