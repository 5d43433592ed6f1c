"""Whom a task is meant for: criteria and fallbacks against its commerce's users, and what to do when nobody fits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from domain.decider import text_of
from domain.directory import ChangeEntry, EntryRegistered, RetireEntry
from domain.plan import Criterion, Target
from domain.task import (
    CancelTask,
    CompleteTask,
    DispatchTask,
    FailTask,
    ReportDispatch,
    Resolution,
    ResolutionFailed,
    ResolveTarget,
    RetryResolution,
    TargetsResolved,
    TaskWakeSet,
    WakeTask,
)
from domain.task.scheduling import RESOLUTION_WAITS
from tests.builders import EMAIL, entry, manager, member, plan, task
from tests.domain.cases import Case, done, each, ids_and_strangers, refused
from tests.given import NOW, Given, given, given_commands

PAST = "2025-10-30T08:55:00.000+07:00"
OWNER, BUYER = {"id": "u-owner", "role": "owner"}, {"id": "u-buyer", "role": "buyer"}
BARRED = {"id": "u-barred", "role": "owner", "locked": "no calls"}
ROLE, ANY = Criterion("ROLE_MATCH", role="owner"), Criterion("ANY")
NOBODY = "nobody fits the criteria"
STRANGER, NOBODYS = (ChangeEntry("commerce", "c", {"users": users}) for users in ([BARRED, BUYER], None))
CLOSED = RetireEntry("commerce", "c")
# The places that a task has which asks for an owner, when the only one is locked.
FAILED_PLACE = Target("t1", "ROLE_MATCH", "FAILED", None, "nobody fits")
LOCKED_PLACE = Target("t2", "ROLE_MATCH", "LOCKED", "u-barred", "no calls")


def people(*more: Any) -> Given:
    return given_commands([member("ann"), manager("max"), EMAIL, *more])


def made(*criteria: Criterion, users: tuple[Any, ...] = (), more: tuple[Any, ...] = (), **rest: Any) -> Given:
    shop = entry("commerce", "c", users=list(users))
    asked = {"criteria": criteria} if criteria else {}
    return people(shop, *more, task(commerce="c", assignees=("ann",), plan=plan(**asked, **rest)))


def unresolved(*more: Any, **rest: Any) -> Given:
    """A task that asks for an owner, of whom there is one, who is locked."""
    return made(ROLE, users=(BARRED,), **rest).and_commands(more)


def hired(scene: Given, owner: dict[str, str] = OWNER) -> Given:
    """From now on the commerce has an owner, who may be called unless it is said otherwise."""
    return scene.and_commands([ChangeEntry("commerce", "c", {"users": [BARRED, owner]})])


def wake(seconds: float | None = None, kind: str = "resolution", at: str | None = None) -> TaskWakeSet:
    return TaskWakeSet("t", None, kind, at if seconds is None else text_of(NOW + timedelta(seconds=seconds)))


def ended(name: str, command: Any) -> list[Case]:
    scenes = (("completed", CompleteTask("t")), ("failed", FailTask("t")), ("cancelled", CancelTask("t")))
    return [
        refused(name, "terminal", why, lambda ending=ending: unresolved(ending).when(command)) for why, ending in scenes
    ]


CASES: list[Case] = [
    done(
        "task.retry-resolution",
        "there is somebody now, and the locked one is told of",
        lambda: hired(unresolved()).when(RetryResolution("t"), "max"),
        [
            TargetsResolved(
                "t",
                None,
                (Target("t1", "ROLE_MATCH", "RESOLVED", "u-owner"), LOCKED_PLACE),
            )
        ],
        {},
    ),
    done(
        "task.retry-resolution",
        "there is somebody now: the task goes out as scheduled",
        lambda: hired(made(ROLE, scheduled_at=PAST)).when(RetryResolution("t")),
        [
            TargetsResolved(
                "t",
                None,
                (
                    Target("t1", "ROLE_MATCH", "RESOLVED", "u-owner"),
                    Target("t2", "ROLE_MATCH", "LOCKED", "u-barred", "no calls"),
                ),
            ),
            wake(kind="dispatch", at=PAST),
        ],
    ),
    done(
        "task.retry-resolution",
        "still nobody: the next try waits longer",
        lambda: unresolved().when(RetryResolution("t")),
        [
            ResolutionFailed("t", None, "everybody who fits is locked", (FAILED_PLACE, LOCKED_PLACE), 2),
            wake(300),
        ],
    ),
    done(
        "task.retry-resolution",
        "the tenant asks for nobody any more",
        lambda: (
            people(entry("targeting", "default", criteria=[{"type": "ANY"}]), task(plan=plan(scheduled_at=PAST)))
            .and_commands([RetireEntry("targeting", "default")])
            .when(RetryResolution("t"))
        ),
        [TargetsResolved("t", None, ()), wake(kind="dispatch", at=PAST)],
    ),
    done(
        "task.retry-resolution",
        "its commerce was retired",
        lambda: unresolved(RetireEntry("commerce", "c")).when(RetryResolution("t")),
        [ResolutionFailed("t", None, NOBODY, (FAILED_PLACE,), 2), wake(300)],
    ),
    *ids_and_strangers(RetryResolution, "task.retry-resolution"),
    *ended("task.retry-resolution", RetryResolution("t")),
    refused(
        "task.retry-resolution", "forbidden", "the assignee", lambda: unresolved().when(RetryResolution("t"), "ann")
    ),
    refused(
        "task.retry-resolution",
        "not-unresolved",
        "it has no channel",
        lambda: people(task()).when(RetryResolution("t")),
    ),
    refused(
        "task.retry-resolution",
        "not-unresolved",
        "it is resolved",
        lambda: made(ANY, users=(OWNER,)).when(RetryResolution("t")),
    ),
    done(
        "task.resolve-target",
        "the place of nobody gets a user; others stay as they are",
        lambda: hired(unresolved()).when(ResolveTarget("t", "t1", "u-owner"), "max"),
        [TargetsResolved("t", None, (Target("t1", "ROLE_MATCH", "RESOLVED", "u-owner", by="manual"), LOCKED_PLACE))],
        {},
    ),
    done(
        "task.resolve-target",
        "and the task goes out as scheduled",
        lambda: hired(made(ANY, scheduled_at=PAST)).when(ResolveTarget("t", "t1", "u-owner")),
        [
            TargetsResolved("t", None, (Target("t1", "ANY", "RESOLVED", "u-owner", by="manual"),)),
            wake(kind="dispatch", at=PAST),
        ],
    ),
    *(
        refused(
            "task.resolve-target",
            "not-found",
            why,
            lambda scene=scene: scene().when(ResolveTarget("t", "t1", "u-owner")),
            "/user",
        )
        for why, scene in (
            ("a user whom the commerce does not have", unresolved),
            ("a user whom the commerce has no more", lambda: hired(unresolved()).and_commands([STRANGER])),
            ("a user of a commerce that is retired", lambda: hired(unresolved()).and_commands([CLOSED])),
            ("a user of a commerce that has a list of none", lambda: unresolved(NOBODYS)),
            ("a user, of a task without a commerce", lambda: people(task(plan=plan(criteria=(ANY,))))),
        )
    ),
    refused(
        "task.resolve-target",
        "target-locked",
        "a user who was locked since",
        lambda: hired(unresolved(), OWNER | {"locked": ""}).when(ResolveTarget("t", "t1", "u-owner")),
        "/user",
    ),
    *ids_and_strangers(ResolveTarget, "task.resolve-target", "t1", "u"),
    *ended("task.resolve-target", ResolveTarget("t", "t1", "u")),
    refused(
        "task.resolve-target",
        "forbidden",
        "the assignee",
        lambda: unresolved().when(ResolveTarget("t", "t1", "u"), "ann"),
    ),
    refused(
        "task.resolve-target",
        "not-found",
        "no such target",
        lambda: unresolved().when(ResolveTarget("t", "t9", "u")),
        "/target",
    ),
    refused(
        "task.resolve-target",
        "not-found",
        "a task without targets",
        lambda: people(task()).when(ResolveTarget("t", "t1", "u")),
        "/target",
    ),
    refused(
        "task.resolve-target",
        "target-locked",
        "a target that is locked",
        lambda: unresolved().when(ResolveTarget("t", "t2", "u")),
        "/target",
    ),
    refused(
        "task.resolve-target",
        "target-locked",
        "a target that is locked, of a task that is resolved",
        lambda: hired(unresolved()).and_commands([RetryResolution("t")]).when(ResolveTarget("t", "t2", "u")),
        "/target",
    ),
    refused(
        "task.resolve-target",
        "target-locked",
        "a user who is locked",
        lambda: unresolved().when(ResolveTarget("t", "t1", "u-barred")),
        "/user",
    ),
    refused(
        "task.resolve-target",
        "not-unresolved",
        "it is resolved",
        lambda: made(ANY, users=(OWNER,)).when(ResolveTarget("t", "t1", "u")),
    ),
    *(
        refused(
            "task.resolve-target",
            "invalid",
            f"the user {user!r}",
            lambda user=user: unresolved().when(ResolveTarget("t", "t1", user)),
            "/user",
        )
        for user in ("", "a/b", "u" * 65, "ann@x.vn")
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def found(scene: Given) -> list[tuple[str, str, str | None]]:
    """Return the task's targets, short."""
    return [(target.criterion, target.status, target.user) for target in scene.state("task", "t").targets]


