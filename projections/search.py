"""What has this id, name or value? Statements over the read models, for one box to search in.

Rows are (kind, id, title, why it was found, whether it is retired), those that are found more exactly first.
"""

from __future__ import annotations

from collections.abc import Sequence

from domain.compare import name_key
from domain.errors import Rejected
from domain.references import reference
from domain.streams import ID
from projections.statement import Query
from projections.support.conditions import Where, between, parts_of
from projections.support.grams import LENGTH, containing
from projections.support.query import demand_text, select
from projections.support.table import indexed

_TITLE = "doc::jsonb ->> 'title'"
_NAME = "coalesce(doc::jsonb #>> '{fields,name}', email)"
_MEMBERS = {"email": "email = %s", "account": "account_id = %s::bigint", "operator": "operator = %s"}


def found(tenant: str, text: str, kinds: Sequence[str], limit: int) -> Query:
    """Ask for what has a text as its id, reference or external id, or in its title.

    Titles that begin with it come first, then the newest with it elsewhere, for which a text has at least three
    characters. Some rows may come twice. `kinds` are those of the directory.
    """
    demand_text(text, "q")
    parts: list[Query] = []
    if ID.match(text):
        parts += [_of(view, tenant, Where("id = %s", (text,)), "id", limit) for view in ("activities", "tasks")]
        parts.append(_entries(tenant, _of_any_kind(kinds, "id", text), "id", limit))
    parts.append(_of("tasks", tenant, Where("reference = %s", (indexed(text),)), "reference", limit))
    parts.append(_entries(tenant, _of_any_kind(kinds, "outside", indexed(text)), "external_id", limit))
    parts += _members(tenant, text, limit)
    key = indexed(name_key(text))
    by_title, newest = " ORDER BY title_key, id", " ORDER BY created_at DESC, id DESC"
    for view in ("activities", "tasks"):
        parts.append(_of(view, tenant, between("title_key", key), "title", limit, by_title))
        if len(key) >= LENGTH:
            parts.append(_of(view, tenant, containing(tenant, key), "title", limit, newest))
    sql = " UNION ALL ".join(f"({part.sql})" for part in parts)
    return Query(sql, tuple(value for part in parts for value in part.params))


def _members(tenant: str, text: str, limit: int) -> list[Query]:
    """Ask for the members that a reference names."""
    try:
        named = reference(text, "")
    except Rejected:
        return []
    if named.form not in _MEMBERS:
        return []
    where = Where(f"kind = 'member' AND {_MEMBERS[named.form]}", (named.key,))
    return [_entries(tenant, where, named.form, limit)]


def _of_any_kind(kinds: Sequence[str], column: str, text: str) -> Where:
    # The indexes have the kind before the column.
    return Where(f"kind = ANY(%s::text[]) AND {column} = %s", (list(kinds), text))


def _of(view: str, tenant: str, where: Where, match: str, limit: int, order: str = "") -> Query:
    kind = "activity" if view == "activities" else "task"
    columns = f"'{kind}', id, {_TITLE}, '{match}', false"
    return select(view, columns, tenant, *parts_of([where]), f"{order} LIMIT {limit:d}")


def _entries(tenant: str, where: Where, match: str, limit: int) -> Query:
    columns = f"kind, id, {_NAME}, '{match}', retired"
    return select("entries", columns, tenant, *parts_of([where]), f" LIMIT {limit:d}")
