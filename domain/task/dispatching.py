"""How a task goes out: the attributes that it carries, and the attempts at dispatch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, assert_never

from domain.checks import demand_fits
from domain.compare import same_json
from domain.decider import Context, Decision, text_of
from domain.directory import settings
from domain.directory.settings import CALLER_PROVIDED, ON_DISPATCH
from domain.errors import Rejected
from domain.lifecycle import OPEN, TERMINAL
from domain.limits import Count, Id, Said
from domain.plan import Attribute, Provider, TaskType
from domain.task.ending import TaskFailed
from domain.task.gating import is_blocked
from domain.task.recording import decides, permit, permit_system, record
from domain.task.scheduling import TaskWakeSet
from domain.task.state import TASK, Dispatch, Facts, Resolution, Task, TaskCreated
from domain.task.targeting import (
    ResolutionDeferred,
    ResolutionFailed,
    TargetsResolved,
    contacted,
    looked_for,
    unfound,
)

MAX_ATTEMPTS = 3
# Seconds until a dispatch that is due looks again whether its channel has a provider.
PROVIDER_WAIT = 300


@TASK.command("task.dispatch")
@dataclass(frozen=True, slots=True)
class DispatchTask:
    """Send the task out over its channel; with a `type`, only if it is of that type."""

    id: Id
    type: TaskType | None = None


@TASK.command("task.report-dispatch")
@dataclass(frozen=True, slots=True)
class ReportDispatch:
    """Say what came of an attempt; the service's own word, which nobody else may give."""

    id: Id
    attempt: Count
    succeeded: bool
    reference: Said | None = None
    code: Said | None = None
    message: Said | None = None


@TASK.event("task.attributes-resolved")
@dataclass(frozen=True, slots=True)
class AttributesResolved:
    """`fallbacks` are the keys whose value is one to fall back on."""

    id: str
    activity_id: str | None
    attributes: dict[str, Any]
    fallbacks: tuple[str, ...] = ()


@TASK.event("task.dispatch-requested")
@dataclass(frozen=True, slots=True)
class DispatchRequested:
    """`attempt` counts all attempts of the task's life, from 1."""

    id: str
    activity_id: str | None
    attempt: int
    channel: str
    provider: Provider


@TASK.event("task.dispatch-succeeded")
@dataclass(frozen=True, slots=True)
class DispatchSucceeded:
    """`reference` is the provider's own word for what it took."""

    id: str
    activity_id: str | None
    attempt: int
    reference: str | None = None


@TASK.event("task.dispatch-failed")
@dataclass(frozen=True, slots=True)
class DispatchFailed:
    """`final` says that no attempt follows."""

    id: str
    activity_id: str | None
    attempt: int
    code: str
    message: str
    final: bool = False


_Event = AttributesResolved | DispatchRequested | DispatchSucceeded | DispatchFailed


@TASK.evolves(_Event)
def _evolve(task: Facts, event: _Event) -> None:
    match event:
        case AttributesResolved():
            task.attributes = {**task.attributes, **event.attributes}
        case DispatchRequested():
            task.dispatch = Dispatch.REQUESTED
            task.attempt = event.attempt
            task.in_flight = True
            task.wake = None
        case DispatchSucceeded():
            task.dispatch = Dispatch.DISPATCHED
            task.in_flight = False
        case DispatchFailed():
            task.dispatch = Dispatch.GAVE_UP if event.final else Dispatch.REQUESTED
            task.in_flight = False
        case _:
            assert_never(event)


@decides(DispatchTask)
def _dispatch(command: DispatchTask, task: Task, context: Context) -> Decision:
    permit("task.dispatch", task, context)
    if command.type not in (None, task.created.type):
        raise Rejected("not-ready", f"it is a {task.created.type}, and no {command.type}")
    return record(task, context, *request_dispatch(task, context))


def is_ready(task: Task) -> bool:
    """Tell whether the task can be sent out now: open, resolved, not out already, and no attempt under way."""
    waits = task.dispatch is not Dispatch.DISPATCHED and not task.in_flight
    return task.lifecycle is OPEN and task.created.plan is not None and waits and not task.unresolved


