"""Whom a task is meant for: users of its commerce, found by criteria or named by somebody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, assert_never

from domain import lifecycle
from domain.compare import text_key
from domain.decider import Context, Decision, UniqueKey
from domain.directory import settings
from domain.errors import Rejected
from domain.limits import Id, Label
from domain.plan import MANUAL, ON_DISPATCH, Criterion, Target, TargetStrategy
from domain.task.recording import decides, permit, record
from domain.task.scheduling import dispatch_wake, resolution_wake
from domain.task.state import TASK, Facts, Resolution, Task, TaskCreated

LAST_CONTACTED = frozenset({"LAST_CONTACTED_ALL_CHANNELS", "LAST_CONTACTED_SAME_CHANNEL"})
_PLACE = "t{}"


@TASK.command("task.retry-resolution")
@dataclass(frozen=True, slots=True)
class RetryResolution:
    """Look for the task's targets again."""

    id: Id


@TASK.command("task.resolve-target")
@dataclass(frozen=True, slots=True)
class ResolveTarget:
    """Say which user one target is."""

    id: Id
    target: Label
    user: Id


@TASK.event("task.targets-resolved")
@dataclass(frozen=True, slots=True)
class TargetsResolved:
    id: str
    activity_id: str | None
    targets: tuple[Target, ...]


@TASK.event("task.resolution-failed")
@dataclass(frozen=True, slots=True)
class ResolutionFailed:
    """`tries` counts the attempts so far that failed in a row, from 1."""

    id: str
    activity_id: str | None
    reason: str
    targets: tuple[Target, ...] = ()
    tries: int = 1


@TASK.event("task.resolution-deferred")
@dataclass(frozen=True, slots=True)
class ResolutionDeferred:
    """Nobody is looked for yet: `targets` is found at the dispatch, or named by somebody, as its strategy says."""

    id: str
    activity_id: str | None
    strategy: TargetStrategy
    targets: tuple[Target, ...]


_Event = TargetsResolved | ResolutionFailed | ResolutionDeferred


@TASK.evolves(_Event)
def _evolve(task: Facts, event: _Event) -> None:
    match event:
        case TargetsResolved():
            task.resolution = Resolution.RESOLVED
            task.targets = event.targets
            task.tries = 0
            task.wake = None
        case ResolutionFailed():
            task.resolution = Resolution.FAILED
            task.targets = event.targets
            task.tries = event.tries
            task.wake = None
        case ResolutionDeferred():
            task.resolution = Resolution.PENDING if event.strategy == MANUAL else Resolution.DEFERRED
            task.targets = event.targets
            task.tries = 0
            task.wake = None
        case _:
            assert_never(event)


def looked_for(
    created: TaskCreated, tries: int, context: Context, *, new: bool = False
) -> TargetsResolved | ResolutionFailed | ResolutionDeferred | None:
    """Look for the users that the task is meant for; None when neither the caller nor the tenant asks for any.

    For a `new` task those that are found at the dispatch are put off; where somebody names the user, nobody is found.
    """
    plan = created.plan
    if plan is None:
        return None
    criteria, fallbacks, strategy = settings.targeting_of(context, plan.channel)
    if plan.criteria is not None:
        criteria = plan.criteria
    if not criteria and (strategy != MANUAL or plan.criteria is not None):
        return None
    if strategy == MANUAL or (strategy == ON_DISPATCH and new):
        kind = strategy if strategy == MANUAL else min(criteria, key=_priority).type
        places = _placed([Target("", kind, "PENDING")], strategy)
        return ResolutionDeferred(created.id, created.activity_id, strategy, places)
    users = settings.users_of(context, created.commerce)
    locked: dict[str, Target] = {}
    missed: list[Criterion] = []
    tried = sorted(criteria, key=_priority)
    for place, criterion in enumerate((*tried, *sorted(fallbacks, key=_priority))):
        fitting = _fitting(criterion, users, created, plan.channel, context)
        open_users = [user for user in fitting if _lock_of(user) is None]
        for user in fitting:
            why = _lock_of(user)
            if why is not None:
                locked.setdefault(user["id"], Target("", criterion.type, "LOCKED", user["id"], why))
        if open_users:
            how: Mapping[str, Any] = {"by": "fallback", "role": criterion.role} if place >= len(tried) else {}
            found = [Target("", criterion.type, "RESOLVED", user["id"], **how) for user in open_users]
            return TargetsResolved(created.id, created.activity_id, _placed([*found, *locked.values()], strategy))
        missed.append(criterion)
    failed = [Target("", criterion.type, "FAILED", None, "nobody fits") for criterion in missed]
    reason = "everybody who fits is locked" if locked else "nobody fits the criteria"
    targets = _placed([*failed, *locked.values()], strategy)
    return ResolutionFailed(created.id, created.activity_id, reason, targets, tries + 1)


def _priority(criterion: Criterion) -> int:
    return criterion.priority


