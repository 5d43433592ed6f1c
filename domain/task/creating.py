"""How a task begins, alone or as a step of an activity: what it refers to, whose it is, and what follows at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from domain import lifecycle
from domain.checks import demand_fits
from domain.decider import Context, Decision, NotLoaded, UniqueKey, checked_schedule, demand_free, instant, own_id
from domain.directory import settings
from domain.directory.eligibility import Eligibility, actor_kind
from domain.directory.lookup import known, known_hub
from domain.directory.members import MemberResolver
from domain.errors import Rejected
from domain.limits import Assignees, Fields, Flow, Id, Instant, Listed, Order, Roles, Title
from domain.plan import MANUAL, MESSAGE, WORK, Attribute, Attributes, DispatchPlan, TaskType
from domain.references import unique_key_of
from domain.streams import ID
from domain.task.assigning import TaskAssigned, resolved_assignees
from domain.task.dispatching import AttributesResolved, resolved_attributes
from domain.task.scheduling import dispatch_wake
from domain.task.state import TASK, Facts, TaskCreated
from domain.task.targeting import (
    LAST_CONTACTED,
    ResolutionDeferred,
    ResolutionFailed,
    last_contacted,
    looked_for,
    unfound,
)


@TASK.command("task.create")
@dataclass(frozen=True, slots=True)
class CreateTask:
    """Without `assignees`, the member whose operator id is `operator` has the task.

    A message has a plan, and neither people nor a route or an operator.
    """

    id: Id | None = None
    title: Title | None = None
    flow: Flow | None = None
    flow_id: Flow | None = None
    fields: Fields = field(default_factory=dict)
    assignees: Assignees = ()
    start: Instant | None = None
    end: Instant | None = None
    hub: Id | None = None
    project: Id | None = None
    commerce: Id | None = None
    route: Id | None = None
    operator: Id | None = None
    roles: Roles = ()
    whitelist: Listed = ()
    blacklist: Listed = ()
    attributes: Attributes = ()
    plan: DispatchPlan | None = None
    order_index: Order | None = None
    type: TaskType = WORK


_Event = TaskCreated


@TASK.evolves(_Event)
def _evolve(task: Facts, event: _Event) -> None:
    task.id = event.id
    task.activity_id = event.activity_id
    task.created = event
    task.title = event.title
    task.fields = event.fields
    task.start = event.start
    task.end = event.end
    task.hub = event.hub
    task.order_index = event.order_index


@TASK.decides(CreateTask)
def create(command: CreateTask, context: Context) -> Decision:
    """Decide the creation of a task that stands alone."""
    lifecycle.permit("task.create", actor_kind(context, (), command.project))
    if command.type == MESSAGE:
        _demand_message(command)
    task_id = own_id(command.id, context)
    demand_free({} if command.id is None else {task_id: "/id"}, context)
    checked_schedule(command.start, command.end, "")
    if command.hub is not None:
        known_hub(context, command.hub, "/hub")
    if command.project is not None:
        known(context, "project", command.project, "/project")
    demand_references(command, context, "")
    resolver = MemberResolver(context)
    rule = _eligibility(command, resolver)
    assignees = assignees_of(command.assignees, command.operator, resolver, rule, context, "")
    title, plan = titled(command.title, command.plan, "/plan/reason")
    created = TaskCreated(
        id=task_id,
        title=title,
        flow=command.flow,
        flow_id=command.flow_id,
        fields=command.fields,
        start=command.start,
        end=command.end,
        hub=command.hub,
        project=command.project,
        commerce=command.commerce,
        route=command.route,
        operator=command.operator,
        roles=command.roles,
        whitelist=rule.whitelist,
        blacklist=rule.blacklist,
        plan=plan,
        order_index=command.order_index,
        type=command.type,
    )
    stream = context.stream("task", task_id)
    events = [(stream, event) for event in new_task(created, assignees, command.attributes, context, "")]
    return Decision((*resolver.events, *events), resolver.unique_keys)


def _demand_message(command: CreateTask) -> None:
    if command.plan is None:
        raise Rejected("invalid", "a message goes out over a channel, so it has a plan", "/plan")
    for name in ("assignees", "route", "operator"):
        if getattr(command, name):
            raise Rejected("invalid", "nobody can have a message", f"/{name}")


def _eligibility(command: CreateTask, resolver: MemberResolver) -> Eligibility:
    if command.whitelist or command.blacklist:
        resolver.load((*command.assignees, *command.whitelist, *command.blacklist))
        # First, so that somebody whom the command itself registers may stand in its lists.
        resolver.resolve(command.assignees, "/assignees")
    whitelist = resolver.listed(command.whitelist, "/whitelist")
    return Eligibility(command.project, command.roles, whitelist, resolver.listed(command.blacklist, "/blacklist"))


def demand_references(task: Any, context: Context, pointer: str) -> None:
    """Refuse a new task that refers to what is not there, or whose plan could not be followed."""
    for kind in ("commerce", "route", "operator"):
        reference = getattr(task, kind)
        if reference is not None:
            known(context, kind, reference, f"{pointer}/{kind}")
    if task.plan is not None:
        demand_plan(task.plan, task.attributes, context, f"{pointer}/plan")


def demand_plan(plan: DispatchPlan, attributes: Sequence[Attribute], context: Context, pointer: str) -> None:
    """Refuse a plan that could not be followed."""
    settings.demand_channel(context, plan.channel, f"{pointer}/channel")
    for name in ("scheduled_at", "suggested_at"):
        if getattr(plan, name) is not None:
            instant(getattr(plan, name), f"{pointer}/{name}")
    for index, criterion in enumerate(plan.criteria or ()):
        settings.check_criterion(criterion.type, criterion.role, f"{pointer}/criteria/{index}")


def titled(title: str | None, plan: DispatchPlan | None, pointer: str) -> tuple[str | None, DispatchPlan | None]:
    """Return a new task's title and its plan without the reason, which is the title; refuses two different ones."""
    if plan is None or plan.reason is None:
        return title, plan
    if title not in (None, plan.reason):
        raise Rejected("invalid", "the reason of a plan is the task's title, and this task has another", pointer)
    return plan.reason, replace(plan, reason=None)


