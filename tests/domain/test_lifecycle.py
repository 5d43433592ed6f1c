"""Holds every decision on a task against the tables of states and of rights: state by command by kind of actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import domain
from domain import lifecycle
from domain.directory import ChangeEntry
from domain.lifecycle import (
    ACTIVE,
    ADMIN,
    ASSIGNEE,
    CANCELED,
    COMPLETED,
    ENTRY_RIGHTS,
    FAILED,
    MANAGER,
    OPEN,
    OTHER,
    PARTS,
    PAUSED,
    RIGHTS,
    SYSTEM,
    TABLE,
    TERMINAL,
    Lifecycle,
    allowed_actions,
)
from domain.plan import Criterion
from domain.streams import ENTRY_KINDS
from domain.task import (
    AssignTask,
    CancelTask,
    ChangeTask,
    ClaimTask,
    CompleteTask,
    DispatchTask,
    FailTask,
    PauseTask,
    ProcessTask,
    ReassignTask,
    ReportDispatch,
    ResolveTarget,
    RetryResolution,
    RetryTask,
    SaveTask,
    SubmitResult,
    UnassignTask,
)
from tests.builders import EMAIL, admin, entry, manager, member, plan, task
from tests.given import Given, Outcome, given_commands

ACTORS = {ASSIGNEE: "ann", MANAGER: "max", ADMIN: "eve", SYSTEM: "system", OTHER: "zed"}
COMMANDS: dict[str, Callable[[str], Any]] = {
    "task.assign": lambda actor: AssignTask("t", ("bob",)),
    "task.claim": lambda actor: ClaimTask("t", "bob" if actor == "system" else None),
    "task.reassign": lambda actor: ReassignTask("t", ("bob",)),
    "task.unassign": lambda actor: UnassignTask("t"),
    "task.process": lambda actor: ProcessTask("t"),
    "task.pause": lambda actor: PauseTask("t"),
    "task.save": lambda actor: SaveTask("t", {"draft": 1}),
    "task.change": lambda actor: ChangeTask("t", "Other"),
    "task.complete": lambda actor: CompleteTask("t"),
    "task.error": lambda actor: FailTask("t"),
    "task.cancel": lambda actor: CancelTask("t"),
    "task.retry": lambda actor: RetryTask("t"),
    "task.retry-resolution": lambda actor: RetryResolution("t"),
    "task.resolve-target": lambda actor: ResolveTarget("t", "t1", "u-1"),
    "task.dispatch": lambda actor: DispatchTask("t"),
    "task.submit-result": lambda actor: SubmitResult("t", "COMPLETED"),
}
ROADS: dict[Lifecycle, tuple[Any, ...]] = {
    OPEN: (),
    ACTIVE: (ProcessTask("t"),),
    PAUSED: (ProcessTask("t"), PauseTask("t")),
    COMPLETED: (ProcessTask("t"), CompleteTask("t")),
    FAILED: (FailTask("t"),),
    CANCELED: (CancelTask("t"),),
}
# How far a task is on its way out: it has no channel, could go out, waits for its targets, is out.
PLAIN, READY, UNRESOLVED, SENT = "plain", "ready", "unresolved", "sent"
WAYS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    READY: {"plan": plan()},
    UNRESOLVED: {"plan": plan(criteria=(Criterion("ANY"),)), "commerce": "c"},
    SENT: {"plan": plan()},
}
# A cancelled task is nobody's, what is nobody's has no assignee to act, and nobody starts what is not resolved.
SCENES = [
    (current, assigned, kind, way)
    for current in Lifecycle
    for assigned in (False, True)
    for kind in ACTORS
    for way in WAYS
    if not (assigned and current is CANCELED)
    and not (kind == ASSIGNEE and not assigned)
    and not (way == UNRESOLVED and current in (ACTIVE, PAUSED))
]


def scene(current: Lifecycle, assigned: bool, way: str = PLAIN) -> Given:
    people = (member("ann"), member("bob"), member("zed"), manager("max"), admin("eve"), EMAIL, entry("commerce", "c"))
    start = task(assignees=("ann",) if assigned else (), **WAYS[way])
    sent = (DispatchTask("t"), ReportDispatch("t", 1, succeeded=True)) if way == SENT else ()
    road = (SubmitResult("t", "COMPLETED"),) if (current, way) == (COMPLETED, UNRESOLVED) else ROADS[current]
    # Somebody who could be called came too late for the task to find.
    user = ChangeEntry("commerce", "c", {"users": [{"id": "u-1"}]})
    return given_commands([*people, start, *sent, *road, user])


def give(command: str, current: Lifecycle, assigned: bool, kind: str, way: str) -> Outcome:
    actor = ACTORS[kind]
    return scene(current, assigned, way).when(COMMANDS[command](actor), actor)


def beyond_the_table(command: str, current: Lifecycle, assigned: bool, way: str) -> str | None:
    """Return the code of a refusal for what the task's people, targets or dispatch are; the table has just states."""
    if command in ("task.retry-resolution", "task.resolve-target") and way != UNRESOLVED and current not in TERMINAL:
        return "not-unresolved" if command == "task.retry-resolution" else "not-found"
    if command == "task.dispatch" and way != READY and current is OPEN:
        return "not-ready"
    if command == "task.process" and way == UNRESOLVED and current is OPEN:
        return "unresolved"
    if command in ("task.assign", "task.claim") and assigned and current not in TERMINAL:
        return "already-assigned"
    if command in ("task.reassign", "task.unassign") and not assigned and current not in TERMINAL:
        return "not-assigned"
    if command == "task.complete" and current is OPEN and not assigned:
        return "not-assignee"
    return None


