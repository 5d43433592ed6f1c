"""The workflow dialect's queries: parameters checked before anything is asked, pages, and what is included beside."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from domain.references import is_account
from projections import activities, directory
from projections.support.conditions import CONTAINS, EXISTS, IN, OPERATORS, ORDER, Asked, Where, words
from projections.task import filters as task_filters
from projections.task.filters import Members
from services.commands import wire
from services.http.core.call import Call
from services.http.core.errors import STATUS_OF_CODE, ApiError
from services.http.core.models import From, View, names
from services.http.core.parameters import one
from services.http.workflow.models import (
    STATUSES,
    Activity,
    ActivityAttributes,
    Node,
    NodeAttributes,
    Project,
    ProjectAttributes,
    WorkUnit,
    WorkUnitAttributes,
    node_id,
    people_of,
)

Parameters = dict[str, list[str]]
Json = dict[str, Any]
# The attributes of each type of resource.
ATTRIBUTES: Mapping[str, list[str]] = {
    "workflow/activities": names(ActivityAttributes),
    "workflow/projects": names(ProjectAttributes),
    "workflow/work_units": names(WorkUnitAttributes),
    "workflow/nodes": names(NodeAttributes),
}
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
    name: _OTHERWISE.get(name, name) for name in (*ATTRIBUTES["workflow/activities"], "project_id", "work_unit_id")
}
_SORTED = ("id", "name", "status", "started_at", "completed_at", "try_resolve_at", "created_at", "project_id")
SORTS: Mapping[str, str] = {name: FILTERS[name] for name in (*_SORTED, "work_unit_id")}
# Our statuses in the order of the dialect's words for them.
STATUS_ORDER = sorted(STATUSES, key=STATUSES.__getitem__)
OF_PEOPLE = frozenset({"assigned_account_id", "whitelisted_ids", "blacklisted_ids"})
_PEOPLE = frozenset(FILTERS[name] for name in OF_PEOPLE)
OBJECTS = frozenset({"data", "output", "indicators"})
# What `included` may name.
RELATED = ("project", "work_unit", "node")
# Lists of ids are given by repeating a parameter.
MAX_PARAMETERS = 1100
OF_ONE = ("included", "fields[type]", "min_position")
OF_LIST = ("page[number]", "page[size]", "sort", "count", "filter[…]", *OF_ONE)
_STATUS = words("status", STATUSES)
_FILTER = re.compile(r"filter\[([a-z_]+?)(?:__([a-z]+))?\](\[\])?\Z")
_FIELDS = re.compile(r"fields\[([a-z_/]+)\](\[\])?\Z")


# Answers.

# Each stands there once; the key itself is there when it was asked for.
Included = Annotated[list[Project | WorkUnit | Node], Field(description="What `included` asks for, each once")]


class Found(View):
    """The activity"""

    data: Annotated[Activity, From("")]
    included: Included = Field([])


class PageMeta(View):
    number: int = Field(examples=[1])
    size: int = Field(examples=[1000])


class Meta(View):
    page: PageMeta
    count: int = Field(0, description="All that there are, when it was asked for")


class Links(View):
    prev: str | None
    next: str | None


class Page(View):
    """A page"""

    data: list[Activity]
    included: Included = Field([])
    meta: Meta
    links: Links


def address(call: Call, page: int) -> str:
    """Return the address of another page of the same query."""
    parts = call.scope["query_string"].decode("latin-1").split("&")
    begins = ("page[number]=", "page%5Bnumber%5D=", "page%5bnumber%5d=", "min_position=")
    kept = [part for part in parts if part and not part.startswith(begins)]
    return f"{call.scope['path']}?{'&'.join([*kept, f'page%5Bnumber%5D={page}'])}"


def order_of(parameters: Parameters) -> list[tuple[str, bool]]:
    """Take the order out of the parameters: names of the read model's sorts, each with whether it descends."""
    text = one(parameters, "sort")
    order: dict[str, bool] = {}
    for name in text.split(",") if text else ():
        plain = name.removeprefix("-")
        if plain not in SORTS:
            detail = f"sort by {', '.join(SORTS)}, each with - before it or not"
            raise ApiError("bad-sort", detail, parameter="sort")
        # What is sorted by already has no order left.
        order.setdefault(SORTS[plain], name.startswith("-"))
    return list(order.items())


