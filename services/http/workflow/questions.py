"""The dialect's query parameters: pages, sorts, filters and what to include, each checked before anything is asked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.references import is_account
from projections.support.conditions import CONTAINS, EXISTS, IN, OPERATORS, ORDER, Asked, Where, words
from projections.support.query import MOST_ROWS
from projections.task import filters as task_filters
from projections.task.filters import Members
from projections.task.pages import MOST_PAGES
from services.commands import wire
from services.http.core.errors import STATUS_OF_CODE, ApiError
from services.http.workflow.shapes import ATTRIBUTES, RELATED, STATUSES

Parameters = dict[str, list[str]]
# The page's names of what is filtered and sorted by, and the read model's.
FILTERS: Mapping[str, str] = {
    "id": "id",
    "assigned_account_id": "assigned",
    "name": "name",
    "status": "status",
    "started_at": "started_at",
    "completed_at": "completed_at",
    "try_resolve_at": "wake_at",
    "actor_roles": "roles",
    "whitelisted_ids": "whitelist",
    "blacklisted_ids": "blacklist",
    "working_seconds": "working_seconds",
    "live_seconds": "live_seconds",
    "pipeline_seconds": "pipeline_seconds",
    "project_id": "project",
    "data": "data",
    "output": "output",
    "indicators": "indicators",
    "created_at": "created_at",
    "work_unit_id": "activity_id",
}
SORTS: Mapping[str, str] = {
    "id": "id",
    "name": "name",
    "status": "status",
    "started_at": "started_at",
    "completed_at": "completed_at",
    "try_resolve_at": "wake_at",
    "created_at": "created_at",
    "project_id": "project",
    "work_unit_id": "activity_id",
}
# Our statuses in the order of the dialect's words for them.
STATUS_ORDER = sorted(STATUSES, key=STATUSES.__getitem__)
_PEOPLE = frozenset({"assigned_account_id", "whitelisted_ids", "blacklisted_ids"})
_OBJECTS = frozenset({"data", "output", "indicators"})
_STATUS = words("status", STATUSES)
_FILTER = re.compile(r"filter\[([a-z_]+?)(?:__([a-z]+))?\](\[\])?\Z")
_FIELDS = re.compile(r"fields\[([a-z_/]+)\](\[\])?\Z")


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter as it was asked: the value is None, a text or an object, or several of them."""

    name: str
    operator: str
    value: Any
    parameter: str


def taken_filters(parameters: Parameters) -> list[Filter]:
    """Take the filters out of the parameters."""
    found: dict[str, Filter] = {}
    for parameter in [name for name in parameters if name.startswith("filter")]:
        match = _FILTER.match(parameter)
        name, operator, listed = match.groups() if match is not None else ("", "", None)
        if name not in FILTERS or (operator is not None and operator not in OPERATORS):
            detail = f"filters are {', '.join(FILTERS)}, each with one of __{', __'.join(OPERATORS)} behind it or not"
            raise ApiError("unknown-filter", detail, parameter=parameter)
        asked = Filter(
            name,
            operator or "",
            _value(name, operator or "", parameters.pop(parameter), bool(listed), parameter),
            parameter,
        )
        if found.setdefault(parameter.removesuffix("[]"), asked) is not asked:
            raise ApiError("bad-filter", "this filter is given in two ways", parameter=parameter)
    return list(found.values())


def _value(name: str, operator: str, values: list[str], listed: bool, parameter: str) -> Any:
    """Return a filter's value: several when it is a list, None when it is empty, JSON where objects are asked for."""
    several = listed or len(values) > 1 or operator == IN or (operator == CONTAINS and name not in _OBJECTS)
    if not several:
        text = values[0]
        return None if text == "" else _object(text, parameter) if name in _OBJECTS and operator != EXISTS else text
    if not listed and len(values) == 1 and name not in _OBJECTS:
        values = values[0].split(",")
    if values == [""]:
        return []
    return [_object(text, parameter) for text in values] if name in _OBJECTS else values


def _object(text: str, parameter: str) -> Any:
    try:
        found = wire.load_json(text.encode("utf-8", "surrogatepass"))
    except wire.Malformed as error:
        code = error.code if STATUS_OF_CODE.get(error.code) == 422 else "bad-filter"
        raise ApiError(code, f"the value is a JSON object: {error.detail}", parameter=parameter) from None
    if not isinstance(found, dict):
        raise ApiError("bad-filter", 'the value is a JSON object, such as {"signed":true}', parameter=parameter)
    return found


def references_of(filters: Iterable[Filter]) -> dict[str, list[str]]:
    """Return the references that have to be resolved before anything can be asked, by the parameter they stand in."""
    return {one.parameter: _references(one) for one in filters if _names_people(one)}


