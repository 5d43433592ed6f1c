"""A command or an event that lacks a part is refused at import, by an error that names the part and the command."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

import domain
from domain.aggregate import Aggregate, in_order_of_rows
from domain.decider import Context, Decider, Decision
from domain.lifecycle import OPEN, RIGHTS, MissingPart, Row, row, transition
from domain.task.state import TASK, Facts, Task, changes_of

LEAD = RIGHTS["task.cancel"]
SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True, slots=True)
class SnoozeTask:
    id: str


@dataclass(frozen=True, slots=True)
class TaskSnoozed:
    id: str


def made(*, rows: tuple[Row, ...] | None = None, decided: bool = True, evolved: bool = True) -> Decider:
    """Return an aggregate with one command and its event, without the parts that are left out."""
    rows = (row("task.snooze", "Snooze a task.", LEAD),) if rows is None else rows
    aggregate = Aggregate("task", {each.name: each for each in rows})
    aggregate.command("task.snooze")(SnoozeTask)
    aggregate.event("task.snoozed")(TaskSnoozed)
    if decided:
        aggregate.decides(SnoozeTask)(decide)
    if evolved:
        aggregate.evolves(TaskSnoozed)(evolve)
    return aggregate.decider(evolve, reads)


def decide(command: SnoozeTask, context: Context) -> Decision:
    return Decision(((context.stream("task", command.id), TaskSnoozed(command.id)),))


def evolve(state: Any, event: TaskSnoozed) -> str:
    return event.id


def reads(command: SnoozeTask) -> Iterable[tuple[str, str]]:
    return (("task", command.id),)


def test_a_whole_aggregate_is_made() -> None:
    whole = made()
    assert (whole.commands, whole.events) == ({"task.snooze": SnoozeTask}, {"task.snoozed": TaskSnoozed})


def test_a_command_without_a_row() -> None:
    with pytest.raises(MissingPart, match=r"command task\.snooze \(SnoozeTask\) has no row in domain/lifecycle\.py"):
        made(rows=())


def test_a_row_without_a_summary() -> None:
    with pytest.raises(MissingPart, match=r"command task\.snooze: its row .* has no summary"):
        row("task.snooze", right=LEAD)


def test_a_row_without_a_right() -> None:
    with pytest.raises(MissingPart, match=r"command task\.snooze: its row .* does not say who may give it"):
        row("task.snooze", "Snooze a task.")


def test_a_row_without_cells_that_a_decision_asks_for() -> None:
    with pytest.raises(MissingPart, match=r"command task\.snooze: its row .* has no cells"):
        transition("task.snooze", OPEN)


def test_a_row_without_a_command() -> None:
    rows = {"task.snooze": row("task.snooze", "Snooze a task.", LEAD), "task.nap": row("task.nap", "Nap.", LEAD)}
    with pytest.raises(MissingPart, match=r"command task\.nap has a row .* no class has its name"):
        in_order_of_rows([made()], rows)


def test_a_command_without_a_decision() -> None:
    with pytest.raises(MissingPart, match=r"command task\.snooze \(SnoozeTask\) has no function that decides it"):
        made(decided=False)


def test_an_event_that_nothing_evolves() -> None:
    with pytest.raises(MissingPart, match=r"event task\.snoozed \(TaskSnoozed\) is in no union"):
        made(evolved=False)


def test_two_commands_of_one_name() -> None:
    aggregate = Aggregate("task", {})
    aggregate.command("task.snooze")(SnoozeTask)
    with pytest.raises(MissingPart, match=r"command task\.snooze is the name of SnoozeTask"):
        aggregate.command("task.snooze")(TaskSnoozed)


def newest(name: str) -> Any:
    return msgspec.json.decode((SAMPLES / f"{name}.json").read_bytes(), type=domain.EVENTS[name])


@pytest.mark.parametrize("name", domain.EVENTS)
def test_every_event_has_an_arm(name: str) -> None:
    # Each function over a union ends in `assert_never`, which raises for a class that it forgets.
    decider = next(each for each in domain.AGGREGATES if name in each.events)
    event = newest(name)
    beginnings = [newest(each) for each in decider.events if each.endswith(("created", "defined", "registered"))]
    state = decider.evolve(None, beginnings[0]) if beginnings else None
    assert decider.evolve(state, event) is not None


@pytest.mark.parametrize("name", TASK.events)
def test_what_an_event_changes_are_facts_of_a_task(name: str) -> None:
    assert set(changes_of(newest(name))) <= set(Task._fields)


def test_an_event_may_change_any_fact_of_a_task() -> None:
    assert set(Facts.__annotations__) == set(Task._fields)
