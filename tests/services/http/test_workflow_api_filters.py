"""Every filter with every operator and value finds just what the shown resources say that it should."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

import projections
from domain.directory import EntryRegistered, EntryRetired
from domain.plan import DispatchPlan
from domain.task import (
    DispatchSucceeded,
    ResolutionFailed,
    TaskAssigned,
    TaskBecameOverdue,
    TaskCanceled,
    TaskCompleted,
    TaskCreated,
    TaskDataSaved,
    TaskFailed,
    TaskPaused,
    TaskStarted,
    TaskWakeSet,
)
from projections import directory
from projections.support import query
from projections.support.conditions import OPERATORS
from projections.task import pages as task_pages
from projections.task import table as tasks
from projections.task.pages import Order
from services.http.core.errors import ApiError
from services.http.core.members import Member, references, resolved
from services.http.workflow.filters import FILTERS, SORTS, STATUS_ORDER, conditions_of, references_of, taken_filters
from services.http.workflow.models import Activity, people_of
from services.store.migrate import upgrade
from tests.given import NOW
from tests.projections.recording import recorded

LATER = NOW + timedelta(seconds=500)
DEFAULT = Order((), STATUS_ORDER, LATER)
LONG = "Long " * 58
MEMBERS = {"ann": 42, "bob": 43, "Zed": 7, "gone": 44}
EVENTS: list[Any] = [
    *(EntryRegistered("member", member, {"account_id": number}) for member, number in MEMBERS.items()),
    EntryRetired("member", "gone"),
    # Whoever has the number of somebody who left.
    EntryRegistered("member", "new", {"account_id": 44}),
    TaskCreated("plain"),
    TaskCreated("t-01", "Visit", "a1", 0, "survey", "f1", {"kg": 2, "who": {"name": "Doe", "age": 7}}, workflow_id="w"),
    TaskCreated("t-02", "visit", "a1", 1, project="p1", roles=("driver", "lead"), whitelist=("ann", "nobody")),
    TaskCreated("t-10", "Visit 2", "a2", 0, project="p1", roles=("driver",), whitelist=("bob",), blacklist=("ann",)),
    TaskCreated("t_11", "VISITOR", project="p10", fields={"kg": 2.0, "on": True, "list": [1, "a", {"x": None}]}),
    TaskCreated("T-12", "Straße", project="P1", plan=DispatchPlan("SMS"), fields={"kg": True, "none": None}),
    TaskCreated("u", "\U0010ffff", activity_id="a10", fields={"text": "ü\"'\\%_", "list": []}),
    TaskCreated("v", LONG + "a", fields={"kg": "2"}),
    TaskCreated("w", LONG + "b", blacklist=("gone",)),
    TaskCreated("x", "%vi_sit", project="q"),
    TaskCreated("y", ""),
    TaskAssigned("t-01", "a1", ("ann", "bob")),
    TaskAssigned("t-02", "a1", ("bob",)),
    TaskAssigned("t_11", None, ("gone",)),
    TaskAssigned("x", None, ("Zed",)),
    TaskAssigned("w", None, ("new",)),
    TaskStarted("t-01", "a1", "ann"),
    TaskStarted("t-02", "a1", "bob"),
    TaskStarted("t_11", None, "gone"),
    TaskStarted("x", None, None),
    TaskDataSaved("t-02", "a1", {}, {"draft": 1}),
    TaskPaused("t-02", "a1", "asked"),
    TaskCompleted("t-01", "a1", {"signed": True, "who": {"name": "Roe"}}, late=True),
    TaskCompleted("x", None, {}),
    TaskFailed("t_11", None, "no"),
    TaskCanceled("u", "a10", None, ()),
    ResolutionFailed("T-12", None, "nobody", ()),
    TaskWakeSet("T-12", None, "resolution", "2025-10-31T08:30:00.000+07:00"),
    TaskBecameOverdue("v", None, "2025-10-31T08:30:00.000+07:00"),
    DispatchSucceeded("w", None, 1),
]


@pytest.fixture(scope="module")
def filled(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    upgrade(database_url)
    log = recorded(EVENTS, every=3)
    others = [TaskCreated("theirs", "Visit", "a1", 0, project="p1", roles=("driver",), fields={"kg": 2})]
    log += recorded(others, tenant="other", first=1000)
    with psycopg.connect(database_url, autocommit=True) as session:
        for model in (tasks, directory):
            model.projection(projections.suffix(model)).project(session, log)
        yield session


@pytest.fixture(scope="module")
def shown(filled: psycopg.Connection[Any]) -> dict[str, dict[str, Any]]:
    """Every activity as a caller sees it, with the ids of what it belongs to among its attributes."""
    people = {member: Member(None, number, None, {}, False) for member, number in {**MEMBERS, "new": 44}.items()}
    found = {}
    for row in filled.execute(*tasks.page("acme", {}, limit=1000)).fetchall():
        task = tasks.resource(row, LATER)
        assert set(people_of(task)) <= {*people, "nobody"}
        resource = Activity.show(task, people)
        related = {name: its["data"] and its["data"]["id"] for name, its in resource["relationships"].items()}
        belongs = {"project_id": related["project"], "work_unit_id": related["work_unit"]}
        found[resource["id"]] = {**resource["attributes"], **belongs}
    return found


TEXTS = ("id", "name", "status", "project_id", "work_unit_id")
TIMES = ("started_at", "completed_at", "try_resolve_at", "created_at")
NUMBERS = ("assigned_account_id", "working_seconds", "live_seconds", "pipeline_seconds")
LISTS = ("actor_roles", "whitelisted_ids", "blacklisted_ids")
OBJECTS = ("data", "output", "indicators")
ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "lt": lambda one, other: one < other,
    "lte": lambda one, other: one <= other,
    "gt": lambda one, other: one > other,
    "gte": lambda one, other: one >= other,
}
TAKEN = {
    **{name: {"", "neq", "in", *ORDERS, "match", "prefix", "suffix", "exists"} for name in TEXTS},
    **{name: {"", "neq", "in", *ORDERS, "exists"} for name in (*TIMES, *NUMBERS)},
    **{name: {"", "neq", "in", "contains", "exists"} for name in (*LISTS, *OBJECTS)},
}


def same(one: Any, other: Any) -> bool:
    """Compare as JSON does: a number is no flag."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


