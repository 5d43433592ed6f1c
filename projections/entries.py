"""Entries of one kind by what their documents hold, for callers that filter, sort and count.

No index serves these filters: they stay inside the entries of a kind of the tenant, and the statement's time-out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from domain.compare import address_key, name_key
from projections.statement import Query
from projections.support.conditions import SCALAR, TEXT, Asked, Conditions, Where, asked_of, parts_of, texts
from projections.support.ordering import ordered
from projections.support.query import demand_text, select
from projections.support.stored import flag, moment, stored, text
from projections.support.table import held

_PLAIN = frozenset({""})
_CONDITIONS: Conditions = {
    "id": (TEXT, texts("id", "FALSE")),
    "name": (TEXT, text("fields,name")),
    "organization_id": (TEXT, text("fields,organization_id")),
    "organizational_unit": (TEXT, text("fields,organizational_unit")),
    "enabled": (_PLAIN, flag("(doc::jsonb #> '{fields,enabled}') IS DISTINCT FROM 'false'::jsonb")),
    "readonly": (_PLAIN, flag("retired")),
    "created_at": (SCALAR, moment("created_at")),
    "updated_at": (SCALAR, moment("updated_at")),
}
SORTS: Mapping[str, str] = {
    "id": "id",
    "name": stored("fields,name"),
    "organization_id": stored("fields,organization_id"),
    "organizational_unit": stored("fields,organizational_unit"),
    "created_at": stored("created_at"),
    "updated_at": stored("updated_at"),
}
FILTERS = tuple(_CONDITIONS)


def where(asked: Asked) -> Where:
    """Return the condition of a filter; raises `BadQuery`."""
    return asked_of(_CONDITIONS, asked)


def page(
    tenant: str, kind: str, conditions: Iterable[Where], by: Sequence[tuple[str, bool]], limit: int, offset: int
) -> Query:
    """Ask for a page of entries that are not retired; `by` has names of `SORTS`, each with whether it descends."""
    return select("entries", "doc, id", tenant, *_of(kind, conditions), ordered(SORTS, by, limit, offset))


def count(tenant: str, kind: str, conditions: Iterable[Where]) -> Query:
    """Ask how many there are; gives one row with one number."""
    return select("entries", "count(*)", tenant, *_of(kind, conditions))


def workflows_of(tenant: str, project: str, limit: int) -> Query:
    """Ask for the workflows of a project that are not retired, in order of id."""
    condition = Where(
        f"(projects && %s::text[] AND {stored('fields,project')} = %s)", ([held(tenant, project)], project)
    )
    return page(tenant, "workflow", [condition], (), limit, 0)


def _of(kind: str, conditions: Iterable[Where]) -> tuple[list[str], list[Any]]:
    sql, params = parts_of(conditions)
    # First, so that nothing is read out of the documents of other kinds.
    return ["kind = %s", "NOT retired", *sql], [kind, *params]


# What entries are called for people, in the form that names are compared by.
_NAME_OF = "lower(coalesce(doc::jsonb -> 'fields' ->> 'name', ''))"


def named_like(text: str) -> list[Where]:
    """Return that an entry has the text in its name or its e-mail address, nothing for an empty text."""
    if not text:
        return []
    found = f"(strpos({_NAME_OF}, %s) > 0 OR strpos(coalesce(email, ''), %s) > 0)"
    return [Where(found, (name_key(demand_text(text, "q")), address_key(text)))]


def made_by(members: Sequence[str]) -> Where:
    """Return that an entry was made by one of these members."""
    return Where("doc::jsonb ->> 'created_by' = ANY(%s::text[])", (list(members),))


def of_steps(least: int, most: int) -> Where:
    """Return that a workflow has so many steps."""
    steps = "doc::jsonb -> 'fields' -> 'steps'"
    # PostgreSQL may look at the fields of an entry of another kind before it looks at the kind.
    count = f"CASE jsonb_typeof({steps}) WHEN 'array' THEN jsonb_array_length({steps}) END"
    return Where(f"({count}) BETWEEN %s AND %s", (least, most))


def by_name(
    tenant: str, kind: str, conditions: Iterable[Where], *, limit: int, offset: int = 0, descending: bool = False
) -> Query:
    """Ask for entries of a kind that are not retired, in order of name."""
    way = "DESC" if descending else "ASC"
    tail = f" ORDER BY {_NAME_OF} {way}, id {way} LIMIT {limit:d} OFFSET {offset:d}"
    return select("entries", "doc, id", tenant, *_of(kind, conditions), tail)


def called(tenant: str, kind: str, names: Iterable[str], limit: int) -> Query:
    """Ask for entries of a kind that have one of these names, without regard to case; retired ones too."""
    keys = [name_key(demand_text(name, "id")) for name in names]
    conditions = ["kind = %s", f"{_NAME_OF} = ANY(%s::text[])"]
    return select("entries", "doc, id", tenant, conditions, [kind, keys], f" LIMIT {limit:d}")
