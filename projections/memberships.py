"""Who is in which project? The members of the directory, once for each of their projects.

An index serves the filters by project; the others stay inside the members of the tenant, and the statement's time-out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from domain.compare import name_key
from domain.directory.eligibility import is_manager, roles_in
from projections.statement import Query
from projections.support.conditions import (
    CONTAINS,
    EQUAL,
    IN,
    MATCH,
    SCALAR,
    TEXT,
    Asked,
    Conditions,
    Where,
    asked_of,
    parts_of,
    scalar,
    texts,
)
from projections.support.ordering import ordered
from projections.support.people import account
from projections.support.query import demand_text, select
from projections.support.stored import flag, moment, stored, text
from projections.support.table import held

_PROJECTS = "doc::jsonb #> '{fields,projects}'"
# What was stored before there were rules may be no object.
_VIEW = (
    "(SELECT tenant, doc, id, account_id, projects, project FROM entries, jsonb_object_keys("  # noqa: S608
    f"CASE jsonb_typeof({_PROJECTS}) WHEN 'object' THEN {_PROJECTS} ELSE '{{}}' END"
    ") AS project WHERE kind = 'member' AND NOT retired) AS memberships"
)
_PROJECT = '(project COLLATE "C")'
_MANAGES = f"(({_PROJECTS} -> project -> 'is_manager') IS NOT DISTINCT FROM 'true'::jsonb)"
_NAMES_OF = ("first_name", "middle_name", "last_name", "picture_url")
_NAMES = "lower(concat_ws(' ', doc::jsonb #>> '{fields,name}', doc::jsonb #>> '{fields,email}'))"


_project = texts(_PROJECT, "FALSE")


def _in_project(asked: Asked) -> Where:
    if asked.operator not in (EQUAL, IN) or asked.value is None:
        return _project(asked)
    return _of(asked.tenant, [demand_text(value, asked.parameter) for value in asked.several()])


def _of(tenant: str, projects: list[str]) -> Where:
    """Return the condition of members of projects: of the persons that an index finds, the memberships in these."""
    keys = [held(tenant, project) for project in projects]
    return Where(f"(projects && %s::text[] AND {_PROJECT} = ANY(%s::text[]))", (keys, projects))


def _account(asked: Asked, value: Any) -> int:
    return account(value, asked.parameter)


def _search(asked: Asked) -> Where:
    text = name_key(demand_text(asked.single(), asked.parameter))
    return Where(f"strpos({_NAMES}, %s) > 0", (text,))


def _roles(asked: Asked) -> Where:
    wanted = [demand_text(value, asked.parameter) for value in asked.several()]
    own, there = "doc::jsonb #> '{fields,actor_roles}'", f"{_PROJECTS} -> project -> 'actor_roles'"
    return Where(f"(({own}) ?| %s::text[] OR ({there}) ?| %s::text[])", (wanted, wanted))


_CONDITIONS: Conditions = {
    "id": (frozenset({"", "in"}), texts(f"({_PROJECT} || ':' || id)", "FALSE")),
    "project_id": (TEXT, _in_project),
    "person_id": (TEXT, texts("id", "FALSE")),
    "account_id": (SCALAR, scalar("account_id", "bigint", _account, "account_id IS NULL")),
    "is_supervisor": (
        frozenset({""}),
        flag(_MANAGES),
    ),
    "actor_roles": (frozenset({CONTAINS}), _roles),
    "search": (frozenset({MATCH}), _search),
    **{name: (TEXT, text(f"fields,{name}")) for name in _NAMES_OF},
    "created_at": (SCALAR, moment("created_at")),
    "updated_at": (SCALAR, moment("updated_at")),
}
SORTS: Mapping[str, str] = {
    "id": f"{_PROJECT}, id",
    "project_id": _PROJECT,
    "person_id": "id",
    "account_id": "account_id",
    **{name: stored(f"fields,{name}") for name in _NAMES_OF},
    "is_supervisor": _MANAGES,
    "created_at": stored("created_at"),
    "updated_at": stored("updated_at"),
}
FILTERS = tuple(_CONDITIONS)


def where(asked: Asked) -> Where:
    """Return the condition of a filter; raises `BadQuery`."""
    return asked_of(_CONDITIONS, asked)


def page(tenant: str, conditions: Iterable[Where], by: Sequence[tuple[str, bool]], limit: int, offset: int) -> Query:
    """Ask for a page of rows of (doc, project); `by` has names of `SORTS`, each with whether it descends."""
    tail = ordered(SORTS, by, limit, offset)
    return select(_VIEW, "doc, project", tenant, *parts_of(conditions), tail)


def count(tenant: str, conditions: Iterable[Where]) -> Query:
    """Ask how many there are; gives one row with one number."""
    return select(_VIEW, "count(*)", tenant, *parts_of(conditions))


def get(tenant: str, membership_id: str) -> Query:
    """Ask for one by its id, `<project>:<member>`."""
    project, _, member = membership_id.partition(":")
    condition = Where("(project = %s AND id = %s)", (demand_text(project, "id"), demand_text(member, "id")))
    return page(tenant, [condition], (), 1, 0)


def of_projects(tenant: str, projects: Iterable[str], limit: int) -> Query:
    """Ask for the members of projects, those of each in the order of their ids."""
    wanted = [demand_text(project, "id") for project in projects]
    return page(tenant, [_of(tenant, wanted)], (), limit, 0)


def resource(row: Sequence[Any]) -> dict[str, Any]:
    """Return a row as a member with one of the projects."""
    return member_of(msgspec.json.decode(row[0]), row[1])


def member_of(entry: Mapping[str, Any], project: str) -> dict[str, Any]:
    """Return an entry of the directory as a member of one of its projects."""
    fields, membership_id = entry["fields"], f"{project}:{entry['id']}"
    return {
        **entry,
        "member": entry["id"],
        "id": membership_id,
        "project": project,
        "manages": is_manager(fields, project),
        "roles": roles_in(fields, project),
    }
