"""How a task goes out: what it carries, the attempts at dispatch, and when it wakes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from domain import configuration, lifecycle
from domain.checks import demand_fits
from domain.compare import same_json
from domain.configuration import CALLER_PROVIDED, ON_DISPATCH
from domain.decider import Claim, Context, Decision, NotLoaded, instant, text_of
from domain.errors import Rejected
from domain.lifecycle import OPEN, TERMINAL
from domain.plan import Attribute, DispatchPlan
from domain.references import claim_of
from domain.streams import ID
from domain.task.events import (
    AttributesResolved,
    DispatchFailed,
    DispatchRequested,
    DispatchSucceeded,
    ResolutionFailed,
    TargetsResolved,
    TaskCreated,
    TaskFailed,
    TaskWakeSet,
)
from domain.task.gating import is_blocked
from domain.task.state import Dispatch, Task
from domain.task.targets import (
    LAST_CONTACTED,
    contacted,
    is_unresolved,
    last_contacted,
    looked_for,
    named,
)

MOST_ATTEMPTS = 3
# Seconds until a failed resolution is tried again by itself; after the last one only when it is asked for.
RESOLUTION_WAITS = (60, 300, 1800, 7200, 43200)
# Seconds until a dispatch that is due looks again whether its channel has a provider.
PROVIDER_WAIT = 300


def reads(task: Any) -> Iterable[tuple[str, str]]:
    """Name the streams that a new task is sure to look at beside its own."""
    for kind in ("project", "commerce", "route", "operator"):
        reference = getattr(task, kind, None)
        if reference is not None:
            yield kind, reference
    plan: DispatchPlan | None = task.plan
    if plan is not None:
        yield "policy", "channels"
        yield "targeting", plan.channel
        yield "targeting", "default"
        yield "dispatch", plan.channel
    for key in (*(plan.attribute_keys if plan is not None else ()), *(each.key for each in task.attributes)):
        if ID.match(key):
            yield "attribute", key


def load(tasks: Iterable[Any], context: Context) -> None:
    """Look at the claims that several new tasks need at once, so that ten cost as few rounds as one."""
    claims: dict[Claim, None] = {}
    for task in tasks:
        if task.operator is not None:
            claims[claim_of("operator", task.operator)] = None
        if task.plan is not None and task.commerce is not None:
            wanted = (*(task.plan.criteria or ()), *chain(*configuration.targeting_of(context, task.plan.channel)))
            for kind in {criterion.type for criterion in wanted} & LAST_CONTACTED:
                claims[last_contacted(task.commerce, task.plan.channel, kind)] = None
    missing = [claim for claim in claims if claim not in context.holders]
    if missing:
        raise NotLoaded(claims=missing)


def demand_plan(plan: DispatchPlan, attributes: Sequence[Attribute], context: Context, pointer: str) -> None:
    """Refuse a plan that could not be followed."""
    configuration.demand_channel(context, plan.channel, f"{pointer}/channel")
    for name in ("scheduled_at", "suggested_at"):
        if getattr(plan, name) is not None:
            instant(getattr(plan, name), f"{pointer}/{name}")
    for index, criterion in enumerate(plan.criteria or ()):
        configuration.check_criterion(criterion.type, criterion.role, f"{pointer}/criteria/{index}")


def titled(title: str | None, plan: DispatchPlan | None, pointer: str) -> tuple[str | None, DispatchPlan | None]:
    """Return a new task's title and its plan without the reason, which is the title; refuses two different ones."""
    if plan is None or plan.reason is None:
        return title, plan
    if title not in (None, plan.reason):
        raise Rejected("invalid", "the reason of a plan is the task's title, and this task has another", pointer)
    return plan.reason, replace(plan, reason=None)


def planned(created: TaskCreated, attributes: Sequence[Attribute], context: Context, pointer: str) -> list[Any]:
    """Return what follows a task's creation: its targets and attributes, and when it goes out."""
    events: list[Any] = []
    provided = {attribute.key: attribute for attribute in attributes}
    keys = dict.fromkeys((*(created.plan.attribute_keys if created.plan is not None else ()), *provided))
    found = _attributes(keys, provided, created, context, upfront=True)
    if found:
        demand_fits(found, "the task's attributes", f"{pointer}/attributes")
        events.append(AttributesResolved(created.id, created.activity_id, found))
    if created.plan is None:
        return events
    resolved = looked_for(created, 0, context)
    if resolved is not None:
        events.append(resolved)
    if isinstance(resolved, ResolutionFailed):
        wake = _resolution_wake(resolved, context)
    else:
        wake = _dispatch_wake(created, context)
    return events if wake is None else [*events, wake]