@pytest.mark.parametrize(
    ("criteria", "users", "wanted"),
    [
        ((ANY,), (OWNER, BUYER), [("ANY", "RESOLVED", "u-owner"), ("ANY", "RESOLVED", "u-buyer")]),
        ((ROLE,), (OWNER, BUYER), [("ROLE_MATCH", "RESOLVED", "u-owner")]),
        ((ANY,), (), [("ANY", "FAILED", None)]),
        ((ROLE, ANY), (BUYER,), [("ANY", "RESOLVED", "u-buyer")]),
        # The lowest priority first, whatever the order they are told in.
        (
            (Criterion("ANY", 2), Criterion("ROLE_MATCH", 1, "buyer")),
            (OWNER, BUYER),
            [("ROLE_MATCH", "RESOLVED", "u-buyer")],
        ),
        # Who is locked is told of, never called, and makes way for the next criterion.
        (
            (ROLE, Criterion("ANY", 1)),
            (BARRED, BUYER),
            [("ANY", "RESOLVED", "u-buyer"), ("ROLE_MATCH", "LOCKED", "u-barred")],
        ),
        ((ANY,), ({"id": "u", "locked": ""},), [("ANY", "FAILED", None), ("ANY", "LOCKED", "u")]),
        ((Criterion("LAST_CONTACTED_ALL_CHANNELS"),), (OWNER,), [("LAST_CONTACTED_ALL_CHANNELS", "FAILED", None)]),
    ],
)
def test_who_is_found(criteria: tuple[Criterion, ...], users: tuple[Any, ...], wanted: Any) -> None:
    assert found(made(*criteria, users=users)) == wanted