def request_dispatch(task: Task, context: Context) -> list[Any]:
    """Return what asking for a dispatch gives, or refuse `not-ready`.

    Targets that are found at the dispatch are looked for here; without any there is no attempt.
    """
    plan = task.created.plan
    if plan is None or not is_ready(task):
        raise Rejected("not-ready", _why_not_ready(task))
    if is_blocked(task, context):
        raise Rejected("not-ready", "an earlier step is not done with")
    provider = settings.provider_of(context, plan.channel)
    if provider is None:
        raise Rejected("no-provider", f"channel {plan.channel} has no provider to dispatch to")
    asked = dict.fromkeys((*plan.attribute_keys, *task.attributes))
    policies = settings.attribute_policies(context, asked)
    late = [key for key in asked if key in policies and policies[key]["strategy"] == ON_DISPATCH]
    provided = {key: Attribute(key, fallback=task.attributes.get(key)) for key in late}
    found, fallbacks = resolved_attributes(late, provided, task.created, context, upfront=False)
    events: list[Any] = []
    if task.resolution is Resolution.DEFERRED:
        targets = looked_for(task.created, task.tries, context)
        if isinstance(targets, ResolutionFailed):
            return unfound(targets, context)
        if isinstance(targets, ResolutionDeferred):
            # The tenant wants somebody to name the user by now.
            return [targets]
        events.append(targets or TargetsResolved(task.id, task.activity_id, ()))
    if any(not same_json(task.attributes.get(key), value) for key, value in found.items()):
        demand_fits({**task.attributes, **found}, "the task's attributes", "")
        events.append(AttributesResolved(task.id, task.activity_id, found, fallbacks))
    requested = DispatchRequested(task.id, task.activity_id, task.attempt + 1, plan.channel, provider)
    return [*events, requested]


def _why_not_ready(task: Task) -> str:
    if task.lifecycle is not OPEN:
        return f"the task is {task.lifecycle.value}"
    if task.created.plan is None:
        return "the task has no channel"
    if task.unresolved:
        return "the task's targets are not resolved"
    return "the task is dispatched" if task.dispatch is Dispatch.DISPATCHED else "a dispatch is under way"


@decides(ReportDispatch)
def report(command: ReportDispatch, task: Task, context: Context) -> Decision:
    """Record what came of an attempt; one that is over, or of a task that has ended, is nobody's concern any more."""
    permit_system("task.report-dispatch", context)
    if not task.in_flight or task.attempt != command.attempt or task.lifecycle in TERMINAL:
        return Decision()
    stream = context.stream("task", task.id)
    if command.succeeded:
        done = DispatchSucceeded(task.id, task.activity_id, task.attempt, command.reference)
        unique_keys = {unique: user for unique, user in contacted(task).items() if context.holder(*unique) != user}
        return Decision(((stream, done),), unique_keys)
    final = task.attempt - task.first_attempt >= MAX_ATTEMPTS
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
    provider = settings.provider_of(context, task.created.plan.channel)
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


def resolved_attributes(
    keys: Collection[str],
    provided: Mapping[str, Attribute],
    created: TaskCreated,
    context: Context,
    *,
    upfront: bool,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the values of these keys, each by its policy, and the keys that fell back; what has no value is absent.

    Of keys that are resolved on dispatch only what the caller says and the fallbacks count before it.
    """
    found: dict[str, Any] = {}
    fallbacks: list[str] = []
    policies = settings.attribute_policies(context, keys)
    for key in keys:
        attribute = provided.get(key, Attribute(key))
        policy = policies.get(key)
        strategy = CALLER_PROVIDED if policy is None else policy["strategy"]
        values = [attribute.value]
        if policy is not None and strategy != CALLER_PROVIDED and (strategy != ON_DISPATCH or not upfront):
            values.insert(0, _from_source(policy["source"], created, context))
        value = next((value for value in values if value is not None), None)
        if value is None:
            value = attribute.fallback if attribute.fallback is not None else (policy or {}).get("fallback")
            fallbacks += [key] if value is not None else []
        if value is not None:
            found[key] = value
    return found, tuple(fallbacks)


def _from_source(source: str, created: TaskCreated, context: Context) -> Any:
    kind, *path = source.split(".")
    entry_id: str | None = getattr(created, kind)
    value: Any = settings.entry_fields(context, kind, entry_id) if entry_id is not None else None
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return dict(value) if isinstance(value, Mapping) else value