def _dispatch_wake(
    created: TaskCreated, context: Context, *, again: bool = False, anyhow: bool = False
) -> TaskWakeSet | None:
    """Return when the task goes out by itself: as scheduled, if its channel has a provider by now.

    A time that has passed is due now when it goes out `again`; `anyhow` is for one that was never scheduled.
    """
    plan = created.plan
    if plan is None or (plan.scheduled_at is None and not anyhow):
        return None
    if configuration.provider_of(context, plan.channel) is None:
        return None
    at = plan.scheduled_at
    if at is None or (again and instant(at, "/plan/scheduled_at") < context.now):
        at = text_of(context.now)
    return TaskWakeSet(created.id, created.activity_id, "dispatch", at)


def _resolution_wake(failed: ResolutionFailed, context: Context) -> TaskWakeSet | None:
    if failed.tries > len(RESOLUTION_WAITS):
        return None
    at = context.now + timedelta(seconds=RESOLUTION_WAITS[failed.tries - 1])
    return TaskWakeSet(failed.id, failed.activity_id, "resolution", text_of(at))


def retry_resolution(task: Task, context: Context) -> list[Any]:
    """Return what looking for the targets again gives."""
    # Asked for once more, a criterion that was taken away since leaves nothing to look for.
    found = looked_for(task.created, task.tries, context)
    if isinstance(found, ResolutionFailed):
        wake = _resolution_wake(found, context)
        return [found] if wake is None else [found, wake]
    resolved = found if found is not None else TargetsResolved(task.id, task.activity_id, ())
    wake = _dispatch_wake(task.created, context)
    return [resolved] if wake is None else [resolved, wake]


def resolve_target(task: Task, target_id: str, user: str, context: Context) -> list[Any]:
    """Return what naming one target's user gives."""
    resolved = named(task, target_id, user, context)
    wake = _dispatch_wake(task.created, context)
    return [resolved] if wake is None else [resolved, wake]


# Attributes.


def _attributes(
    keys: Collection[str],
    provided: Mapping[str, Attribute],
    created: TaskCreated,
    context: Context,
    *,
    upfront: bool,
) -> dict[str, Any]:
    """Return the values of these keys, each by its policy; what has no value anywhere is absent.

    Of keys that are resolved on dispatch only what the caller says and the fallbacks count before it.
    """
    found: dict[str, Any] = {}
    policies = configuration.attribute_policies(context, keys)
    for key in keys:
        attribute = provided.get(key, Attribute(key))
        policy = policies.get(key)
        strategy = CALLER_PROVIDED if policy is None else policy["strategy"]
        values = [attribute.value, attribute.fallback]
        if policy is not None:
            values.append(policy.get("fallback"))
            if strategy != CALLER_PROVIDED and (strategy != ON_DISPATCH or not upfront):
                values.insert(0, _from_source(policy["source"], created, context))
        value = next((value for value in values if value is not None), None)
        if value is not None:
            found[key] = value
    return found


def _from_source(source: str, created: TaskCreated, context: Context) -> Any:
    kind, *path = source.split(".")
    entry_id: str | None = getattr(created, kind)
    value: Any = configuration.entry_fields(context, kind, entry_id) if entry_id is not None else None
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else value


# Dispatch.


def is_ready(task: Task) -> bool:
    """Tell whether the task can be sent out now: open, resolved, not out already, and no attempt under way."""
    waits = task.dispatch is not Dispatch.DISPATCHED and not task.in_flight
    return task.lifecycle is OPEN and task.created.plan is not None and waits and not is_unresolved(task)