def test_an_empty_list_asks_for_nobody_whatever_the_tenant_says() -> None:
    scene = people(entry("targeting", "default", criteria=[{"type": "ANY"}]), task(plan=plan(criteria=())))
    assert scene.state("task", "t").resolution is Resolution.NONE


def test_the_callers_criteria_take_the_place_of_the_tenants_and_leave_the_fallbacks() -> None:
    tenants = entry(
        "targeting",
        "EMAIL",
        criteria=[{"type": "ROLE_MATCH", "role": "buyer"}],
        fallbacks=[{"type": "ROLE_MATCH", "role": "owner"}],
    )
    assert found(made(users=(OWNER, BUYER), more=(tenants,))) == [("ROLE_MATCH", "RESOLVED", "u-buyer")]
    nobody = Criterion("ROLE_MATCH", role="driver")
    assert found(made(nobody, users=(OWNER, BUYER), more=(tenants,))) == [("ROLE_MATCH", "RESOLVED", "u-owner")]


def test_who_was_contacted_last_over_this_channel_or_over_any() -> None:
    scene = people(entry("dispatch", "SMS", provider="console"), entry("commerce", "c", users=[OWNER, BUYER]))

    def contact(name: str, channel: str, role: str) -> None:
        asked = (Criterion("ROLE_MATCH", role=role),)
        new = task(name, commerce="c", plan=plan(channel, criteria=asked))
        scene.and_commands([new, DispatchTask(name), ReportDispatch(name, 1, succeeded=True)])

    contact("first", "EMAIL", "owner")
    contact("second", "SMS", "buyer")
    scene.and_commands([task("t", commerce="c", plan=plan(criteria=(Criterion("LAST_CONTACTED_SAME_CHANNEL"),)))])
    assert found(scene) == [("LAST_CONTACTED_SAME_CHANNEL", "RESOLVED", "u-owner")]
    asked = (Criterion("LAST_CONTACTED_ALL_CHANNELS"),)
    scene.when(task("u", commerce="c", plan=plan(criteria=asked)))
    assert [target.user for target in scene.state("task", "u").targets] == ["u-buyer"]


