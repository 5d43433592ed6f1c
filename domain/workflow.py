"""A workflow: a named template of ordered steps, whose number never changes once it is defined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from domain.decider import Claim, Context, Decider, Decision, changes, checked_id, own_id
from domain.directory import Eligibility, People, actor_kind, known
from domain.errors import Rejected
from domain.lifecycle import permit
from domain.task.creation import MOST_ASSIGNEES, resolved_assignees

Gating = Literal["none", "sequential"]
Failure = Literal["wait_all", "fail_fast"]
MOST_STEPS = 10
MOST_MAPPINGS = 100


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """A field of an earlier step, counted from 0, that fills this step's `to_field` if it is blank by then."""

    step: int
    from_field: str
    to_field: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `status_mapping` gives the master's sub-status once the step is done, under the key `DONE`.

    `assignees` are the step's default people: member ids or e-mails in a command, member ids once recorded.
    """

    name: str
    flow: str | None = None
    flow_id: str | None = None
    assignees: tuple[str, ...] = ()
    status_mapping: dict[str, str] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    whitelist: tuple[str, ...] = ()
    blacklist: tuple[str, ...] = ()
    field_mapping: tuple[FieldMapping, ...] = ()


@dataclass(frozen=True, slots=True)
class DefineWorkflow:
    name: str
    steps: tuple[Step, ...]
    id: str | None = None
    gating: Gating = "none"
    failure: Failure = "wait_all"
    project: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeWorkflow:
    """What is left out stays as it is."""

    id: str
    name: str | None = None
    steps: tuple[Step, ...] | None = None
    gating: Gating | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class RetireWorkflow:
    id: str


@dataclass(frozen=True, slots=True)
class WorkflowDefined:
    id: str
    name: str
    steps: tuple[Step, ...]
    gating: str
    failure: str
    project: str | None = None


@dataclass(frozen=True, slots=True)
class WorkflowChanged:
    id: str
    version: int
    old: dict[str, Any]
    new: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkflowRetired:
    id: str


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


def decide(command: DefineWorkflow | ChangeWorkflow | RetireWorkflow, context: Context) -> Decision:
    """Decide a workflow command."""
    match command:
        case DefineWorkflow():
            return _define(command, context)
        case ChangeWorkflow():
            return _change(command, context)
        case RetireWorkflow():
            return _retire(command, context)


def _define(command: DefineWorkflow, context: Context) -> Decision:
    permit("workflow.define", actor_kind(context, (), command.project))
    workflow_id = own_id(command.id, context)
    if command.id is not None and context.state("workflow", workflow_id) is not None:
        raise Rejected("taken", f"workflow {workflow_id} is defined already", "/id")
    if command.project is not None:
        known(context, "project", command.project, "/project")
    name = _free_name(command.name, workflow_id, context)
    people = People(context)
    steps = _checked_steps(command.steps, command.project, people)
    event = WorkflowDefined(workflow_id, name, steps, command.gating, command.failure, command.project)
    events = (*people.events, (context.stream("workflow", workflow_id), event))
    return Decision(events, {**people.claims, _name_claim(name): workflow_id})


def _change(command: ChangeWorkflow, context: Context) -> Decision:
    present = _present(command.id, context)
    permit("workflow.change", actor_kind(context, (), present.project))
    people = People(context)
    wanted: dict[str, Any] = {}
    if command.name is not None:
        wanted["name"] = _free_name(command.name, present.id, context)
    if command.steps is not None:
        if len(command.steps) != len(present.steps):
            raise Rejected("step-count-fixed", f"the workflow has {len(present.steps)} steps for good", "/steps")
        wanted["steps"] = stored_steps(_checked_steps(command.steps, present.project, people))
    if command.gating is not None:
        wanted["gating"] = command.gating
    if command.failure is not None:
        wanted["failure"] = command.failure
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


def _retire(command: RetireWorkflow, context: Context) -> Decision:
    present = _present(command.id, context)
    permit("workflow.retire", actor_kind(context, (), present.project))
    if context.holder("workflow-use", present.id) is not None:
        raise Rejected("in-use", "activities were made from this workflow", "/id")
    event = WorkflowRetired(present.id)
    return Decision(((context.stream("workflow", present.id), event),), {_name_claim(present.name): None})


def _present(workflow_id: str, context: Context) -> Workflow:
    workflow: Workflow | None = context.state("workflow", checked_id(workflow_id, "/id"))
    if workflow is None:
        raise Rejected("not-found", f"there is no workflow {workflow_id}", "/id")
    if workflow.retired:
        raise Rejected("retired", f"workflow {workflow_id} is retired", "/id")
    return workflow


def _name_claim(name: str) -> Claim:
    return Claim("workflow-name", name.casefold())


def _free_name(name: str, workflow_id: str, context: Context) -> str:
    if not 2 <= len(name) <= 100 or name != name.strip():
        raise Rejected("invalid", "a name has 2 to 100 characters and no space at its ends", "/name")
    if context.holder(*_name_claim(name)) not in (None, workflow_id):
        raise Rejected("name-taken", f"another workflow is named {name}", "/name")
    return name


def step_rule(step: Step, project: str | None) -> Eligibility:
    """Return who may have a step's task."""
    return Eligibility(project, step.roles, step.whitelist, step.blacklist)