def _references(one: Filter) -> list[str]:
    """Return the people that a filter names, each as a command would."""
    values = one.value if isinstance(one.value, list) else [one.value]
    return [_reference(value) for value in values]


def _reference(value: str) -> str:
    """Return the reference in a value; an account number is the dialect's own form."""
    number = int(value) if value.isascii() and value.isdigit() and len(value) <= 18 else None
    # A number that no account can have names nobody, as does an id that no member has.
    return f"account:{number}" if is_account(number) else value


def _names_people(one: Filter) -> bool:
    return one.name in _PEOPLE and one.value is not None and one.operator not in (EXISTS, *ORDER)


def conditions_of(
    filters: list[Filter], tenant: str, members: Mapping[str, tuple[str, ...]], now: datetime
) -> list[Where]:
    """Return the filters as conditions; `members` are those behind the references."""
    return [_condition(one, tenant, members, now) for one in filters]


def _condition(one: Filter, tenant: str, members: Mapping[str, tuple[str, ...]], now: datetime) -> Where:
    asked = _asked(one, tenant, now)
    if one.name == "status":
        return _STATUS(asked)
    if not _names_people(one):
        return task_filters.where(asked)
    ids = Members(member for text in _references(one) for member in members.get(text, ()))
    return task_filters.where(Asked(tenant, asked.name, asked.operator, ids, one.parameter, now))


def _asked(one: Filter, tenant: str, now: datetime) -> Asked:
    return Asked(tenant, FILTERS[one.name], one.operator, one.value, one.parameter, now)


@dataclass(frozen=True, slots=True)
class Page:
    """Which rows of the answer are wanted, and in which order."""

    number: int
    size: int
    order: tuple[tuple[str, bool], ...]
    count: bool

    @property
    def offset(self) -> int:
        """Return how many rows come before the page."""
        return (self.number - 1) * self.size


def taken_page(parameters: Parameters) -> Page:
    """Take what says which page is wanted."""
    size = _whole(parameters, "page[size]", MOST_ROWS, MOST_ROWS)
    number = _whole(parameters, "page[number]", 1, MOST_PAGES)
    count = _single(parameters, "count")
    if count not in (None, "true", "false"):
        raise ApiError("bad-filter", "count is true or false", parameter="count")
    return Page(number, size, _order(parameters), count == "true")


def _order(parameters: Parameters) -> tuple[tuple[str, bool], ...]:
    text = _single(parameters, "sort")
    order: dict[str, bool] = {}
    for name in text.split(",") if text else ():
        plain = name.removeprefix("-")
        if plain not in SORTS:
            detail = f"sort by {', '.join(SORTS)}, each with - before it or not"
            raise ApiError("bad-sort", detail, parameter="sort")
        # What is sorted by already has no order left.
        order.setdefault(SORTS[plain], name.startswith("-"))
    return tuple(order.items())


def _single(parameters: Parameters, name: str) -> str | None:
    values = parameters.pop(name, None)
    if values is not None and len(values) > 1:
        raise ApiError("bad-filter", f"{name} is given more than once", parameter=name)
    return values[0] if values else None


def _whole(parameters: Parameters, name: str, default: int, most: int) -> int:
    text = _single(parameters, name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= most):
        raise ApiError("bad-limit", f"{name} is a whole number from 1 to {most}", parameter=name)
    return int(text)


def _texts(parameters: Parameters, name: str) -> list[str]:
    """Take a list that is given by commas, by brackets, or by being repeated."""
    given = [*parameters.pop(name, ()), *parameters.pop(f"{name}[]", ())]
    return [text for value in given for text in value.split(",") if text]


def taken_included(parameters: Parameters) -> set[str]:
    """Take what is to be included."""
    wanted = set(_texts(parameters, "included"))
    if not wanted <= set(RELATED):
        raise ApiError("bad-filter", f"included may name {', '.join(RELATED)}", parameter="included")
    return wanted


def taken_fields(parameters: Parameters) -> dict[str, list[str]]:
    """Take the attributes that are wanted of each type; those of a type that is not named are all wanted."""
    fields: dict[str, list[str]] = {}
    for parameter in [name for name in parameters if name.startswith("fields")]:
        match = _FIELDS.match(parameter)
        kind = match[1] if match is not None else ""
        if kind not in ATTRIBUTES:
            raise ApiError("bad-filter", f"types are {', '.join(ATTRIBUTES)}", parameter=parameter)
        if parameter in parameters:
            wanted = _texts(parameters, parameter.removesuffix("[]"))
            if not set(wanted) <= set(ATTRIBUTES[kind]):
                detail = f"{kind} has {', '.join(ATTRIBUTES[kind])}"
                raise ApiError("bad-filter", detail, parameter=parameter)
            fields[kind] = wanted
    return fields