def test_who_was_contacted_last_and_left_is_not_called() -> None:
    scene = made(ANY, users=(OWNER,)).and_commands([DispatchTask("t"), ReportDispatch("t", 1, succeeded=True)])
    scene.and_commands([ChangeEntry("commerce", "c", {"users": [BUYER]})])
    asked = (Criterion("LAST_CONTACTED_SAME_CHANNEL"),)
    scene.when(task("u", commerce="c", plan=plan(criteria=asked)))
    assert [target.status for target in scene.state("task", "u").targets] == ["FAILED"]


def test_without_a_commerce_there_is_nobody() -> None:
    asked = (ANY, Criterion("LAST_CONTACTED_SAME_CHANNEL"))
    scene = people(task(plan=plan(criteria=asked)))
    assert [status for _, status, _ in found(scene)] == ["FAILED", "FAILED"]


@pytest.mark.parametrize("users", ["ann", 7, ["ann"], [{"id": 7}], [{"role": "owner"}], {"id": "u"}])
def test_odd_users_of_an_old_entry_are_nobody(users: Any) -> None:
    scene = given([EntryRegistered("commerce", "c", {"users": users})])
    scene.and_commands([task(commerce="c", plan=plan(criteria=(ANY,)))])
    assert found(scene) == [("ANY", "FAILED", None)]


def test_a_failed_resolution_is_tried_again_by_itself_until_it_gives_up() -> None:
    scene = unresolved()
    for tries, wait in enumerate((*RESOLUTION_WAITS, None), start=1):
        state = scene.state("task", "t")
        due = None if wait is None else text_of(NOW + timedelta(seconds=wait))
        assert (state.tries, state.wake) == (tries, None if due is None else ("resolution", due))
        if due is not None:
            scene.and_commands([WakeTask("t", "resolution", due)])
    # Asked for, it still looks; and who is there by then is found.
    hired(scene).and_commands([RetryResolution("t")])
    assert (scene.state("task", "t").resolution, scene.state("task", "t").tries) == (Resolution.RESOLVED, 0)


def test_the_user_that_somebody_named_is_whom_the_dispatch_contacts() -> None:
    sent = (ResolveTarget("t", "t1", "u-owner"), DispatchTask("t"), ReportDispatch("t", 1, succeeded=True))
    scene = hired(unresolved()).and_commands(sent)
    holders = {unique.key: user for unique, user in scene.holders.items() if unique.kind == "contacted"}
    assert holders == {"c": "u-owner", "c/EMAIL": "u-owner"}
