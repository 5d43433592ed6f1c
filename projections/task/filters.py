"""What may be asked of each attribute of a task, with which operators, and the condition that it is in SQL.

No index serves the three periods, `suffix`, and `match` but of a name: they stay inside the tenant and the statement's
time-out. What is not there is greater than everything when rows are sorted, and fits no filter but `neq` and `exists`
false.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from domain.compare import name_key, text_key
from projections.support.conditions import (
    ALL,
    CONTAINS,
    EXISTS,
    MATCH,
    NEQ,
    NONE,
    ORDER,
    PREFIX,
    SCALAR,
    SET,
    SUFFIX,
    TEXT,
    Asked,
    Condition,
    Conditions,
    Where,
    among,
    asked_of,
    beside,
    between,
    scalar,
    text_of,
    texts,
)
from projections.support.grams import containing
from projections.support.people import members_of, person
from projections.support.query import BadQuery, time_of
from projections.support.table import NOT_DONE, held, indexed, title_key
from projections.support.time import stamp

_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?\Z")
_encode = msgspec.json.Encoder(order="sorted").encode


def where(asked: Asked) -> Where:
    """Return the condition of a filter; raises `BadQuery`."""
    if asked.name not in CONDITIONS:
        raise BadQuery("unknown-filter", f"filters are {', '.join(CONDITIONS)}", asked.parameter)
    return asked_of(CONDITIONS, asked)


def presence(name: str, there: bool) -> Where:
    """Return the condition that a task has something of this name, or has nothing."""
    return where(Asked("", name, EXISTS, "true" if there else "false", name))


# Titles are found by their key, which has no case and an end, and then compared as texts, in the same normal form.
_TITLE = "normalize(doc::jsonb ->> 'title')"


def _text(asked: Asked, value: Any) -> str:
    return text_key(text_of(asked, value))


def _name(asked: Asked) -> Where:
    operator, there = asked.operator, asked.presence()
    if there is not None:
        return Where("title_key > ''" if there else "title_key = ''")
    if operator in ORDER:
        key = title_key(text_of(asked, asked.single()))
        return Where(f"(title_key {ORDER[operator]} %s AND title_key > '')", (key,))
    if operator in (MATCH, PREFIX, SUFFIX):
        return _part_of_name(asked, name_key(text_of(asked, asked.single())))
    wanted = [_text(asked, item) for item in asked.several()]
    keys = sorted({title_key(text) for text in wanted})
    if operator != NEQ:
        found = among("title_key", "text", keys)
        return found if found is NONE else Where(f"({found.sql} AND {_TITLE} = ANY(%s))", (*found.params, wanted))
    if not wanted:
        return ALL
    stretches = beside("title_key", "text", keys, "FALSE")
    same = f"(title_key = ANY(%s) AND {_TITLE} <> ALL(%s))"
    return Where(f"({stretches.sql} OR {same})", (*stretches.params, keys, wanted))


def _part_of_name(asked: Asked, text: str) -> Where:
    if asked.operator == MATCH:
        return containing(asked.tenant, text)
    if asked.operator == SUFFIX:
        return Where("right(title_key, length(%s)) = %s", (text, text))
    return between("title_key", indexed(text))


# Times and periods.


def _time(asked: Asked, value: Any) -> datetime:
    return time_of(value, asked.parameter)


def _number(asked: Asked, value: Any) -> float:
    if not isinstance(value, str) or not _NUMBER.match(value):
        raise asked.bad("this filter takes a number")
    return float(value)


def _period(expression: str) -> Condition:
    def condition(asked: Asked) -> Where:
        operator, there = asked.operator, asked.presence()
        if there is not None:
            return ALL if there else NONE
        if asked.now is None:
            raise TypeError("a period is asked for at a time")
        times = (stamp(asked.now),) * expression.count("%s")
        if operator in ORDER:
            number = _number(asked, asked.single())
            return Where(f"{expression} {ORDER[operator]} %s::numeric", (*times, number))
        numbers = [_number(asked, item) for item in asked.several()]
        if operator == NEQ:
            return Where(f"{expression} <> ALL(%s::numeric[])", (*times, numbers))
        return Where(f"{expression} = ANY(%s::numeric[])", (*times, numbers))

    return condition


def _since(begin: str, end: str) -> str:
    return f"greatest(0, extract(epoch FROM {end} - {begin}))"


_NOW = "%s::timestamptz"
_BEGUN = "(doc::jsonb ->> 'working_since')::timestamptz"
_WORKING = (
    "(coalesce((doc::jsonb ->> 'worked_seconds')::numeric, 0)"
    f" + CASE WHEN doc::jsonb ->> 'working_since' IS NULL THEN 0 ELSE {_since(_BEGUN, _NOW)} END)"
)
_LIVE = f"(CASE WHEN started_at IS NULL THEN 0 ELSE {_since('started_at', f'coalesce(ended_at, {_NOW})')} END)"
_PIPELINE = _since("created_at", f"coalesce(ended_at, {_NOW})")
# The three periods, as they are at a time that each of their placeholders stands for.
PERIODS: Mapping[str, str] = {"working_seconds": _WORKING, "live_seconds": _LIVE, "pipeline_seconds": _PIPELINE}


def _list(column: str, *, people: bool = False) -> Condition:
    def condition(asked: Asked) -> Where:
        there = asked.presence()
        if there is not None:
            return Where(f"{column} IS NOT NULL" if there else f"{column} IS NULL")
        names = members_of(asked) if people else [text_of(asked, item) for item in asked.several()]
        wanted = [held(asked.tenant, name) for name in names]
        if asked.operator == NEQ:
            return Where(f"({column} IS NULL OR NOT {column} && %s::text[])", (wanted,))
        return Where(f"{column} && %s::text[]", (wanted,)) if wanted else NONE

    return condition


# Objects.


def _objects(asked: Asked) -> list[dict[str, Any]]:
    values = asked.several()
    if not all(isinstance(value, dict) for value in values):
        raise asked.bad('the value is a JSON object, such as {"signed":true}')
    return values


def _object(column: str) -> Condition:
    def condition(asked: Asked) -> Where:
        there, none = asked.presence(), f"{column} IS NULL"
        if there is not None:
            return Where(f"{column} IS NOT NULL" if there else none)
        parts, params = [], []
        for value in _objects(asked):
            held = _encode({asked.tenant: value}).decode()
            if asked.operator == CONTAINS:
                parts.append(f"{column} @> %s::jsonb" if value else "TRUE")
                params += [held] if value else []
            else:
                # Contained first, since an index finds just that.
                parts.append(f"({column} @> %s::jsonb AND {column} = %s::jsonb)" if value else none)
                params += [held, held] if value else []
        if not parts:
            return ALL if asked.operator == NEQ else NONE
        one = f"({' OR '.join(parts)})"
        return Where(f"{one} IS NOT TRUE" if asked.operator == NEQ else one, tuple(params))

    return condition


INDICATORS: Mapping[str, str] = {
    "overdue": "overdue",
    "late": "late",
    "unresolved": "resolution IN ('FAILED', 'PENDING')",
    "dispatched": "dispatch = 'DISPATCHED'",
}


def _indicators(asked: Asked) -> Where:
    there = asked.presence()
    if there is not None:
        return ALL if there else NONE
    parts = []
    for value in _objects(asked):
        known = set(value) <= set(INDICATORS) and all(isinstance(on, bool) for on in value.values())
        whole = asked.operator == CONTAINS or len(value) == len(INDICATORS)
        marks = [sql if value[name] else f"NOT ({sql})" for name, sql in INDICATORS.items() if known and name in value]
        parts.append(f"({' AND '.join(marks) or 'TRUE'})" if known and whole else "FALSE")
    one = f"({' OR '.join(parts) or 'FALSE'})"
    return Where(f"NOT {one}" if asked.operator == NEQ else one)


CONDITIONS: Conditions = {
    "id": (TEXT, texts("id", "FALSE")),
    "assigned": (SCALAR, person("assignees[1]")),
    "name": (TEXT, _name),
    "started_at": (SCALAR, scalar("started_at", "timestamptz", _time, "started_at IS NULL")),
    "completed_at": (
        SCALAR,
        scalar("done_at", "timestamptz", _time, f"done_at = '{NOT_DONE}'", f"done_at > '{NOT_DONE}'"),
    ),
    "wake_at": (SCALAR, scalar("wake_at", "timestamptz", _time, "wake_at IS NULL")),
    "created_at": (SCALAR, scalar("created_at", "timestamptz", _time, "FALSE")),
    "roles": (SET, _list("roles")),
    "whitelist": (SET, _list("whitelist", people=True)),
    "blacklist": (SET, _list("blacklist", people=True)),
    **{name: (SCALAR, _period(expression)) for name, expression in PERIODS.items()},
    "project": (TEXT, texts("project", "project IS NULL")),
    "activity_id": (TEXT, texts("activity_id", "activity_id IS NULL")),
    "data": (SET, _object("data")),
    "output": (SET, _object("output")),
    "indicators": (SET, _indicators),
}
