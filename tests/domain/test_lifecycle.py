"""Holds every decision on a task against the tables of states and of rights: state by command by kind of actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import domain
from domain import lifecycle
from domain.lifecycle import (
    ACTIVE,
    ASSIGNEE,
    CANCELED,
    COMPLETED,
    FAILED,
    MANAGER,
    OPEN,
    OTHER,
    PAUSED,
    RIGHTS,
    SYSTEM,
    TABLE,
    TERMINAL,
    Lifecycle,
    allowed_actions,
)
from domain.task import (
    AssignTask,
    CancelTask,
    ChangeTask,
    ClaimTask,
    CompleteTask,
    FailTask,
    PauseTask,
    ProcessTask,
    ReassignTask,
    RetryTask,
    SaveTask,
    UnassignTask,
)
from tests.builders import manager, member, task
from tests.given import Given, Outcome, given_commands

ACTORS = {ASSIGNEE: "ann", MANAGER: "max", SYSTEM: "system", OTHER: "zed"}
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
}
ROADS: dict[Lifecycle, tuple[Any, ...]] = {
    OPEN: (),
    ACTIVE: (ProcessTask("t"),),
    PAUSED: (ProcessTask("t"), PauseTask("t")),
    COMPLETED: (ProcessTask("t"), CompleteTask("t")),
    FAILED: (FailTask("t"),),
    CANCELED: (CancelTask("t"),),
}
# A cancelled task is nobody's, and what is nobody's has no assignee to act.
SCENES = [
    (current, assigned, kind)
    for current in Lifecycle
    for assigned in (False, True)
    for kind in ACTORS
    if not (assigned and current is CANCELED) and not (kind == ASSIGNEE and not assigned)
]


def scene(current: Lifecycle, assigned: bool) -> Given:
    people = (member("ann"), member("bob"), member("zed"), manager("max"))
    start = task(assignees=("ann",) if assigned else ())
    return given_commands([*people, start, *ROADS[current]])


def give(command: str, current: Lifecycle, assigned: bool, kind: str) -> Outcome:
    actor = ACTORS[kind]
    return scene(current, assigned).when(COMMANDS[command](actor), actor)


def beyond_the_table(command: str, current: Lifecycle, assigned: bool) -> str | None:
    """Return the code of a refusal for what the task's people are, which the table of states does not hold."""
    if command in ("task.assign", "task.claim") and assigned and current not in TERMINAL:
        return "already-assigned"
    if command in ("task.reassign", "task.unassign") and not assigned and current not in TERMINAL:
        return "not-assigned"
    if command == "task.complete" and current is OPEN and not assigned:
        return "not-assignee"
    return None


@pytest.mark.parametrize(("current", "assigned", "kind"), SCENES)
@pytest.mark.parametrize("command", TABLE)
def test_the_decision_agrees_with_both_tables(command: str, current: Lifecycle, assigned: bool, kind: str) -> None:
    cell = TABLE[command][current]
    kinds, forbidden = RIGHTS[command]
    before = scene(current, assigned).state("task", "t")
    got = give(command, current, assigned, kind)
    after = got.given.state("task", "t")
    people = beyond_the_table(command, current, assigned)
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
        assert after == before
        assert got.given.log == scene(current, assigned).log


@pytest.mark.parametrize(("current", "assigned", "kind"), SCENES)
def test_what_is_allowed_is_what_succeeds(current: Lifecycle, assigned: bool, kind: str) -> None:
    succeeds = tuple(name for name in TABLE if give(name, current, assigned, kind).refusal is None)
    assert allowed_actions(current, assigned, kind) == succeeds


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
    for current, assigned, _ in SCENES:
        state = scene(current, assigned).state("task", "t")
        assert (state.lifecycle, bool(state.assignees)) == (current, assigned)


def test_the_tables_are_whole() -> None:
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