def request_dispatch(task: Task, context: Context) -> list[Any]:
    """Return what asking for a dispatch gives, or refuse `not-ready`."""
    plan = task.created.plan
    if plan is None or not is_ready(task):
        raise Rejected("not-ready", _why_not_ready(task))
    if is_blocked(task, context):
        raise Rejected("not-ready", "an earlier step is not done with")
    provider = configuration.provider_of(context, plan.channel)
    if provider is None:
        raise Rejected("not-ready", f"channel {plan.channel} has no provider to dispatch to")
    asked = dict.fromkeys((*plan.attribute_keys, *task.attributes))
    policies = configuration.attribute_policies(context, asked)
    late = [key for key in asked if key in policies and policies[key]["strategy"] == ON_DISPATCH]
    provided = {key: Attribute(key, fallback=task.attributes.get(key)) for key in late}
    found = _attributes(late, provided, task.created, context, upfront=False)
    events: list[Any] = []
    if any(not same_json(task.attributes.get(key), value) for key, value in found.items()):
        demand_fits({**task.attributes, **found}, "the task's attributes", "")
        events.append(AttributesResolved(task.id, task.activity_id, found))
    requested = DispatchRequested(task.id, task.activity_id, task.attempt + 1, plan.channel, provider)
    return [*events, requested]


def _why_not_ready(task: Task) -> str:
    if task.lifecycle is not OPEN:
        return f"the task is {task.lifecycle.value}"
    if task.created.plan is None:
        return "the task has no channel"
    if is_unresolved(task):
        return "the task's targets are not resolved"
    return "the task is dispatched" if task.dispatch is Dispatch.DISPATCHED else "a dispatch is under way"


def report(command: Any, task: Task, context: Context) -> Decision:
    """Record what came of an attempt; one that is over, or of a task that has ended, is nobody's concern any more."""
    if not task.in_flight or task.attempt != command.attempt or task.lifecycle in TERMINAL:
        return Decision()
    stream = context.stream("task", task.id)
    if command.succeeded:
        done = DispatchSucceeded(task.id, task.activity_id, task.attempt, command.reference)
        claims = {claim: user for claim, user in contacted(task).items() if context.holder(*claim) != user}
        return Decision(((stream, done),), claims)
    final = task.attempt - task.first_attempt >= MOST_ATTEMPTS
    code, message = command.code or "failed", command.message or "the provider did not take the task"
    failed = DispatchFailed(task.id, task.activity_id, task.attempt, code, message, final)
    events: list[Any] = [failed]
    if not final:
        events.append(TaskWakeSet(task.id, task.activity_id, "dispatch", text_of(_next_attempt(task, context))))
    elif task.lifecycle is OPEN:
        events.append(TaskFailed(task.id, task.activity_id, f"dispatch failed: {message}"))
    return Decision(tuple((stream, event) for event in events))


def _next_attempt(task: Task, context: Context) -> datetime:
    assert task.created.plan is not None  # noqa: S101
    provider = configuration.provider_of(context, task.created.plan.channel)
    base = provider.backoff if provider is not None else 30.0
    return context.now + timedelta(seconds=base * 2 ** (task.attempt - task.first_attempt - 1))


def comes_later(kind: str, task: Task, context: Context) -> bool:
    """Tell whether a deadline stays as it is: a step that waits for earlier ones goes out once they are done with."""
    return kind == "dispatch" and is_ready(task) and is_blocked(task, context)


def wake_dispatch(task: Task, context: Context) -> list[Any]:
    """Return what a dispatch that came due gives; what cannot go out now is not tried until it is open again."""
    try:
        return request_dispatch(task, context)
    except Rejected:
        # All that a task that is ready can lack is a provider, which may be on its way.
        again = text_of(context.now + timedelta(seconds=PROVIDER_WAIT)) if is_ready(task) else None
        return [TaskWakeSet(task.id, task.activity_id, "dispatch", again)]


def retried(task: Task, context: Context) -> list[Any]:
    """Return what follows a retry: a task with a plan is resolved, or goes out, again by itself."""
    if is_unresolved(task):
        return [TaskWakeSet(task.id, task.activity_id, "resolution", text_of(context.now))]
    wake = _dispatch_wake(task.created, context, again=True)
    return [] if wake is None else [wake]


def back_in_line(task: Task, context: Context) -> list[Any]:
    """Return what follows when a task that somebody had begun is open again: a dispatch that was passed over is due."""
    waits = task.dispatch is Dispatch.NONE or (task.dispatch is Dispatch.REQUESTED and not task.in_flight)
    if task.lifecycle is OPEN or task.wake is not None or not waits or is_unresolved(task):
        return []
    wake = _dispatch_wake(task.created, context, again=True, anyhow=task.dispatch is Dispatch.REQUESTED)
    return [] if wake is None else [wake]


def permit_system(command: str, context: Context) -> None:
    """Refuse everybody but the service itself."""
    lifecycle.permit(command, lifecycle.SYSTEM if context.actor == lifecycle.SYSTEM else lifecycle.OTHER)
