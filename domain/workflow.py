"""A workflow: a named template of ordered steps, whose number never changes once it is defined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal, assert_never

from domain.aggregate import Aggregate
from domain.compare import name_key, text_key
from domain.decider import Claim, Context, Decision, changes, given, own_id
from domain.directory import Eligibility, actor_kind, known
from domain.errors import Rejected
from domain.left_out import left_out
from domain.lifecycle import permit
from domain.limits import (
    MAX_LABELS,
    MAX_MAPPINGS,
    MAX_STEPS,
    Assignees,
    FieldName,
    Flow,
    Id,
    Items,
    Label,
    Listed,
    Number,
    Roles,
    StepName,
    WorkflowName,
)
from domain.people import People, demand_eligible

WORKFLOW = Aggregate("workflow")
Gating = Literal["none", "sequential"]
Failure = Literal["wait_all", "fail_fast"]


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """A field of an earlier step, counted from 0, that fills this step's `to_field` if it is blank by then."""

    step: Annotated[int, Number(0, MAX_STEPS - 2)]
    from_field: FieldName
    to_field: FieldName


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `status_mapping` gives the master's sub-status once the step is done, under the key `DONE`.

    `assignees` are the step's default people. People are references in a command, and member ids once recorded.
    """

    name: StepName
    flow: Flow | None = None
    flow_id: Flow | None = None
    assignees: Assignees = ()
    status_mapping: Annotated[dict[StepName, Label], Items(MAX_LABELS)] = field(default_factory=dict)
    roles: Roles = ()
    whitelist: Listed = ()
    blacklist: Listed = ()
    field_mapping: Annotated[tuple[FieldMapping, ...], Items(MAX_MAPPINGS)] = ()


Steps = Annotated[tuple[Step, ...], Items(MAX_STEPS, 1)]


@WORKFLOW.command("workflow.define")
@dataclass(frozen=True, slots=True)
class DefineWorkflow:
    name: WorkflowName
    steps: Steps
    id: Id | None = None
    gating: Gating = "none"
    failure: Failure = "wait_all"
    project: Id | None = None


@WORKFLOW.command("workflow.change")
@dataclass(frozen=True, slots=True)
class ChangeWorkflow:
    """What is left out stays as it is; nothing of a workflow can be taken away."""

    id: Id
    name: WorkflowName = left_out()
    steps: Annotated[tuple[Step, ...], Items(MAX_STEPS, 1, "step-count-fixed")] = left_out()
    gating: Gating = left_out()
    failure: Failure = left_out()


@WORKFLOW.command("workflow.retire")
@dataclass(frozen=True, slots=True)
class RetireWorkflow:
    id: Id


@WORKFLOW.event("workflow.defined")
@dataclass(frozen=True, slots=True)
class WorkflowDefined:
    id: str
    name: str
    steps: tuple[Step, ...]
    gating: str
    failure: str
    project: str | None = None


@WORKFLOW.event("workflow.changed")
@dataclass(frozen=True, slots=True)
class WorkflowChanged:
    id: str
    version: int
    old: dict[str, Any]
    new: dict[str, Any]


@WORKFLOW.event("workflow.retired")
@dataclass(frozen=True, slots=True)
class WorkflowRetired:
    id: str


Event = WorkflowDefined | WorkflowChanged | WorkflowRetired


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow's state. `version` counts its definitions, from 1."""

    id: str
    name: str
    steps: tuple[Step, ...]
    gating: str
    failure: str
    project: str | None
    version: int = 1
    retired: bool = False


@WORKFLOW.decides(DefineWorkflow)
def define(command: DefineWorkflow, context: Context) -> Decision:
    permit("workflow.define", actor_kind(context, (), command.project))
    workflow_id = own_id(command.id, context)
    if command.id is not None and context.state("workflow", workflow_id) is not None:
        raise Rejected("taken", f"workflow {workflow_id} is defined already", "/id")
    if command.project is not None:
        known(context, "project", command.project, "/project")
    _demand_free_name(command.name, workflow_id, context)
    people = People(context)
    steps = _checked_steps(command.steps, command.project, people)
    event = WorkflowDefined(workflow_id, command.name, steps, command.gating, command.failure, command.project)
    events = (*people.events, (context.stream("workflow", workflow_id), event))
    return Decision(events, {**people.claims, _name_claim(command.name): workflow_id})


@WORKFLOW.decides(ChangeWorkflow)
def change(command: ChangeWorkflow, context: Context) -> Decision:
    present = _present(command.id, context)
    permit("workflow.change", actor_kind(context, (), present.project))
    people = People(context)
    wanted = given(command, "name", "steps", "gating", "failure")
    if "name" in wanted:
        _demand_free_name(command.name, present.id, context)
    if "steps" in wanted:
        if len(command.steps) != len(present.steps):
            raise Rejected("step-count-fixed", f"the workflow has {len(present.steps)} steps for good", "/steps")
        wanted["steps"] = stored_steps(_checked_steps(command.steps, present.project, people, present.steps))
    before = {
        "name": present.name,
        "steps": stored_steps(present.steps),
        "gating": present.gating,
        "failure": present.failure,
    }
    old, new = changes(before, wanted)
    if not new:
        return Decision()
    claims = dict(people.claims)
    if "name" in new:
        claims |= {_name_claim(present.name): None, _name_claim(new["name"]): present.id}
    event = WorkflowChanged(present.id, present.version + 1, old, new)
    return Decision((*people.events, (context.stream("workflow", present.id), event)), claims)