def assignees_of(
    wanted: tuple[str, ...],
    operator: str | None,
    resolver: MemberResolver,
    rule: Eligibility,
    context: Context,
    pointer: str,
) -> tuple[str, ...]:
    """Return the people of a new task: those that it names, else the member behind its operator, if there is one."""
    if wanted or operator is None:
        return resolved_assignees(wanted, resolver, rule, context, f"{pointer}/assignees")
    member = context.holder(*unique_key_of("operator", operator))
    try:
        return resolved_assignees(() if member is None else (member,), resolver, rule, context, pointer)
    except Rejected as refusal:
        raise Rejected(refusal.code, refusal.detail, f"{pointer}/operator") from None


def new_task(
    created: TaskCreated, assignees: tuple[str, ...], attributes: Iterable[Attribute], context: Context, pointer: str
) -> Iterable[Any]:
    """Give the events that a new task begins with."""
    yield created
    if assignees:
        yield TaskAssigned(created.id, created.activity_id, assignees)
    attributes = tuple(attributes)
    if created.plan is not None or attributes:
        yield from planned(created, attributes, context, pointer)


def planned(created: TaskCreated, attributes: Sequence[Attribute], context: Context, pointer: str) -> list[Any]:
    """Return what follows a task's creation: its targets and attributes, and when it goes out."""
    events: list[Any] = []
    provided = {attribute.key: attribute for attribute in attributes}
    keys = dict.fromkeys((*(created.plan.attribute_keys if created.plan is not None else ()), *provided))
    found, fallbacks = resolved_attributes(keys, provided, created, context, upfront=True)
    if found:
        demand_fits(found, "the task's attributes", f"{pointer}/attributes")
        events.append(AttributesResolved(created.id, created.activity_id, found, fallbacks))
    if created.plan is None:
        return events
    resolved = looked_for(created, 0, context, new=True)
    if isinstance(resolved, ResolutionFailed):
        return [*events, *unfound(resolved, context)]
    if resolved is not None:
        events.append(resolved)
    waits = isinstance(resolved, ResolutionDeferred) and resolved.strategy == MANUAL
    wake = None if waits else dispatch_wake(created, context)
    return events if wake is None else [*events, wake]


def streams_of_new(task: Any) -> Iterable[tuple[str, str]]:
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


def load_unique_keys_of_new(tasks: Iterable[Any], context: Context) -> None:
    """Look at the unique keys that several new tasks need at once, so that ten cost as few rounds as one."""
    unique_keys: dict[UniqueKey, None] = {}
    for task in tasks:
        if task.operator is not None:
            unique_keys[unique_key_of("operator", task.operator)] = None
        if task.plan is not None and task.commerce is not None:
            criteria, fallbacks, _ = settings.targeting_of(context, task.plan.channel)
            wanted = (*(task.plan.criteria or ()), *criteria, *fallbacks)
            for kind in {criterion.type for criterion in wanted} & LAST_CONTACTED:
                unique_keys[last_contacted(task.commerce, task.plan.channel, kind)] = None
    missing = [unique for unique in unique_keys if unique not in context.holders]
    if missing:
        raise NotLoaded(unique_keys=missing)