def holds(whole: Any, part: Any) -> bool:
    """Tell whether JSON holds a part."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(key in whole and holds(whole[key], value) for key, value in part.items())
    if isinstance(whole, list) and isinstance(part, list):
        return all(any(holds(item, wanted) for item in whole) for wanted in part)
    return same(whole, part)


def fits(name: str, operator: str, value: Any, texts: list[str] | None) -> bool:
    """Say what a filter means, by what is shown; `texts` is None for the empty value."""
    missing = value is None or value in ("", [], (), {})
    if operator == "exists":
        return missing is (texts in (["false"], ["0"], [""]))
    if texts is None:
        return missing is (operator == "")
    if operator == "neq":
        return not fits(name, "", value, texts)
    if name in LISTS:
        return any(str(item) in texts and (name == "actor_roles" or isinstance(item, int)) for item in value)
    if name in OBJECTS:
        wanted = [json.loads(text) for text in texts]
        compare = holds if operator == "contains" else same
        return any(compare(value or {}, one) for one in wanted)
    if missing:
        return False
    read: Callable[[Any], Any] = str
    if name in TIMES:
        read = datetime.fromisoformat
    elif name in NUMBERS:
        read = float
    if operator in ORDERS:
        return ORDERS[operator](ordered(name, read(value)), ordered(name, read(texts[0])))
    text = texts[0]
    if operator in ("match", "prefix", "suffix"):
        return {
            "match": text.casefold() in value.casefold(),
            "prefix": value.casefold().startswith(text.casefold()),
            "suffix": value.casefold().endswith(text.casefold()),
        }[operator]
    return read(value) in [read(text) for text in texts]


def ordered(name: str, value: Any) -> Any:
    """Return what stands for a value in an order: names have no case there."""
    text = value.casefold() if name == "name" else value
    return text.encode() if isinstance(text, str) else text


def ask(filled: psycopg.Connection[Any], parameters: dict[str, list[str]]) -> list[str]:
    filters = taken_filters(parameters, "acme")
    assert not parameters
    members: dict[str, tuple[str, ...]] = {}
    for parameter, texts in references_of(filters).items():
        wanted = references(texts, parameter)
        question = directory.named("acme", wanted.values())
        members |= resolved(wanted, filled.execute(*question) if question is not None else ())
    conditions = conditions_of(filters, members, LATER)
    found = [row[1] for row in filled.execute(*task_pages.page("acme", conditions, DEFAULT, 1000, 0))]
    assert filled.execute(*task_pages.count("acme", conditions)).fetchall() == [(len(found),)]
    return found


def values_of(name: str, shown: dict[str, dict[str, Any]]) -> list[str]:
    """Return what there is to be asked for, what comes close to it, and what is not there at all."""
    there = [task[name] for task in shown.values() if task[name] not in (None, "", [], (), {})]
    if name in OBJECTS:
        more = ['{"kg":2}', '{"kg":true}', '{"who":{"name":"Doe"}}', '{"list":["a"]}', '{"list":[]}', "{}",
                '{"overdue":true}', '{"late":false,"overdue":false}', '{"overdue":1}', '{"none":null}',
                '{"acme":{}}']  # fmt: skip
        return [*map(json.dumps, there), *more]
    if name in LISTS:
        listed = {item for value in there for item in value if name == "actor_roles" or isinstance(item, int)}
        return [*map(str, listed), "1"]
    if name in TIMES:
        return [*there, "2025-10-31T08:00:33.000+07:00", "2000-01-01T00:00:00Z"]
    if name in NUMBERS:
        return [*(f"{value:.3f}".removesuffix(".000") for value in there), "0", "43"]
    parts = [text[:4] for text in there] + [text[1:] for text in there if len(text) > 1]
    return [*there, *(part for part in parts if part), "vi", "%", "_", "Z", "\U0010ffff\U0010ffff", "STRASSE", "o'\\"]


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_finds_what_is_shown(
    filled: psycopg.Connection[Any], shown: dict[str, dict[str, Any]], name: str
) -> None:
    values = list(dict.fromkeys(values_of(name, shown)))
    for operator in sorted(TAKEN[name]):
        asked: list[list[str] | None] = [[value] for value in values]
        if operator == "exists":
            asked = [["true"], ["false"], ["1"], ["0"], [""]]
        elif operator in ("", "neq"):
            asked.append(None)
        parameter = f"filter[{name}__{operator}]" if operator else f"filter[{name}]"
        for texts in asked:
            expected = {key for key, task in shown.items() if fits(name, operator, task[name], texts)}
            # Whoever is asked for by brackets is one of several.
            single = parameter if operator not in ("in", "contains") or name in OBJECTS else f"{parameter}[]"
            # Some clients put every value into brackets, even if it is the only one.
            for way in {single, *([f"{parameter}[]"] if texts is not None else ())}:
                found = ask(filled, {way: texts if texts is not None else [""]})
                assert set(found) == expected, (way, texts)
                assert len(found) == len(expected)


@pytest.mark.parametrize("name", FILTERS)
def test_several_values_are_any_of_them_and_none_are_nothing(
    filled: psycopg.Connection[Any], shown: dict[str, dict[str, Any]], name: str
) -> None:
    values = list(dict.fromkeys(values_of(name, shown)))[:6]
    for one, other in itertools.pairwise(values):
        expected = {key for key, task in shown.items() if fits(name, "in", task[name], [one, other])}
        ways: list[dict[str, list[str]]] = [
            {f"filter[{name}][]": [one, other]},
            {f"filter[{name}__in][]": [one, other]},
            {f"filter[{name}]": [one, other]},
        ]
        if name not in OBJECTS and "," not in one + other:
            ways.append({f"filter[{name}__in]": [f"{one},{other}"]})
        for way in ways:
            assert set(ask(filled, dict(way))) == expected, way
        beside = {key for key, task in shown.items() if fits(name, "neq", task[name], [one, other])}
        assert set(ask(filled, {f"filter[{name}__neq][]": [one, other]})) == beside
    assert ask(filled, {f"filter[{name}][]": [""]}) == []
    assert ask(filled, {f"filter[{name}__in]": [""]}) == []
    assert len(ask(filled, {f"filter[{name}__neq][]": [""]})) == len(shown)


@pytest.mark.parametrize(
    ("name", "operator"),
    [(name, operator) for name in FILTERS for operator in OPERATORS if operator not in TAKEN[name]],
)
def test_an_operator_without_a_meaning_is_refused(filled: psycopg.Connection[Any], name: str, operator: str) -> None:
    with pytest.raises((ApiError, query.BadQuery)) as refused:
        ask(filled, {f"filter[{name}__{operator}]": ["{}" if name in OBJECTS else "1"]})
    assert refused.value.code == "bad-filter"
    assert refused.value.parameter == f"filter[{name}__{operator}]"


def test_filters_hold_together(filled: psycopg.Connection[Any]) -> None:
    asked = {"filter[status]": ["completed"], "filter[project_id]": ["q"], "filter[name__prefix]": ["%v"]}
    assert ask(filled, asked) == ["x"]
    assert ask(filled, {"filter[live_seconds__gt]": ["1"], "filter[work_unit_id]": ["a1"]}) == ["t-02", "t-01"]


@pytest.mark.parametrize("name", SORTS)
def test_each_sort_orders_what_is_shown(
    filled: psycopg.Connection[Any], shown: dict[str, dict[str, Any]], name: str
) -> None:
    def key(entity: str) -> Any:
        value = shown[entity][name]
        # Nothing comes last; a name that is not there is an empty one.
        return (
            value is None and name != "name",
            ordered(name, (0 if name in NUMBERS else "") if value is None else value),
        )

    for falling in (False, True):
        asked = task_pages.page("acme", [], Order([(SORTS[name], falling)], STATUS_ORDER, LATER), 1000, 0)
        found = [row[1] for row in filled.execute(*asked)]
        assert sorted(found) == sorted(shown)
        assert [key(entity) for entity in found] == sorted(map(key, found), reverse=falling)


def test_pages_follow_one_another_in_an_order_of_several(filled: psycopg.Connection[Any]) -> None:
    order = Order([("status", False), ("name", True)], STATUS_ORDER, LATER)
    whole = [row[1] for row in filled.execute(*task_pages.page("acme", [], order, 1000, 0))]
    parts = [filled.execute(*task_pages.page("acme", [], order, 4, offset)) for offset in range(0, 16, 4)]
    assert [row[1] for part in parts for row in part] == whole


def test_no_text_of_a_caller_becomes_a_part_of_a_statement() -> None:
    evil = "x'; DROP TABLE tasks; --"
    for name in ("id", "name", "project_id", "work_unit_id", "actor_roles"):
        for operator in sorted(TAKEN[name] - {"exists"}):
            parameter = f"filter[{name}__{operator}]" if operator else f"filter[{name}]"
            asked = taken_filters({parameter: [evil]}, "acme")
            statement = task_pages.page("acme", conditions_of(asked, {}, LATER), DEFAULT, 10, 0)
            assert "DROP" not in statement.sql
            assert "drop" in str(statement.params).casefold()
