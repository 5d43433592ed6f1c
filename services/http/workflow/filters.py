"""The filters and sorts of activities: the page's names and values as conditions of the read model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from domain.references import is_account
from projections.support.conditions import (
    CONTAINS,
    EXISTS,
    IN,
    MATCH,
    OPERATORS,
    ORDER,
    PREFIX,
    SUFFIX,
    Asked,
    Where,
    words,
)
from projections.support.people import Members
from projections.task import filters as task_filters
from services.commands import wire
from services.http.core.errors import STATUS_OF_CODE, ApiError
from services.http.core.models import names
from services.http.core.parameters import one
from services.http.workflow.models import STATUSES, ActivityAttributes

Parameters = dict[str, list[str]]
# The page's names of what is filtered and sorted by, and the read model's.
_OTHERWISE: Mapping[str, str] = {
    "assigned_account_id": "assigned",
    "try_resolve_at": "wake_at",
    "actor_roles": "roles",
    "whitelisted_ids": "whitelist",
    "blacklisted_ids": "blacklist",
    "project_id": "project",
    "work_unit_id": "activity_id",
}
FILTERS: Mapping[str, str] = {
    name: _OTHERWISE.get(name, name) for name in (*names(ActivityAttributes), "project_id", "work_unit_id")
}
# Lists and objects have no order.
_UNSORTED = frozenset({"actor_roles", "whitelisted_ids", "blacklisted_ids", "data", "output", "indicators"})
SORTS: Mapping[str, str] = {name: its for name, its in FILTERS.items() if name not in _UNSORTED}
# Our statuses in the order of the dialect's words for them.
STATUS_ORDER = sorted(STATUSES, key=STATUSES.__getitem__)
OF_PEOPLE = frozenset({"assigned_account_id", "whitelisted_ids", "blacklisted_ids"})
# By the read models' names.
_PEOPLE = frozenset({*(FILTERS[name] for name in OF_PEOPLE), "member", "created_by"})
OBJECTS = frozenset({"data", "output", "indicators"})
# Operators that compare with one value, which may be given in brackets all the same.
_SINGLE = frozenset({EXISTS, MATCH, PREFIX, SUFFIX, *ORDER})
_STATUS = words("status", STATUSES)
_FILTER = re.compile(r"filter\[([a-z_]+?)(?:__([a-z]+))?\](\[\])?\Z")


def order_of(parameters: Parameters, sorts: Mapping[str, str] = SORTS) -> list[tuple[str, bool]]:
    """Take the order out of the parameters: names of the read model's sorts, each with whether it descends."""
    text = one(parameters, "sort")
    order: dict[str, bool] = {}
    for name in text.split(",") if text else ():
        plain = name.removeprefix("-")
        if plain not in sorts:
            detail = f"sort by {', '.join(sorts)}, each with - before it or not"
            raise ApiError("bad-sort", detail, parameter="sort")
        # What is sorted by already has no order left.
        order.setdefault(sorts[plain], name.startswith("-"))
    return list(order.items())


def taken_filters(parameters: Parameters, tenant: str, known: Mapping[str, str] = FILTERS) -> list[Asked]:
    """Take the filters out of the parameters; those of people have references as their values."""
    found: dict[str, Asked] = {}
    for parameter in [name for name in parameters if name.startswith("filter")]:
        match = _FILTER.match(parameter)
        name, operator, listed = match.groups("") if match is not None else ("", "", "")
        if name not in known or (operator and operator not in OPERATORS):
            detail = f"filters are {', '.join(known)}, each with one of __{', __'.join(OPERATORS)} behind it or not"
            raise ApiError("unknown-filter", detail, parameter=parameter)
        value = _value(name, operator, parameters.pop(parameter), bool(listed), parameter)
        asked = Asked(tenant, known[name], operator, value, parameter)
        if found.setdefault(parameter.removesuffix("[]"), asked) is not asked:
            raise ApiError("bad-filter", "this filter is given in two ways", parameter=parameter)
    return list(found.values())


def _value(name: str, operator: str, values: list[str], listed: bool, parameter: str) -> Any:
    """Return a filter's value: several when it is a list, None when it is empty, JSON where objects are asked for."""
    listed = listed and not (operator in _SINGLE and len(values) == 1)
    several = listed or len(values) > 1 or operator == IN or (operator == CONTAINS and name not in OBJECTS)
    if not several:
        text = values[0]
        return None if text == "" else _object(text, parameter) if name in OBJECTS and operator != EXISTS else text
    if not listed and len(values) == 1 and name not in OBJECTS:
        values = values[0].split(",")
    if values == [""]:
        return []
    return [_object(text, parameter) for text in values] if name in OBJECTS else values


def _object(text: str, parameter: str) -> Any:
    try:
        found = wire.load_json(text.encode("utf-8", "surrogatepass"))
    except wire.InvalidMessage as error:
        code = error.code if STATUS_OF_CODE.get(error.code) == 422 else "bad-filter"
        raise ApiError(code, f"the value is a JSON object: {error.detail}", parameter=parameter) from None
    if not isinstance(found, dict):
        raise ApiError("bad-filter", 'the value is a JSON object, such as {"signed":true}', parameter=parameter)
    return found


def _reference(value: str) -> str:
    """Return the reference in a value; an account number is the dialect's own form."""
    number = int(value) if value.isascii() and value.isdigit() and len(value) <= 18 else None
    # A number that no account can have names nobody, as does an id that no member has.
    return f"account:{number}" if is_account(number) else value


def _names_people(asked: Asked) -> bool:
    """Tell whether a filter's values are references to people."""
    return asked.name in _PEOPLE and asked.value is not None and asked.operator not in (EXISTS, *ORDER)


def _references(asked: Asked) -> list[str]:
    """Return the people that a filter names, each as a command would."""
    return [_reference(value) for value in (asked.value if isinstance(asked.value, list) else [asked.value])]


def references_of(filters: Iterable[Asked]) -> dict[str, list[str]]:
    """Return the references that have to be resolved before anything can be asked, by the parameter they stand in."""
    return {each.parameter: _references(each) for each in filters if _names_people(each)}


def where_of(asked: Asked) -> Where:
    """Return the condition of a filter on tasks, or on what has the same columns."""
    return _STATUS(asked) if asked.name == "status" else task_filters.where(asked)


def conditions_of(
    filters: Iterable[Asked],
    members: Mapping[str, tuple[str, ...]],
    now: datetime,
    where: Callable[[Asked], Where] = where_of,
) -> list[Where]:
    """Return the filters as conditions; `members` are those behind the references."""
    found = []
    for each in filters:
        asked = replace(each, now=now)
        if _names_people(each):
            named = Members(member for text in _references(each) for member in members.get(text, ()))
            asked = replace(asked, value=named)
        found.append(where(asked))
    return found
