"""The steps of a workflow: what each hands on to its task, and how steps are checked and stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

from domain.checks import json_size
from domain.compare import text_key
from domain.directory.eligibility import Eligibility
from domain.directory.members import MemberResolver, demand_eligible
from domain.errors import Rejected
from domain.limits import (
    MAX_LABELS,
    MAX_MAPPINGS,
    MAX_STEPS,
    MAX_STEPS_BYTES,
    Assignees,
    FieldName,
    Flow,
    Items,
    Label,
    Listed,
    Number,
    Roles,
    StepName,
)


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


def step_rule(step: Step, project: str | None) -> Eligibility:
    """Return who may have a step's task."""
    return Eligibility(project, step.roles, step.whitelist, step.blacklist)


def checked_steps(
    steps: tuple[Step, ...], project: str | None, resolver: MemberResolver, before: tuple[Step, ...] = ()
) -> tuple[Step, ...]:
    """Return the steps as they are stored; what is accepted here, a creation from them must not refuse.

    `before` are the steps that they change; who stands in one of them and was retired may be named there again.
    """
    seen: set[str] = set()
    checked = []
    resolver.load(who for step in steps for who in (*step.assignees, *step.whitelist, *step.blacklist))
    for index, step in enumerate(steps):
        if step.flow_id is not None:
            if text_key(step.flow_id) in seen:
                raise Rejected("invalid", f"flow {step.flow_id} stands in two steps", f"/steps/{index}/flow_id")
            seen.add(text_key(step.flow_id))
        _check_mapping(step, index)
        present = before[index] if before else Step(step.name)
        checked.append(_with_members(step, present, project, resolver, f"/steps/{index}"))
    if json_size(stored_steps(checked)) > MAX_STEPS_BYTES:
        raise Rejected("too-large", f"steps have at most {MAX_STEPS_BYTES} bytes as JSON, all together", "/steps")
    return tuple(checked)


def _with_members(step: Step, before: Step, project: str | None, resolver: MemberResolver, pointer: str) -> Step:
    """Return the step with member ids in place of references; its default people may be new, those it lists not."""
    members = resolver.resolve(step.assignees, f"{pointer}/assignees", before.assignees)
    found = replace(
        step,
        assignees=members,
        whitelist=resolver.listed(step.whitelist, f"{pointer}/whitelist", before.whitelist),
        blacklist=resolver.listed(step.blacklist, f"{pointer}/blacklist", before.blacklist),
    )
    demand_eligible(resolver.context, resolver, members, step_rule(found, project), f"{pointer}/assignees")
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