@WORKFLOW.decides(RetireWorkflow)
def retire(command: RetireWorkflow, context: Context) -> Decision:
    present = _present(command.id, context)
    permit("workflow.retire", actor_kind(context, (), present.project))
    if context.is_held(use_of(present.id)):
        raise Rejected("in-use", "activities that were made from this workflow have not ended", "/id")
    event = WorkflowRetired(present.id)
    return Decision(((context.stream("workflow", present.id), event),), {_name_claim(present.name): None})


def _present(workflow_id: str, context: Context) -> Workflow:
    workflow: Workflow | None = context.state("workflow", workflow_id)
    if workflow is None:
        raise Rejected("not-found", f"there is no workflow {workflow_id}", "/id")
    if workflow.retired:
        raise Rejected("retired", f"workflow {workflow_id} is retired", "/id")
    return workflow


def use_of(workflow_id: str) -> str:
    """Return the kind of the claims that the activities of a workflow hold, each under its own id, until they end."""
    return f"workflow-use/{workflow_id}"


def _name_claim(name: str) -> Claim:
    return Claim("workflow-name", name_key(name))


def _demand_free_name(name: str, workflow_id: str, context: Context) -> None:
    if name != name.strip():
        raise Rejected("invalid", "a name has no space at its ends", "/name")
    if context.holder(*_name_claim(name)) not in (None, workflow_id):
        raise Rejected("name-taken", f"another workflow is named {name}", "/name")


def step_rule(step: Step, project: str | None) -> Eligibility:
    """Return who may have a step's task."""
    return Eligibility(project, step.roles, step.whitelist, step.blacklist)


def _checked_steps(
    steps: tuple[Step, ...], project: str | None, people: People, before: tuple[Step, ...] = ()
) -> tuple[Step, ...]:
    """Return the steps as they are stored; what is accepted here, a creation from them must not refuse.

    `before` are the steps that they change; who stands in one of them and was retired may be named there again.
    """
    seen: set[str] = set()
    checked = []
    people.load(who for step in steps for who in (*step.assignees, *step.whitelist, *step.blacklist))
    for index, step in enumerate(steps):
        if step.flow_id is not None:
            if text_key(step.flow_id) in seen:
                raise Rejected("invalid", f"flow {step.flow_id} stands in two steps", f"/steps/{index}/flow_id")
            seen.add(text_key(step.flow_id))
        _check_mapping(step, index)
        present = before[index] if before else Step(step.name)
        checked.append(_with_members(step, present, project, people, f"/steps/{index}"))
    return tuple(checked)


def _with_members(step: Step, before: Step, project: str | None, people: People, pointer: str) -> Step:
    """Return the step with member ids in place of references; its default people may be new, those it lists not."""
    members = people.resolve(step.assignees, f"{pointer}/assignees", before.assignees)
    found = replace(
        step,
        assignees=members,
        whitelist=people.listed(step.whitelist, f"{pointer}/whitelist", before.whitelist),
        blacklist=people.listed(step.blacklist, f"{pointer}/blacklist", before.blacklist),
    )
    demand_eligible(people.context, people, members, step_rule(found, project), f"{pointer}/assignees")
    return found


def _check_mapping(step: Step, index: int) -> None:
    filled: set[str] = set()
    for number, mapping in enumerate(step.field_mapping):
        at = f"/steps/{index}/field_mapping/{number}"
        if not 0 <= mapping.step < index:
            raise Rejected("invalid", "a field comes from an earlier step, counted from 0", f"{at}/step")
        if mapping.to_field in filled:
            raise Rejected("invalid", f"{mapping.to_field} is filled twice", f"{at}/to_field")
        filled.add(mapping.to_field)


@WORKFLOW.evolves(Event)
def evolve(state: Workflow | None, event: Event) -> Workflow | None:
    """Return the workflow after one more event."""
    if isinstance(event, WorkflowDefined):
        return Workflow(event.id, event.name, event.steps, event.gating, event.failure, event.project)
    if state is None:
        return None
    match event:
        case WorkflowChanged():
            new = dict(event.new)
            if "steps" in new:
                new["steps"] = tuple(step_of(step) for step in new["steps"])
            return replace(state, version=event.version, **new)
        case WorkflowRetired():
            return replace(state, retired=True)
        case _:
            assert_never(event)


def stored_steps(steps: Iterable[Step]) -> list[dict[str, Any]]:
    """Return steps as they stand in an event's old and new values: plain JSON."""
    return [
        {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(step).items()}
        for step in steps
    ]


def step_of(stored: dict[str, Any]) -> Step:
    """Return a step from its form in an event's old and new values."""
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    values["field_mapping"] = tuple(FieldMapping(**mapping) for mapping in values.get("field_mapping", ()))
    return Step(**values)


def reads(command: DefineWorkflow | ChangeWorkflow | RetireWorkflow) -> Iterable[tuple[str, str]]:
    """Name the workflow's own stream."""
    return () if command.id is None else (("workflow", command.id),)


DECIDER = WORKFLOW.decider(evolve, reads)
