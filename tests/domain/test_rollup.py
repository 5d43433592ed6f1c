"""The roll-up's ten rules by example, against the table written as predicates, and in any order of what arrives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, timezone
from itertools import permutations, product
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.lifecycle import ACTIVE, CANCELED, COMPLETED, FAILED, OPEN, PAUSED, TERMINAL, Lifecycle
from domain.rollup import RULES, Child, Rollup, decides, rollup


def of(*lifecycles: Lifecycle, canceled: bool = False, fail_fast: bool = False) -> Rollup:
    return rollup([Child(step, state) for step, state in enumerate(lifecycles)], canceled, fail_fast)


def at(hour: int) -> datetime:
    return datetime(2025, 10, 31, hour, tzinfo=UTC)


# By example.


@pytest.mark.parametrize(
    ("got", "rule", "lifecycle"),
    [
        (of(COMPLETED, OPEN, canceled=True), "U1", CANCELED),
        (of(COMPLETED, COMPLETED, canceled=True), "U1", CANCELED),
        (of(COMPLETED), "U2", COMPLETED),
        (of(COMPLETED, COMPLETED, fail_fast=True), "U2", COMPLETED),
        (of(CANCELED, CANCELED), "U3", CANCELED),
        (of(FAILED, OPEN, fail_fast=True), "U4", FAILED),
        (of(FAILED, CANCELED, COMPLETED, fail_fast=True), "U4", FAILED),
        (of(FAILED), "U5", FAILED),
        (of(FAILED, COMPLETED, CANCELED), "U5", FAILED),
        (of(COMPLETED, CANCELED), "U6", COMPLETED),
        (of(FAILED, OPEN), "U7", ACTIVE),
        (of(FAILED, PAUSED), "U7", ACTIVE),
        (of(ACTIVE, OPEN), "U8", ACTIVE),
        (of(COMPLETED, OPEN), "U8", ACTIVE),
        (of(PAUSED, OPEN), "U8", ACTIVE),
        (of(PAUSED, ACTIVE), "U8", ACTIVE),
        (of(PAUSED, PAUSED), "U8", PAUSED),
        (of(COMPLETED, PAUSED, CANCELED), "U8", PAUSED),
        (rollup([Child(0, assignees=("ann",)), Child(1)]), "U8", ACTIVE),
        (rollup([Child(0), Child(1, dispatched=True)]), "U8", ACTIVE),
        (rollup([Child(0, unresolved=True), Child(1, assignees=("ann",))]), "U8", ACTIVE),
        (rollup([Child(0, unresolved=True), Child(1)]), "U9", OPEN),
        (of(OPEN, OPEN), "U10", OPEN),
        (of(OPEN, CANCELED), "U10", OPEN),
        (rollup([Child(0, CANCELED, dispatched=True), Child(1)]), "U10", OPEN),
        (rollup([Child(0, CANCELED, unresolved=True), Child(1)]), "U10", OPEN),
        (rollup([Child(0, CANCELED, ("ann",)), Child(1)]), "U10", OPEN),
        (rollup([Child(0, CANCELED, dispatched=True), Child(1, unresolved=True)]), "U9", OPEN),
        (rollup([Child(0, CANCELED, dispatched=True), Child(1, PAUSED)]), "U8", PAUSED),
        (of(), "U10", OPEN),
    ],
)
def test_rule(got: Rollup, rule: str, lifecycle: Lifecycle) -> None:
    assert (got.rule, got.lifecycle) == (rule, lifecycle)
    assert got.partial is (rule == "U6")
    assert got.attention is (rule == "U7")


def test_every_rule_is_explained() -> None:
    assert list(RULES) == [f"U{number}" for number in range(1, 11)]


def test_start_and_end_are_the_winning_tasks_own_texts_whatever_the_offset() -> None:
    first = Child(0, start="2025-10-31T08:55:00.000+07:00", end="2025-11-01T08:55:00.000+07:00")
    second = Child(1, start="2025-10-31T09:00:00.000+09:00", end="2025-10-31T23:30:00.000-05:00")
    got = rollup([first, second])
    assert (got.start, got.end) == ("2025-10-31T09:00:00.000+09:00", "2025-10-31T23:30:00.000-05:00")


def test_of_one_instant_in_two_texts_the_earlier_steps_text_wins() -> None:
    here, there = "2025-10-31T08:00:00+07:00", "2025-10-31T01:00:00Z"
    got = rollup([Child(1, start=here, end=here), Child(0, start=there, end=there)])
    assert (got.start, got.end) == (there, there)


def test_missing_times_do_not_count() -> None:
    got = rollup([Child(0, start="2025-10-31T08:00:00Z"), Child(1, end="2025-10-30T08:00:00Z"), Child(2)])
    assert (got.start, got.end) == ("2025-10-31T08:00:00Z", "2025-10-30T08:00:00Z")
    assert (rollup([Child(0)]).start, rollup([Child(0)]).end) == (None, None)


def test_times_of_cancelled_tasks_count_only_when_all_are() -> None:
    gone = Child(0, CANCELED, start="2025-10-30T00:00:00Z", end="2025-12-01T00:00:00Z")
    left = Child(1, COMPLETED, start="2025-10-31T00:00:00Z", end="2025-11-01T00:00:00Z")
    assert (rollup([gone, left]).start, rollup([gone, left]).end) == (left.start, left.end)
    assert (rollup([gone]).start, rollup([gone]).end) == (gone.start, gone.end)


def test_sub_status_is_the_label_of_the_highest_completed_step() -> None:
    one, two, three = Child(0, COMPLETED, label="met"), Child(1, COMPLETED, label="sold"), Child(2, label="paid")
    assert rollup([one, two, three]).sub_status == "sold"
    assert rollup([one._replace(lifecycle=OPEN), two, three]).sub_status == "sold"
    assert rollup([one, two._replace(lifecycle=FAILED), three]).sub_status == "met"
    assert rollup([one._replace(lifecycle=OPEN), three]).sub_status is None


@pytest.mark.parametrize(
    ("lifecycles", "percent"),
    [
        ((), 0),
        ((OPEN,), 0),
        ((COMPLETED,), 100),
        ((COMPLETED, OPEN, OPEN), 33),
        ((COMPLETED, COMPLETED, OPEN), 66),
        ((COMPLETED, FAILED), 50),
        ((COMPLETED, CANCELED), 100),
        ((CANCELED, CANCELED), 0),
    ],
)
def test_percent_is_of_the_tasks_not_cancelled(lifecycles: tuple[Lifecycle, ...], percent: int) -> None:
    assert of(*lifecycles).progress["percent"] == percent


def test_progress_counts_every_state() -> None:
    assert of(OPEN, ACTIVE, PAUSED, COMPLETED, FAILED, CANCELED).progress == {
        "total": 6,
        "open": 1,
        "active": 1,
        "paused": 1,
        "completed": 1,
        "failed": 1,
        "canceled": 1,
        "percent": 20,
    }


def test_assignees_are_joined_in_the_order_of_steps_each_once() -> None:
    got = rollup([Child(1, assignees=("cid", "ann")), Child(0, assignees=("bob", "cid"))])
    assert got.assignees == ("bob", "cid", "ann")


def test_the_current_step_is_the_first_that_is_not_ended() -> None:
    assert of(COMPLETED, PAUSED, OPEN).current_step == 1
    assert of(FAILED, OPEN).current_step == 1
    assert of(COMPLETED, CANCELED).current_step is None
    assert of(OPEN, canceled=True).current_step is None


def test_the_actual_end_is_there_once_the_whole_has_ended() -> None:
    one = Child(0, COMPLETED, started_at=at(2), ended_at=at(4))
    two = Child(1, ACTIVE, started_at=at(1))
    assert (rollup([one, two]).started_at, rollup([one, two]).ended_at) == (at(1), None)
    untouched, gone = Child(0), Child(1, CANCELED, started_at=at(1), ended_at=at(3))
    assert (rollup([untouched, gone]).rule, rollup([untouched, gone]).started_at) == ("U10", None)
    assert rollup([gone]).started_at == at(1)
    assert rollup([one, two._replace(lifecycle=FAILED, ended_at=at(3))]).ended_at == at(4)


def test_overdue_and_unresolved_are_of_tasks_that_go_on() -> None:
    trouble = Child(0, ACTIVE, overdue=True, unresolved=True)
    assert (rollup([trouble]).overdue, rollup([trouble]).unresolved) == (True, True)
    done = trouble._replace(lifecycle=COMPLETED)
    assert (rollup([done]).overdue, rollup([done]).unresolved) == (False, False)


def test_a_cancelled_task_leaves_no_mark_of_what_it_was() -> None:
    got = rollup([Child(0, CANCELED, dispatched=True, unresolved=True), Child(1)])
    assert (got.rule, got.unresolved) == ("U10", False)


# Against the table, for all of up to three tasks.


class Scene(NamedTuple):
    tasks: tuple[Child, ...]
    canceled: bool
    fail_fast: bool

    def all_are(self, *states: Lifecycle) -> bool:
        return bool(self.tasks) and all(task.lifecycle in states for task in self.tasks)

    def some_are(self, *states: Lifecycle) -> bool:
        return any(task.lifecycle in states for task in self.tasks)

    def begun(self) -> bool:
        touched = any(task.assignees or task.dispatched for task in self.left())
        return touched or self.some_are(ACTIVE, PAUSED, COMPLETED)

    def left(self) -> list[Child]:
        return [task for task in self.tasks if task.lifecycle != CANCELED]

    def at_rest(self) -> bool:
        going_on = [task.lifecycle for task in self.tasks if task.lifecycle not in TERMINAL]
        return bool(going_on) and set(going_on) == {PAUSED}


SPECIFIED: list[tuple[str, Callable[[Scene], bool], Callable[[Scene], Lifecycle]]] = [
    ("U1", lambda s: s.canceled, lambda s: CANCELED),
    ("U2", lambda s: s.all_are(COMPLETED), lambda s: COMPLETED),
    ("U3", lambda s: s.all_are(CANCELED), lambda s: CANCELED),
    ("U4", lambda s: s.fail_fast and s.some_are(FAILED), lambda s: FAILED),
    ("U5", lambda s: s.all_are(*TERMINAL) and s.some_are(FAILED), lambda s: FAILED),
    (
        "U6",
        lambda s: s.all_are(COMPLETED, CANCELED) and s.some_are(COMPLETED) and s.some_are(CANCELED),
        lambda s: COMPLETED,
    ),
    ("U7", lambda s: s.some_are(FAILED) and not s.all_are(*TERMINAL), lambda s: ACTIVE),
    ("U8", Scene.begun, lambda s: PAUSED if s.at_rest() else ACTIVE),
    ("U9", lambda s: any(task.unresolved for task in s.left()), lambda s: OPEN),
    ("U10", lambda s: True, lambda s: OPEN),
]
VARIANTS = (
    *(Child(0, state) for state in Lifecycle),
    Child(0, assignees=("ann",)),
    Child(0, dispatched=True),
    Child(0, unresolved=True),
    Child(0, CANCELED, dispatched=True),
    Child(0, CANCELED, unresolved=True),
)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_first_rule_of_the_table_that_fits_is_the_one(count: int) -> None:
    seen = set()
    for chosen in product(VARIANTS, repeat=count):
        tasks = tuple(task._replace(step=step) for step, task in enumerate(chosen))
        for canceled, fail_fast in product((False, True), repeat=2):
            scene = Scene(tasks, canceled, fail_fast)
            rule, master = next((rule, master(scene)) for rule, fits, master in SPECIFIED if fits(scene))
            got = rollup(tasks, canceled, fail_fast)
            assert (got.rule, got.lifecycle) == (rule, master), scene
            deciding = [task for task in tasks if decides(rule, task)]
            assert rule in ("U1", "U3", "U6") or all(task.lifecycle != CANCELED for task in deciding)
            assert got.unresolved or rule != "U9"
            seen.add(rule)
    assert count < 2 or seen == set(RULES)


def test_the_order_of_the_tasks_is_that_of_their_steps_however_they_come() -> None:
    tasks = [
        Child(0, COMPLETED, ("bob",), start="2025-10-31T08:00:00+07:00", label="met"),
        Child(1, PAUSED, ("ann", "bob"), start="2025-10-31T01:00:00Z", overdue=True),
        Child(2, CANCELED, end="2025-10-31T08:00:00Z"),
    ]
    assert len({repr(rollup(order)) for order in permutations(tasks)}) == 1


# In any order of what arrives, and with what arrives twice, against a fold written in another way.


def reference(tasks: dict[int, Child], canceled: bool, fail_fast: bool) -> dict[str, Any]:
    """Fold the tasks one by one into counts and winners, then read the answer off the counts."""
    counts: Counter[str] = Counter()
    people: list[str] = []
    begin: tuple[datetime, str] | None = None
    finish: tuple[datetime, str] | None = None
    began = ended = sub_status = current = None
    touched = unresolved = open_unresolved = overdue = False
    everything_canceled = all(task.lifecycle == "CANCELED" for task in tasks.values())
    for step in range(max(tasks, default=-1) + 1):
        if step not in tasks:
            continue
        task = tasks[step]
        state = task.lifecycle.value
        going_on = state in ("OPEN", "ACTIVE", "PAUSED")
        counts[state] += 1
        people += [name for name in task.assignees if name not in people]
        if state != "CANCELED":
            touched = touched or bool(task.assignees) or task.dispatched
            unresolved = unresolved or task.unresolved
        open_unresolved = open_unresolved or (task.unresolved and going_on)
        overdue = overdue or (task.overdue and going_on)
        if state != "CANCELED" or everything_canceled:
            if task.start is not None:
                moment = datetime.fromisoformat(task.start)
                if begin is None or moment < begin[0]:
                    begin = (moment, task.start)
            if task.end is not None:
                moment = datetime.fromisoformat(task.end)
                if finish is None or moment > finish[0]:
                    finish = (moment, task.end)
            if task.started_at is not None and (began is None or task.started_at < began):
                began = task.started_at
        if task.ended_at is not None and (ended is None or task.ended_at > ended):
            ended = task.ended_at
        if state == "COMPLETED" and task.label is not None:
            sub_status = task.label
        if going_on and current is None:
            current = step
    total = sum(counts.values())
    done, failed, gone = counts["COMPLETED"], counts["FAILED"], counts["CANCELED"]
    left = total - done - failed - gone
    if canceled:
        rule, master = "U1", "CANCELED"
    elif total and done == total:
        rule, master = "U2", "COMPLETED"
    elif total and gone == total:
        rule, master = "U3", "CANCELED"
    elif failed:
        rule, master = ("U4", "FAILED") if fail_fast else ("U7", "ACTIVE") if left else ("U5", "FAILED")
    elif total and not left:
        rule, master = "U6", "COMPLETED"
    elif touched or done or left > counts["OPEN"]:
        rule, master = "U8", "PAUSED" if left and left == counts["PAUSED"] else "ACTIVE"
    else:
        rule, master = ("U9" if unresolved else "U10"), "OPEN"
    closed = master in ("COMPLETED", "FAILED", "CANCELED")
    return {
        "lifecycle": master,
        "rule": rule,
        "partial": rule == "U6",
        "attention": rule == "U7",
        "unresolved": open_unresolved or rule == "U9",
        "overdue": overdue,
        "assignees": tuple(people),
        "start": begin[1] if begin else None,
        "end": finish[1] if finish else None,
        "started_at": began,
        "ended_at": ended if closed else None,
        "sub_status": sub_status,
        "current_step": None if closed else current,
        "progress": {
            "total": total,
            **{
                state.lower(): counts[state]
                for state in ("OPEN", "ACTIVE", "PAUSED", "COMPLETED", "FAILED", "CANCELED")
            },
            "percent": int(100 * done / (total - gone)) if total > gone else 0,
        },
    }


MOMENTS = st.integers(0, 5).map(at)
TEXTS = st.builds(
    lambda moment, hours: moment.astimezone(timezone(timedelta(hours=hours))).isoformat(), MOMENTS, st.integers(-11, 13)
)
FACTS = st.builds(
    Child,
    step=st.integers(0, 4),
    lifecycle=st.sampled_from(Lifecycle),
    assignees=st.lists(st.sampled_from(["ann", "bob", "cid"]), unique=True, max_size=2).map(tuple),
    dispatched=st.booleans(),
    unresolved=st.booleans(),
    overdue=st.booleans(),
    start=st.none() | TEXTS,
    end=st.none() | TEXTS,
    label=st.none() | st.sampled_from(["met", "sold"]),
    started_at=st.none() | MOMENTS,
    ended_at=st.none() | MOMENTS,
)


def arrive(updates: Iterable[tuple[int, Child]]) -> list[Child]:
    """Keep the newest of what arrived of each task, in the order in which the tasks were first heard of."""
    newest: dict[int, tuple[int, Child]] = {}
    for version, child in updates:
        if child.step not in newest or newest[child.step][0] < version:
            newest[child.step] = (version, child)
    return [child for _, child in newest.values()]


@settings(max_examples=200, deadline=None, database=None)
@given(history=st.lists(FACTS, max_size=10), canceled=st.booleans(), fail_fast=st.booleans(), data=st.data())
def test_neither_order_nor_repetition_of_what_arrives_matters(
    history: list[Child], canceled: bool, fail_fast: bool, data: st.DataObject
) -> None:
    updates = list(enumerate(history))
    again = data.draw(st.lists(st.sampled_from(updates), max_size=5)) if updates else []
    shuffled = data.draw(st.permutations(updates + again))
    got = rollup(arrive(shuffled), canceled, fail_fast)
    wanted = reference({child.step: child for child in history}, canceled, fail_fast)
    assert {name: getattr(got, name) for name in wanted} == wanted
    assert set(wanted) == set(Rollup._fields)
