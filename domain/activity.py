"""An activity: one run of a workflow, a master whose children are tasks; its status is never stored, only rolled up.

The activity keeps the snapshot of the workflow that it was made from, so no later change reaches it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, assert_never

from domain.aggregate import Aggregate
from domain.decider import (
    Claim,
    Context,
    Decision,
    checked_schedule,
    demand_free,
    given,
    merged,
    own_id,
    streams_of_id,
)
from domain.directory import actor_kind, known_hub
from domain.errors import Rejected
from domain.left_out import left_out
from domain.lifecycle import FAILED, TERMINAL, permit
from domain.limits import MAX_STEPS, Assignees, Comment, Fields, Id, Instant, Items, Title
from domain.people import People
from domain.plan import Attributes, DispatchPlan, Feed
from domain.task.changing import changed_fields
from domain.task.creating import (
    assignees_of,
    demand_references,
    load_claims_of_new,
    new_task,
    streams_of_new,
    titled,
)
from domain.task.ending import canceled
from domain.task.state import Task, TaskCreated
from domain.workflow import Step, Workflow, step_rule, use_of

ACTIVITY = Aggregate("activity")


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


@ACTIVITY.command("activity.create")
@dataclass(frozen=True, slots=True)
class CreateActivity:
    workflow_id: Id
    tasks: Annotated[tuple[NewTask, ...], Items(MAX_STEPS, 1, "wrong-task-count")]
    id: Id | None = None
    title: Title | None = None
    hub: Id | None = None
    fields: Fields = field(default_factory=dict)


@ACTIVITY.command("activity.change")
@dataclass(frozen=True, slots=True)
class ChangeActivity:
    """What is left out stays as it is, what is null goes away; an activity always has a title."""

    id: Id
    title: Title = left_out()
    hub: Id | None = left_out()
    fields: Fields = field(default_factory=dict)


@ACTIVITY.command("activity.cancel")
@dataclass(frozen=True, slots=True)
class CancelActivity:
    id: Id
    reason: Comment | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One of a step's default people who could not have its task any more, and why."""

    step: int
    member: str
    reason: str


@ACTIVITY.event("activity.created")
@dataclass(frozen=True, slots=True)
class ActivityCreated:
    """`children` are the tasks' ids in the order of `steps`; both never change."""

    id: str
    title: str
    workflow_id: str
    workflow_version: int
    workflow_name: str
    steps: tuple[Step, ...]
    gating: str
    failure: str
    children: tuple[str, ...]
    hub: str | None = None
    project: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()


@ACTIVITY.event("activity.fields-changed")
@dataclass(frozen=True, slots=True)
class ActivityFieldsChanged:
    """Title, hub and fields; `old` and `new` hold just what differs."""

    id: str
    old: dict[str, Any]
    new: dict[str, Any]


@ACTIVITY.event("activity.canceled")
@dataclass(frozen=True, slots=True)
class ActivityCanceled:
    id: str
    reason: str | None


@ACTIVITY.event("activity.status-changed")
@dataclass(frozen=True, slots=True)
class ActivityStatusChanged:
    """What the roll-up policy found; it stands on a stream of its own and no decision reads it."""

    id: str
    old: str
    new: str
    rule: str
    progress: dict[str, int]


Event = ActivityCreated | ActivityFieldsChanged | ActivityCanceled | ActivityStatusChanged


