"""A workflow: a named template of ordered steps, whose number never changes once it is defined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, assert_never

from domain.aggregate import Aggregate
from domain.compare import name_key
from domain.decider import Context, Decision, UniqueKey, changes, given, own_id
from domain.directory.eligibility import actor_kind
from domain.directory.lookup import known
from domain.directory.members import MemberResolver
from domain.errors import Rejected
from domain.left_out import left_out
from domain.lifecycle import permit
from domain.limits import (
    MAX_STEPS,
    Id,
    Items,
    WorkflowName,
)
from domain.steps import Step, Steps, checked_steps, step_of, stored_steps

WORKFLOW = Aggregate("workflow")
Gating = Literal["none", "sequential"]
Failure = Literal["wait_all", "fail_fast"]


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
    resolver = MemberResolver(context)
    steps = checked_steps(command.steps, command.project, resolver)
    event = WorkflowDefined(workflow_id, command.name, steps, command.gating, command.failure, command.project)
    events = (*resolver.events, (context.stream("workflow", workflow_id), event))
    return Decision(events, {**resolver.unique_keys, _unique_name(command.name): workflow_id})


@WORKFLOW.decides(ChangeWorkflow)
def change(command: ChangeWorkflow, context: Context) -> Decision:
    present = _present(command.id, context)
    permit("workflow.change", actor_kind(context, (), present.project))
    resolver = MemberResolver(context)
    wanted = given(command, "name", "steps", "gating", "failure")
    if "name" in wanted:
        _demand_free_name(command.name, present.id, context)
    if "steps" in wanted:
        if len(command.steps) != len(present.steps):
            raise Rejected("step-count-fixed", f"the workflow has {len(present.steps)} steps for good", "/steps")
        wanted["steps"] = stored_steps(checked_steps(command.steps, present.project, resolver, present.steps))
    before = {
        "name": present.name,
        "steps": stored_steps(present.steps),
        "gating": present.gating,
        "failure": present.failure,
    }
    old, new = changes(before, wanted)
    if not new:
        return Decision()
    unique_keys = dict(resolver.unique_keys)
    if "name" in new:
        unique_keys |= {_unique_name(present.name): None, _unique_name(new["name"]): present.id}
    event = WorkflowChanged(present.id, present.version + 1, old, new)
    return Decision((*resolver.events, (context.stream("workflow", present.id), event)), unique_keys)


@WORKFLOW.decides(RetireWorkflow)
def retire(command: RetireWorkflow, context: Context) -> Decision:
    present = _present(command.id, context)
    permit("workflow.retire", actor_kind(context, (), present.project))
    if context.is_held(use_of(present.id)):
        raise Rejected("in-use", "activities that were made from this workflow have not ended", "/id")
    event = WorkflowRetired(present.id)
    return Decision(((context.stream("workflow", present.id), event),), {_unique_name(present.name): None})


def _present(workflow_id: str, context: Context) -> Workflow:
    workflow: Workflow | None = context.state("workflow", workflow_id)
    if workflow is None:
        raise Rejected("not-found", f"there is no workflow {workflow_id}", "/id")
    if workflow.retired:
        raise Rejected("retired", f"workflow {workflow_id} is retired", "/id")
    return workflow


def use_of(workflow_id: str) -> str:
    """Return the kind of the unique keys that a workflow's activities hold, each under its own id, until they end."""
    return f"workflow-use/{workflow_id}"


def _unique_name(name: str) -> UniqueKey:
    return UniqueKey("workflow-name", name_key(name))


def _demand_free_name(name: str, workflow_id: str, context: Context) -> None:
    if name != name.strip():
        raise Rejected("invalid", "a name has no space at its ends", "/name")
    if context.holder(*_unique_name(name)) not in (None, workflow_id):
        raise Rejected("name-taken", f"another workflow is named {name}", "/name")


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


def reads(command: DefineWorkflow | ChangeWorkflow | RetireWorkflow) -> Iterable[tuple[str, str]]:
    """Name the workflow's own stream."""
    return () if command.id is None else (("workflow", command.id),)


DECIDER = WORKFLOW.decider(evolve, reads)