# What is shown beside activities, and what of all of them.


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be included, and the attributes of each type; of a type that is not named, all of them."""

    included: set[str]
    fields: Mapping[str, Sequence[str]]

    @classmethod
    def take(cls, parameters: Parameters) -> Wanted:
        """Take both out of the parameters."""
        included = set(_texts(parameters, "included"))
        if not included <= set(RELATED):
            raise ApiError("bad-filter", f"included may name {', '.join(RELATED)}", parameter="included")
        fields: dict[str, list[str]] = {}
        for parameter in [name for name in parameters if name.startswith("fields")]:
            match = _FIELDS.match(parameter)
            kind = match[1] if match is not None else ""
            if kind not in ATTRIBUTES:
                raise ApiError("bad-filter", f"types are {', '.join(ATTRIBUTES)}", parameter=parameter)
            if parameter in parameters:
                fields[kind] = _texts(parameters, parameter.removesuffix("[]"))
                if not set(fields[kind]) <= set(ATTRIBUTES[kind]):
                    detail = f"{kind} has {', '.join(ATTRIBUTES[kind])}"
                    raise ApiError("bad-filter", detail, parameter=parameter)
        return cls(included, fields)


def _texts(parameters: Parameters, name: str) -> list[str]:
    """Take a list that is given by commas, by brackets, or by being repeated."""
    given = [*parameters.pop(name, ()), *parameters.pop(f"{name}[]", ())]
    return [text for value in given for text in value.split(",") if text]


async def shown(call: Call, found: Sequence[Mapping[str, Any]], wanted: Wanted) -> tuple[list[Json], Json]:
    """Return tasks as activities, and under `included` what is wanted beside them, each once."""
    service, tenant = call.service, call.caller.tenant
    people = await service.members.by_id(tenant, {member for task in found for member in people_of(task)})
    beside: list[Json] = []
    if "project" in wanted.included:
        entries = await _entries(call, "project", {task["project"] for task in found})
        beside += [Project.show(entry, people) for entry in entries.values()]
    if "work_unit" in wanted.included:
        ids = sorted({task["activity_id"] for task in found} - {None})
        rows = await service.pool.fetch(*activities.get_many(tenant, ids)) if ids else []
        beside += [WorkUnit.show(activities.resource(row, service.clock()), people) for row in rows]
    if "node" in wanted.included:
        nodes = {node_id(task): task for task in found if node_id(task) is not None}
        workflows = await _entries(call, directory.WORKFLOW, {task["workflow_id"] for task in nodes.values()})
        beside += [Node.show(_node(task, workflows.get(task["workflow_id"])), people) for task in nodes.values()]
    data = [Activity.show(task, people) for task in found]
    for resource in (*data, *beside) if wanted.fields else ():
        kept = wanted.fields.get(resource["type"])
        if kept is not None:
            resource["attributes"] = {name: its for name, its in resource["attributes"].items() if name in kept}
    return data, {"included": beside} if wanted.included else {}


async def _entries(call: Call, kind: str, ids: Iterable[str | None]) -> dict[str, Json]:
    wanted = sorted(entry_id for entry_id in ids if entry_id is not None)
    rows = await call.service.pool.fetch(*directory.get_many(call.caller.tenant, kind, wanted)) if wanted else []
    return {row[1]: directory.resource(row) for row in rows}


def _node(task: Mapping[str, Any], workflow: Mapping[str, Any] | None) -> Json:
    """Return the step of a task; its name is the workflow's own word for it, as it is now."""
    steps = workflow["fields"]["steps"] if workflow is not None else []
    name = steps[task["step"]]["name"] if task["step"] < len(steps) else task["title"]
    return {**task, "id": node_id(task), "name": name}


# Filters.


def taken_filters(parameters: Parameters, tenant: str) -> list[Asked]:
    """Take the filters out of the parameters; those of people have references as their values."""
    found: dict[str, Asked] = {}
    for parameter in [name for name in parameters if name.startswith("filter")]:
        match = _FILTER.match(parameter)
        name, operator, listed = match.groups("") if match is not None else ("", "", "")
        if name not in FILTERS or (operator and operator not in OPERATORS):
            detail = f"filters are {', '.join(FILTERS)}, each with one of __{', __'.join(OPERATORS)} behind it or not"
            raise ApiError("unknown-filter", detail, parameter=parameter)
        value = _value(name, operator, parameters.pop(parameter), bool(listed), parameter)
        asked = Asked(tenant, FILTERS[name], operator, value, parameter)
        if found.setdefault(parameter.removesuffix("[]"), asked) is not asked:
            raise ApiError("bad-filter", "this filter is given in two ways", parameter=parameter)
    return list(found.values())


def _value(name: str, operator: str, values: list[str], listed: bool, parameter: str) -> Any:
    """Return a filter's value: several when it is a list, None when it is empty, JSON where objects are asked for."""
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


def conditions_of(filters: Iterable[Asked], members: Mapping[str, tuple[str, ...]], now: datetime) -> list[Where]:
    """Return the filters as conditions; `members` are those behind the references."""
    found = []
    for each in filters:
        asked = replace(each, now=now)
        if _names_people(each):
            named = Members(member for text in _references(each) for member in members.get(text, ()))
            asked = replace(asked, value=named)
        found.append(_STATUS(asked) if asked.name == "status" else task_filters.where(asked))
    return found
