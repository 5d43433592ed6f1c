"""The creation of an activity: a task for each step of its workflow, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

from domain.activity.state import ACTIVITY, ActivityCreated, LeftOut
from domain.decider import (
    Context,
    Decision,
    UniqueKey,
    checked_schedule,
    demand_free,
    own_id,
)
from domain.directory.eligibility import actor_kind
from domain.directory.lookup import known_hub
from domain.directory.members import MemberResolver
from domain.errors import Rejected
from domain.lifecycle import permit
from domain.limits import MAX_STEPS, Assignees, Fields, Id, Instant, Items, Order, Title
from domain.plan import Attributes, DispatchPlan, TaskFieldMapping
from domain.steps import Step, step_rule
from domain.task.creating import (
    assignees_of,
    demand_references,
    load_unique_keys_of_new,
    new_task,
    titled,
)
from domain.task.state import TaskCreated
from domain.workflow import Workflow, use_of


@dataclass(frozen=True, slots=True)
class NewTask:
    """One step's task. Without `assignees` it goes to the step's default people, else to the member behind `operator`.

    An empty list means nobody, on purpose.
    """

    id: Id | None = None
    title: Title | None = None
    fields: Fields = field(default_factory=dict)
    assignees: Assignees | None = None
    start: Instant | None = None
    end: Instant | None = None
    hub: Id | None = None
    commerce: Id | None = None
    route: Id | None = None
    operator: Id | None = None
    attributes: Attributes = ()
    plan: DispatchPlan | None = None
    order_index: Order | None = None


@ACTIVITY.command("activity.create")
@dataclass(frozen=True, slots=True)
class CreateActivity:
    workflow_id: Id
    tasks: Annotated[tuple[NewTask, ...], Items(MAX_STEPS, 1, "wrong-task-count")]
    id: Id | None = None
    title: Title | None = None
    hub: Id | None = None
    fields: Fields = field(default_factory=dict)


@ACTIVITY.decides(CreateActivity)
def create(command: CreateActivity, context: Context) -> Decision:
    workflow: Workflow | None = context.state("workflow", command.workflow_id)
    if workflow is None or workflow.retired:
        raise Rejected("not-found", f"there is no workflow {command.workflow_id}", "/workflow_id")
    permit("activity.create", actor_kind(context, (), workflow.project))
    if len(command.tasks) != len(workflow.steps):
        detail = f"the workflow has {len(workflow.steps)} steps, the command {len(command.tasks)} tasks"
        raise Rejected("wrong-task-count", detail, "/tasks")
    activity_id = own_id(command.id, context)
    brought = {} if command.id is None else {activity_id: "/id"}
    children = _child_ids(command.tasks, brought, context)
    demand_free(brought, context)
    if command.hub is not None:
        known_hub(context, command.hub, "/hub")
    title = command.title if command.title is not None else workflow.name
    resolver = MemberResolver(context)
    pairs = tuple(zip(command.tasks, workflow.steps, strict=True))
    wanted = (step.assignees if task.assignees is None else task.assignees for task, step in pairs)
    resolver.load(reference for references in wanted for reference in references)
    load_unique_keys_of_new(command.tasks, context)
    created = ActivityCreated(
        activity_id,
        title,
        workflow.id,
        workflow.version,
        workflow.name,
        workflow.steps,
        workflow.gating,
        workflow.failure,
        children,
        command.hub,
        workflow.project,
        command.fields,
        tuple(_left_out(pairs, workflow.project, context)),
    )
    events: list[tuple[str, Any]] = [(context.stream("activity", activity_id), created)]
    for index, (task, step) in enumerate(pairs):
        events += _child(index, task, step, created, resolver, context)
    # Not read before it is taken: nobody else can hold it while there is no activity of this id.
    use = UniqueKey(use_of(workflow.id), activity_id)
    return Decision((*resolver.events, *events), {**resolver.unique_keys, use: activity_id})


def _left_out(pairs: Iterable[tuple[NewTask, Step]], project: str | None, context: Context) -> Iterable[LeftOut]:
    """Find the default people who cannot have their step's task by now."""
    for index, (task, step) in enumerate(pairs):
        for member in step.assignees if task.assignees is None else ():
            entry = context.state("member", member)
            gone = entry is None or entry.retired
            reason = "was retired" if gone else step_rule(step, project).refuses(member, entry)
            if reason is not None:
                yield LeftOut(index, member, reason)


def _child_ids(tasks: Iterable[NewTask], brought: dict[str, str], context: Context) -> tuple[str, ...]:
    """Return the tasks' ids; those that the command brings are added to `brought`, with where they stand."""
    children = []
    for index, task in enumerate(tasks):
        pointer = f"/tasks/{index}/id"
        child = own_id(task.id, context)
        if child in brought:
            raise Rejected("taken", f"the command gives the id {child} twice", pointer)
        if task.id is not None:
            brought[child] = pointer
        children.append(child)
    return tuple(children)


def _child(
    index: int, task: NewTask, step: Step, activity: ActivityCreated, resolver: MemberResolver, context: Context
) -> Iterable[tuple[str, Any]]:
    pointer = f"/tasks/{index}"
    checked_schedule(task.start, task.end, pointer)
    if task.hub is not None:
        known_hub(context, task.hub, f"{pointer}/hub")
    demand_references(task, context, pointer)
    rule = step_rule(step, activity.project)
    gone = {each.member for each in activity.left_out if each.step == index}
    defaults = tuple(member for member in step.assignees if member not in gone)
    wanted = defaults if task.assignees is None else task.assignees
    operator = task.operator if task.assignees is None else None
    assignees = assignees_of(wanted, operator, resolver, rule, context, pointer)
    child = activity.children[index]
    title, plan = titled(task.title, task.plan, f"{pointer}/plan/reason")
    created = TaskCreated(
        id=child,
        title=title if title is not None else step.name,
        activity_id=activity.id,
        step=index,
        flow=step.flow,
        flow_id=step.flow_id,
        fields=task.fields,
        start=task.start,
        end=task.end,
        hub=task.hub if task.hub is not None else activity.hub,
        project=activity.project,
        commerce=task.commerce,
        route=task.route,
        operator=task.operator,
        roles=step.roles,
        whitelist=step.whitelist,
        blacklist=step.blacklist,
        after=activity.children[:index] if activity.gating == "sequential" else (),
        workflow_id=activity.workflow_id,
        feeds=_feeds(index, activity),
        plan=plan,
        order_index=task.order_index,
    )
    stream = context.stream("task", child)
    for event in new_task(created, assignees, task.attributes, context, pointer):
        yield stream, event


def _feeds(index: int, activity: ActivityCreated) -> tuple[TaskFieldMapping, ...]:
    """Return what later steps take over from this one."""
    return tuple(
        TaskFieldMapping(activity.children[later], mapping.from_field, mapping.to_field)
        for later, step in enumerate(activity.steps)
        for mapping in step.field_mapping
        if mapping.step == index
    )