@dataclass(frozen=True, slots=True)
class Activity:
    """An activity's state."""

    id: str
    title: str
    children: tuple[str, ...]
    hub: str | None
    project: str | None
    fields: dict[str, Any]
    canceled: bool = False


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
    people = People(context)
    pairs = tuple(zip(command.tasks, workflow.steps, strict=True))
    wanted = (step.assignees if task.assignees is None else task.assignees for task, step in pairs)
    people.load(reference for references in wanted for reference in references)
    load_claims_of_new(command.tasks, context)
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
        events += _child(index, task, step, created, people, context)
    # Not read before it is taken: nobody else can hold it while there is no activity of this id.
    use = Claim(use_of(workflow.id), activity_id)
    return Decision((*people.events, *events), {**people.claims, use: activity_id})


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
    index: int, task: NewTask, step: Step, activity: ActivityCreated, people: People, context: Context
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
    assignees = assignees_of(wanted, operator, people, rule, context, pointer)
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
    )
    stream = context.stream("task", child)
    for event in new_task(created, assignees, task.attributes, context, pointer):
        yield stream, event


def _feeds(index: int, activity: ActivityCreated) -> tuple[Feed, ...]:
    """Return what later steps take over from this one."""
    return tuple(
        Feed(activity.children[later], mapping.from_field, mapping.to_field)
        for later, step in enumerate(activity.steps)
        for mapping in step.field_mapping
        if mapping.step == index
    )


def _present(activity_id: str, context: Context) -> Activity:
    activity: Activity | None = context.state("activity", activity_id)
    if activity is None:
        raise Rejected("not-found", f"there is no activity {activity_id}", "/id")
    return activity


@ACTIVITY.decides(ChangeActivity)
def change(command: ChangeActivity, context: Context) -> Decision:
    activity = _present(command.id, context)
    permit("activity.change", actor_kind(context, (), activity.project))
    if activity.canceled:
        raise Rejected("activity-canceled", "the activity was cancelled")
    wanted = given(command, "title", "hub")
    if wanted.get("hub") is not None:
        known_hub(context, wanted["hub"], "/hub")
    old, new = changed_fields(activity, wanted, command.fields)
    if not new:
        return Decision()
    event = ActivityFieldsChanged(activity.id, old, new)
    return Decision(((context.stream("activity", activity.id), event),))


@ACTIVITY.decides(CancelActivity)
def cancel(command: CancelActivity, context: Context) -> Decision:
    activity = _present(command.id, context)
    permit("activity.cancel", actor_kind(context, (), activity.project))
    children: list[Task] = context.all_states("task", activity.children)
    left = [task for task in children if task.lifecycle not in TERMINAL or task.lifecycle is FAILED]
    if activity.canceled or not left:
        raise Rejected("terminal", "the activity has ended")
    event = ActivityCanceled(activity.id, command.reason)
    decisions = [canceled(task, "activity-canceled", context) for task in left]
    events = ((context.stream("activity", activity.id), event), *(e for d in decisions for e in d.events))
    return Decision(events, {claim: holder for d in decisions for claim, holder in d.claims.items()})


@ACTIVITY.evolves(Event)
def evolve(state: Activity | None, event: Event) -> Activity | None:
    """Return the activity after one more event."""
    if isinstance(event, ActivityCreated):
        return Activity(event.id, event.title, event.children, event.hub, event.project, event.fields)
    if state is None:
        return None
    match event:
        case ActivityFieldsChanged():
            new = event.new
            title, hub = new.get("title", state.title), new.get("hub", state.hub)
            return replace(state, title=title, hub=hub, fields=merged(state.fields, new.get("fields", {})))
        case ActivityCanceled():
            return replace(state, canceled=True)
        case ActivityStatusChanged():
            # The status follows from the tasks; no decision reads it.
            return state
        case _:
            assert_never(event)


def reads(command: CreateActivity | ChangeActivity | CancelActivity) -> Iterable[tuple[str, str]]:
    """Name the streams that the command is sure to look at, the activity's own first."""
    if not isinstance(command, CreateActivity):
        return (("activity", command.id),)
    own = streams_of_id(command.id, "activity")
    tasks = (stream for task in command.tasks for stream in streams_of_id(task.id, "task"))
    others = (stream for task in command.tasks for stream in streams_of_new(task))
    return (*own, ("workflow", command.workflow_id), *tasks, *others)


DECIDER = ACTIVITY.decider(evolve, reads)