@pytest.mark.parametrize(("current", "assigned", "kind", "way"), SCENES)
@pytest.mark.parametrize("command", TABLE)
def test_the_decision_agrees_with_both_tables(
    command: str, current: Lifecycle, assigned: bool, kind: str, way: str
) -> None:
    cell = TABLE[command][current]
    kinds, forbidden = RIGHTS[command]
    start = scene(current, assigned, way)
    got = give(command, current, assigned, kind, way)
    after = got.given.state("task", "t")
    people = beyond_the_table(command, current, assigned, way)
    if kind in kinds and people is not None:
        got.then_rejected(people)
    elif kind in kinds and isinstance(cell, Lifecycle):
        assert got.events
        assert after.lifecycle is cell
    elif kind in kinds:
        got.then_rejected(cell)
    elif isinstance(cell, Lifecycle) and people is None:
        got.then_rejected(forbidden)
    else:
        assert got.refusal is not None
        assert got.refusal.code in {forbidden, people or str(cell)}
    if got.refusal is not None:
        assert after == start.state("task", "t")
        assert got.given.log == start.log


@pytest.mark.parametrize(("current", "assigned", "kind", "way"), SCENES)
def test_what_is_allowed_is_what_succeeds(current: Lifecycle, assigned: bool, kind: str, way: str) -> None:
    succeeds = tuple(name for name in TABLE if give(name, current, assigned, kind, way).refusal is None)
    resolution = scene(current, assigned, way).state("task", "t").resolution
    dispatchable = way in (READY, UNRESOLVED)
    assert allowed_actions(current, assigned, kind, resolution=resolution, dispatchable=dispatchable) == succeeds


@pytest.mark.parametrize("current", [state for state in Lifecycle if state is not CANCELED])
def test_a_manager_who_has_the_task_may_do_what_either_may(current: Lifecycle) -> None:
    people = (member("bob"), manager("max"), task(assignees=("max",)))
    either = {name for kind in (ASSIGNEE, MANAGER) for name in allowed_actions(current, True, kind)}
    succeeds = {
        name
        for name, command in COMMANDS.items()
        if given_commands([*people, *ROADS[current]]).when(command("max"), "max").refusal is None
    }
    assert succeeds == either


def test_the_roads_lead_where_they_say() -> None:
    for current, assigned, _, way in SCENES:
        state = scene(current, assigned, way).state("task", "t")
        facts = (state.lifecycle, bool(state.assignees), state.resolution == "FAILED", state.dispatch == "DISPATCHED")
        assert facts == (current, assigned, way == UNRESOLVED, way == SENT)


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("kind", ACTORS)
@pytest.mark.parametrize("current", Lifecycle)
def test_a_result_does_nothing_that_the_plain_command_is_refused(current: Lifecycle, kind: str, taken: bool) -> None:
    plain = {"CANCELED": "task.cancel", "NOT_EXECUTED": "task.error"}
    for result, command in plain.items():
        start = scene(current, assigned=current is not CANCELED)
        may = kind in RIGHTS[command][0] and kind in RIGHTS["task.submit-result"][0]
        if kind == ASSIGNEE and current is CANCELED:
            continue
        got = start.when(SubmitResult("t", result, hard_override=taken), ACTORS[kind])
        if not may or (taken and kind not in PARTS["task.submit-result hard_override"][0]):
            got.then_rejected("forbidden")
        elif current in TERMINAL and not taken:
            got.then_rejected("result-final")
        else:
            assert got.given.state("task", "t").lifecycle is (CANCELED if result == "CANCELED" else FAILED)


def test_the_tables_are_whole() -> None:
    assert set(ENTRY_RIGHTS) == set(ENTRY_KINDS)
    assert {part.partition(" ")[0] for part in PARTS} <= set(RIGHTS)
    assert set(COMMANDS) == set(TABLE)
    assert all(set(row) == set(Lifecycle) for row in TABLE.values())
    assert set(RIGHTS) == set(domain.COMMANDS)


def test_what_has_ended_is_left_by_a_retry_alone() -> None:
    ways = {
        (command, current)
        for command, row in TABLE.items()
        for current, cell in row.items()
        if current in TERMINAL and isinstance(cell, Lifecycle)
    }
    assert ways == {("task.retry", FAILED)}


def test_the_diagram_shows_every_change_of_state() -> None:
    lines = set(lifecycle.mermaid().splitlines())
    for command, row in TABLE.items():
        for current, cell in row.items():
            if isinstance(cell, Lifecycle):
                assert (f"    {current} --> {cell}: {command}" in lines) is (cell is not current)