def _checked_steps(steps: tuple[Step, ...], project: str | None, people: People) -> tuple[Step, ...]:
    """Return the steps as they are stored; what is accepted here, a creation from them must not refuse."""
    if not 1 <= len(steps) <= MOST_STEPS:
        raise Rejected("invalid", f"a workflow has 1 to {MOST_STEPS} steps", "/steps")
    seen: set[str] = set()
    checked = []
    people.load(reference for step in steps for reference in step.assignees[:MOST_ASSIGNEES])
    for index, step in enumerate(steps):
        if not 1 <= len(step.name) <= 100:
            raise Rejected("invalid", "a step's name has 1 to 100 characters", f"/steps/{index}/name")
        if step.flow_id is not None:
            if step.flow_id in seen:
                raise Rejected("invalid", f"flow {step.flow_id} stands in two steps", f"/steps/{index}/flow_id")
            seen.add(step.flow_id)
        _check_mapping(step, index)
        members = resolved_assignees(
            step.assignees, people, step_rule(step, project), people.context, f"/steps/{index}/assignees"
        )
        checked.append(replace(step, assignees=members))
    return tuple(checked)


def _check_mapping(step: Step, index: int) -> None:
    filled: set[str] = set()
    if len(step.field_mapping) > MOST_MAPPINGS:
        detail = f"a step takes at most {MOST_MAPPINGS} fields from earlier ones"
        raise Rejected("invalid", detail, f"/steps/{index}/field_mapping")
    for number, mapping in enumerate(step.field_mapping):
        at = f"/steps/{index}/field_mapping/{number}"
        if not 0 <= mapping.step < index:
            raise Rejected("invalid", "a field comes from an earlier step, counted from 0", f"{at}/step")
        for name in ("from_field", "to_field"):
            if not 1 <= len(getattr(mapping, name)) <= 100:
                raise Rejected("invalid", "a field's name has 1 to 100 characters", f"{at}/{name}")
        if mapping.to_field in filled:
            raise Rejected("invalid", f"{mapping.to_field} is filled twice", f"{at}/to_field")
        filled.add(mapping.to_field)


def evolve(state: Workflow | None, event: WorkflowDefined | WorkflowChanged | WorkflowRetired) -> Workflow | None:
    """Return the workflow after one more event."""
    match event:
        case WorkflowDefined():
            return Workflow(event.id, event.name, event.steps, event.gating, event.failure, event.project)
        case WorkflowChanged() if state is not None:
            new = dict(event.new)
            if "steps" in new:
                new["steps"] = tuple(step_of(step) for step in new["steps"])
            return replace(state, version=event.version, **new)
        case WorkflowRetired() if state is not None:
            return replace(state, retired=True)
    return state


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


DECIDER = Decider(
    category="workflow",
    commands={"workflow.define": DefineWorkflow, "workflow.change": ChangeWorkflow, "workflow.retire": RetireWorkflow},
    events={
        "workflow.defined": WorkflowDefined,
        "workflow.changed": WorkflowChanged,
        "workflow.retired": WorkflowRetired,
    },
    decide=decide,
    evolve=evolve,
    reads=reads,
)