def _placed(targets: Iterable[Target], strategy: TargetStrategy) -> tuple[Target, ...]:
    return tuple(
        replace(target, id=_PLACE.format(number), strategy=strategy) for number, target in enumerate(targets, start=1)
    )


def _fitting(
    criterion: Criterion, users: Sequence[Mapping[str, Any]], created: TaskCreated, channel: str, context: Context
) -> Sequence[Mapping[str, Any]]:
    if criterion.type == "ANY":
        return users
    if criterion.type == "ROLE_MATCH":
        role = text_key(criterion.role or "")
        return [user for user in users if text_key(user.get("role") or "") == role]
    if created.commerce is None:
        return ()
    last = context.holder(*last_contacted(created.commerce, channel, criterion.type))
    return [user for user in users if user["id"] == last]


def last_contacted(commerce: str, channel: str, kind: str) -> UniqueKey:
    """Return the unique key that says whom of a commerce a dispatch reached last, by the criterion that asks for it."""
    return UniqueKey("contacted", commerce if kind == "LAST_CONTACTED_ALL_CHANNELS" else f"{commerce}/{channel}")


def contacted(task: Task) -> dict[UniqueKey, str | None]:
    """Return the unique keys that say who of the commerce was contacted last, over any channel and over this one."""
    plan, commerce = task.created.plan, task.created.commerce
    users = [target.user for target in task.targets if target.status == "RESOLVED"]
    if plan is None or commerce is None or not users:
        return {}
    kinds = sorted(LAST_CONTACTED)
    return {last_contacted(commerce, plan.channel, kind): users[0] for kind in kinds}


def demand_unresolved(task: Task) -> None:
    """Refuse unless the task's targets wait to be resolved."""
    if not task.unresolved:
        raise Rejected("not-unresolved", "the task's targets are not unresolved")


def retry_resolution(task: Task, context: Context) -> list[Any]:
    """Return what looking for the targets again gives."""
    # Asked for once more, a criterion that was taken away since leaves nothing to look for.
    found = looked_for(task.created, task.tries, context)
    if isinstance(found, ResolutionFailed):
        return unfound(found, context)
    if isinstance(found, ResolutionDeferred):
        return [found] if task.resolution is not Resolution.PENDING else []
    resolved = found if found is not None else TargetsResolved(task.id, task.activity_id, ())
    wake = dispatch_wake(task.created, context)
    return [resolved] if wake is None else [resolved, wake]


def unfound(failed: ResolutionFailed, context: Context) -> list[Any]:
    """Return what follows when nobody was found: the search is repeated later, unless it was often enough."""
    wake = resolution_wake(failed.id, failed.activity_id, failed.tries, context)
    return [failed] if wake is None else [failed, wake]


@decides(RetryResolution)
def _retry_resolution(command: RetryResolution, task: Task, context: Context) -> Decision:
    permit("task.retry-resolution", task, context)
    lifecycle.transition("task.retry-resolution", task.lifecycle)
    demand_unresolved(task)
    return record(task, context, *retry_resolution(task, context))


@decides(ResolveTarget)
def _resolve_target(command: ResolveTarget, task: Task, context: Context) -> Decision:
    permit("task.resolve-target", task, context)
    lifecycle.transition("task.resolve-target", task.lifecycle)
    resolved = named(task, command.target, command.user, context)
    wake = dispatch_wake(task.created, context)
    return record(task, context, *((resolved,) if wake is None else (resolved, wake)))


def named(task: Task, target_id: str, user: str, context: Context) -> TargetsResolved:
    """Return the targets when one's user is named; with it the task is resolved."""
    target = next((each for each in task.targets if each.id == target_id), None)
    if target is None:
        raise Rejected("not-found", f"the task has no target {target_id}", "/target")
    if target.status == "LOCKED":
        raise Rejected("target-locked", f"target {target_id} is locked: {target.reason}", "/target")
    if task.resolution is not Resolution.DEFERRED:
        demand_unresolved(task)
    _demand_callable(user, task, context)
    found = replace(target, status="RESOLVED", user=user, reason=None, by="manual")
    targets = tuple(found if each.id == target_id else each for each in task.targets)
    return TargetsResolved(task.id, task.activity_id, targets)


def _demand_callable(user: str, task: Task, context: Context) -> None:
    """Refuse a user whom the task's commerce does not have now, or who is locked, now or when targets were found."""
    commerce = task.created.commerce
    found = next((each for each in settings.users_of(context, commerce) if each["id"] == user), None)
    if found is None:
        whose = f"commerce {commerce} has no user {user}" if commerce is not None else "the task has no commerce"
        raise Rejected("not-found", whose, "/user")
    locked = next((each for each in task.targets if each.status == "LOCKED" and each.user == user), None)
    reason = _lock_of(found) if locked is None else locked.reason
    if reason is not None:
        raise Rejected("target-locked", f"user {user} is locked: {reason}", "/user")


def _lock_of(user: Mapping[str, Any]) -> str | None:
    """Return why a user may not be called, or None."""
    return None if user.get("locked") is None else user["locked"] or "locked"
