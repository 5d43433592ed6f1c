"""How a task begins, alone or as a step of an activity: what it refers to, whose it is, and what follows at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from domain import lifecycle
from domain.decider import (
    Context,
    Decision,
    checked_schedule,
    demand_free,
    own_id,
)
from domain.directory import Eligibility, actor_kind, known, known_hub
from domain.errors import Rejected
from domain.people import People, demand_eligible
from domain.plan import Attribute
from domain.references import claim_of
from domain.task import (
    CreateTask,
    TaskAssigned,
    TaskCreated,
    sending,
)


def create(command: CreateTask, context: Context) -> Decision:
    """Decide the creation of a task that stands alone."""
    lifecycle.permit("task.create", actor_kind(context, (), command.project))
    task_id = own_id(command.id, context)
    demand_free({} if command.id is None else {task_id: "/id"}, context)
    checked_schedule(command.start, command.end, "")
    if command.hub is not None:
        known_hub(context, command.hub, "/hub")
    if command.project is not None:
        known(context, "project", command.project, "/project")
    demand_references(command, context, "")
    people = People(context)
    rule = _eligibility(command, people)
    assignees = assignees_of(command.assignees, command.operator, people, rule, context, "")
    title, plan = sending.titled(command.title, command.plan, "/plan/reason")
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
    )
    stream = context.stream("task", task_id)
    events = [(stream, event) for event in new_task(created, assignees, command.attributes, context, "")]
    return Decision((*people.events, *events), people.claims)


def _eligibility(command: CreateTask, people: People) -> Eligibility:
    if command.whitelist or command.blacklist:
        people.load((*command.assignees, *command.whitelist, *command.blacklist))
        # First, so that somebody whom the command itself registers may stand in its lists.
        people.resolve(command.assignees, "/assignees")
    whitelist = people.listed(command.whitelist, "/whitelist")
    return Eligibility(command.project, command.roles, whitelist, people.listed(command.blacklist, "/blacklist"))


def demand_references(task: Any, context: Context, pointer: str) -> None:
    """Refuse a new task that refers to what is not there, or whose plan could not be followed."""
    for kind in ("commerce", "route", "operator"):
        reference = getattr(task, kind)
        if reference is not None:
            known(context, kind, reference, f"{pointer}/{kind}")
    if task.plan is not None:
        sending.demand_plan(task.plan, task.attributes, context, f"{pointer}/plan")


def assignees_of(
    wanted: tuple[str, ...], operator: str | None, people: People, rule: Eligibility, context: Context, pointer: str
) -> tuple[str, ...]:
    """Return the people of a new task: those that it names, else the member behind its operator, if there is one."""
    if wanted or operator is None:
        return resolved_assignees(wanted, people, rule, context, f"{pointer}/assignees")
    member = context.holder(*claim_of("operator", operator))
    try:
        return resolved_assignees(() if member is None else (member,), people, rule, context, pointer)
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
        yield from sending.planned(created, attributes, context, pointer)


def resolved_assignees(
    references: Iterable[str],
    people: People,
    rule: Eligibility,
    context: Context,
    pointer: str,
    standing: Iterable[str] = (),
) -> tuple[str, ...]:
    """Return the member ids of people who may have the task, registering e-mails not known yet.

    Who has it by now, `standing`, and was retired may be named again.
    """
    members = people.resolve(references, pointer, standing)
    demand_eligible(context, people, members, rule, pointer)
    return members
