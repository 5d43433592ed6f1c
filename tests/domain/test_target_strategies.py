"""When targets are found: at the dispatch, or never by themselves, and what a task can do until then."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from domain.decider import text_of
from domain.directory import ChangeEntry, EntryRegistered, RetireEntry
from domain.lifecycle import allowed_actions
from domain.plan import MANUAL, ON_CREATION, ON_DISPATCH, Criterion, Provider, Target
from domain.task import (
    DispatchRequested,
    DispatchTask,
    FailTask,
    ProcessTask,
    ReportDispatch,
    Resolution,
    ResolutionDeferred,
    ResolutionFailed,
    ResolveTarget,
    RetryResolution,
    RetryTask,
    TargetsResolved,
    TaskCreated,
    TaskRetried,
    TaskWakeSet,
    WakeTask,
)
from tests.builders import EMAIL, entry, manager, member, plan, task
from tests.domain.cases import Case, done, each, ignored, refused
from tests.given import NOW, Given, given, given_commands

PAST = "2025-10-30T08:55:00.000+07:00"
OWNER, BUYER = {"id": "u-owner", "role": "owner"}, {"id": "u-buyer", "role": "buyer"}
BARRED = {**OWNER, "locked": "no calls"}
ROLE = {"type": "ROLE_MATCH", "role": "owner"}
NAMED = Target("t1", MANUAL, "PENDING", strategy=MANUAL)
LATER = Target("t1", "ROLE_MATCH", "PENDING", strategy=ON_DISPATCH)
FOUND = Target("t1", "ROLE_MATCH", "RESOLVED", "u-owner", strategy=ON_DISPATCH)
MISSED = Target("t1", "ROLE_MATCH", "FAILED", None, "nobody fits", strategy=ON_DISPATCH)
REQUESTED = DispatchRequested("t", None, 1, "EMAIL", Provider("console", None, None, 5.0, 30.0))


def scene(strategy: str, *more: Any, users: Any = (OWNER,), criteria: Any = (ROLE,), **rest: Any) -> Given:
    """A task of a tenant whose targets are found by this strategy."""
    fields = {"strategy": strategy, **({"criteria": list(criteria)} if criteria else {})}
    return given_commands(
        [
            *(member("ann"), manager("max"), EMAIL),
            entry("commerce", "c", users=list(users)),
            entry("targeting", "default", **fields),
            task(commerce="c", assignees=("ann",), plan=plan(**rest)),
            *more,
        ]
    )


def created(strategy: str, tenants: Any = (ROLE,), **rest: Any) -> Any:
    """Ask for a task to be created."""
    there = given_commands(
        [
            EMAIL,
            entry("commerce", "c", users=[OWNER]),
            entry("targeting", "default", strategy=strategy, criteria=None if tenants is None else list(tenants)),
        ]
    )
    return there.when(task(commerce="c", plan=plan(**rest)))


def wake(kind: str, seconds: float = 0, at: str | None = None) -> TaskWakeSet:
    return TaskWakeSet("t", None, kind, at or text_of(NOW + timedelta(seconds=seconds)))


def new(**rest: Any) -> TaskCreated:
    return TaskCreated("t", commerce="c", plan=plan(**rest))


def by_hand(target: Target) -> Target:
    return Target(target.id, target.criterion, "RESOLVED", "u-owner", by="manual", strategy=target.strategy)


NOBODY_YET: Any = lambda *more: scene(ON_DISPATCH, *more, users=())  # noqa: E731
CASES: list[Case] = [
    done(
        "task.create",
        "nobody is looked for before the dispatch, which is made as scheduled",
        lambda: created(ON_DISPATCH, [{"type": "ANY", "priority": 2}, ROLE], scheduled_at=PAST),
        [new(scheduled_at=PAST), ResolutionDeferred("t", None, ON_DISPATCH, (LATER,)), wake("dispatch", at=PAST)],
    ),
    done(
        "task.create",
        "somebody must name the user before it is dispatched",
        lambda: created(MANUAL, None, scheduled_at=PAST),
        [new(scheduled_at=PAST), ResolutionDeferred("t", None, MANUAL, (NAMED,))],
    ),
    done(
        "task.create",
        "the caller wants no targets, whatever the strategy",
        lambda: created(MANUAL, None, criteria=()),
        [new(criteria=())],
    ),
    done(
        "task.create",
        "the caller's criteria wait for the dispatch as well",
        lambda: created(ON_DISPATCH, criteria=(Criterion("ANY"),)),
        [
            new(criteria=(Criterion("ANY"),)),
            ResolutionDeferred("t", None, ON_DISPATCH, (Target("t1", "ANY", "PENDING", strategy=ON_DISPATCH),)),
        ],
    ),
    done(
        "task.dispatch",
        "the targets are found now, and it is dispatched to them",
        lambda: scene(ON_DISPATCH).when(DispatchTask("t")),
        [TargetsResolved("t", None, (FOUND,)), REQUESTED],
    ),
    done(
        "task.dispatch",
        "by whoever the commerce has now",
        lambda: NOBODY_YET(ChangeEntry("commerce", "c", {"users": [BUYER, OWNER]})).when(DispatchTask("t")),
        [TargetsResolved("t", None, (FOUND,)), REQUESTED],
    ),
    done(
        "task.dispatch",
        "nobody is found: there is no attempt, and the search is repeated",
        lambda: NOBODY_YET().when(DispatchTask("t")),
        [ResolutionFailed("t", None, "nobody fits the criteria", (MISSED,), 1), wake("resolution", 60)],
    ),
    done(
        "task.dispatch",
        "the tenant wants no targets any more",
        lambda: scene(ON_DISPATCH, RetireEntry("targeting", "default")).when(DispatchTask("t")),
        [TargetsResolved("t", None, ()), REQUESTED],
    ),
    done(
        "task.dispatch",
        "the tenant wants somebody to name the user by now",
        lambda: scene(ON_DISPATCH, ChangeEntry("targeting", "default", {"strategy": MANUAL})).when(DispatchTask("t")),
        [ResolutionDeferred("t", None, MANUAL, (NAMED,))],
    ),
    done(
        "task.dispatch",
        "a user who was named before stays",
        lambda: scene(ON_DISPATCH, ResolveTarget("t", "t1", "u-buyer"), users=(OWNER, BUYER)).when(DispatchTask("t")),
        [REQUESTED],
    ),
    refused("task.dispatch", "not-ready", "nobody is named yet", lambda: scene(MANUAL).when(DispatchTask("t"))),
    refused("task.process", "unresolved", "nobody is named yet", lambda: scene(MANUAL).when(ProcessTask("t"), "ann")),
    done(
        "task.wake",
        "a dispatch that is due finds its targets",
        lambda: scene(ON_DISPATCH, scheduled_at=PAST).when(WakeTask("t", "dispatch", PAST)),
        [TargetsResolved("t", None, (FOUND,)), REQUESTED],
    ),
    done(
        "task.wake",
        "a dispatch that is due finds nobody, and is due again only once somebody is found",
        lambda: scene(ON_DISPATCH, users=(), scheduled_at=PAST).when(WakeTask("t", "dispatch", PAST)),
        [ResolutionFailed("t", None, "nobody fits the criteria", (MISSED,), 1), wake("resolution", 60)],
    ),
    ignored(
        "task.wake",
        "a dispatch of a task for which nobody is named",
        lambda: scene(MANUAL, scheduled_at=PAST).when(WakeTask("t", "dispatch", PAST)),
    ),
    done(
        "task.wake",
        "the tenant wants somebody to name the user by now, so the search ends",
        lambda: scene(ON_CREATION, ChangeEntry("targeting", "default", {"strategy": MANUAL}), users=(BARRED,)).when(
            WakeTask("t", "resolution", text_of(NOW + timedelta(seconds=60)))
        ),
        [ResolutionDeferred("t", None, MANUAL, (NAMED,))],
    ),
    done(
        "task.resolve-target",
        "the user is named, and it goes out as scheduled",
        lambda: scene(MANUAL, scheduled_at=PAST).when(ResolveTarget("t", "t1", "u-owner"), "max"),
        [TargetsResolved("t", None, (by_hand(NAMED),)), wake("dispatch", at=PAST)],
    ),
    done(
        "task.resolve-target",
        "the user is named before the dispatch would find one",
        lambda: scene(ON_DISPATCH, scheduled_at=PAST).when(ResolveTarget("t", "t1", "u-owner")),
        [TargetsResolved("t", None, (by_hand(LATER),)), wake("dispatch", at=PAST)],
    ),
    refused(
        "task.resolve-target",
        "target-locked",
        "a user who must not be contacted, before the dispatch",
        lambda: scene(ON_DISPATCH, users=(BARRED,)).when(ResolveTarget("t", "t1", "u-owner")),
        "/user",
    ),
    ignored(
        "task.retry-resolution",
        "somebody must still name the user",
        lambda: scene(MANUAL).when(RetryResolution("t")),
    ),
    done(
        "task.retry-resolution",
        "the tenant's criteria find the user by now",
        lambda: scene(MANUAL, ChangeEntry("targeting", "default", {"strategy": None})).when(RetryResolution("t")),
        [TargetsResolved("t", None, (Target("t1", "ROLE_MATCH", "RESOLVED", "u-owner"),))],
    ),
    done(
        "task.retry-resolution",
        "nobody was found at the dispatch; somebody is now, and it goes out as scheduled",
        lambda: NOBODY_YET(DispatchTask("t"), ChangeEntry("commerce", "c", {"users": [OWNER]})).when(
            RetryResolution("t")
        ),
        [TargetsResolved("t", None, (FOUND,))],
    ),
    refused(
        "task.retry-resolution",
        "not-unresolved",
        "nobody was looked for yet",
        lambda: scene(ON_DISPATCH).when(RetryResolution("t")),
    ),
    done(
        "task.retry",
        "nobody is looked for by itself, since somebody must name the user",
        lambda: scene(MANUAL, FailTask("t")).when(RetryTask("t")),
        [TaskRetried("t", None)],
    ),
    done(
        "directory.register",
        "targeting: somebody names the users, so there are no criteria",
        lambda: given().when(entry("targeting", "default", strategy=MANUAL)),
        [EntryRegistered("targeting", "default", {"strategy": MANUAL})],
    ),
    *(
        refused(
            "directory.register",
            "invalid",
            f"targeting: the strategy {strategy!r}",
            lambda strategy=strategy: given().when(entry("targeting", "default", strategy=strategy, criteria=[ROLE])),
            "/fields/strategy",
        )
        for strategy in ("UPFRONT", "", 7, ["MANUAL"])
    ),
    refused(
        "directory.register",
        "invalid",
        "targeting: no criteria, and they would be needed at the dispatch",
        lambda: given().when(entry("targeting", "default", strategy=ON_DISPATCH)),
        "/fields/criteria",
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_the_user_that_is_found_at_the_dispatch_is_the_one_of_every_attempt() -> None:
    there = scene(ON_DISPATCH, DispatchTask("t"), ReportDispatch("t", 1, succeeded=False))
    there.and_commands([ChangeEntry("commerce", "c", {"users": [BUYER]}), DispatchTask("t")])
    assert there.state("task", "t").targets == (FOUND,)
    there.and_commands([ReportDispatch("t", 2, succeeded=True)])
    holders = {unique.key: user for unique, user in there.holders.items() if unique.kind == "contacted"}
    assert holders == {"c": "u-owner", "c/EMAIL": "u-owner"}


@pytest.mark.parametrize(
    ("strategy", "resolution", "can", "cannot"),
    [
        (
            MANUAL,
            Resolution.PENDING,
            {"task.resolve-target", "task.retry-resolution"},
            {"task.process", "task.dispatch"},
        ),
        (
            ON_DISPATCH,
            Resolution.DEFERRED,
            {"task.resolve-target", "task.process", "task.dispatch"},
            {"task.retry-resolution"},
        ),
    ],
)
def test_what_can_be_done_meanwhile(strategy: str, resolution: Resolution, can: set[str], cannot: set[str]) -> None:
    state = scene(strategy).state("task", "t")
    assert (state.resolution, state.unresolved) == (resolution, strategy == MANUAL)
    actions = {*allowed_actions(state.lifecycle, True, "system", resolution=state.resolution.value, dispatchable=True)}
    assert can <= actions
    assert not cannot & actions
