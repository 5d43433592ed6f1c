"""The tasks that have a value in their data or fields, for one box to search in, as rows of `projections.search`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from domain.limits import MAX_WHOLE
from projections.statement import Query
from projections.support.conditions import CONTAINS, Asked, parts_of
from projections.support.query import select
from projections.task import filters

_MAX_FIELD = 64


def with_field(tenant: str, text: str, limit: int) -> Query | None:
    """Ask for the tasks whose data or fields have a value, given as `name=value`; None for any other text.

    A value that can be read as a number, true or false is asked for as that, too.
    """
    name, equals, value = text.partition("=")
    if not equals or not 0 < len(name.strip()) <= _MAX_FIELD or not value.strip():
        return None
    values = [{name.strip(): each} for each in _read(value.strip())]
    where = filters.where(Asked(tenant, "data", CONTAINS, values, "q"))
    tail = f" ORDER BY created_at DESC, id DESC LIMIT {limit:d}"
    return select("tasks", "'task', id, doc::jsonb ->> 'title', 'field', false", tenant, *parts_of([where]), tail)


def _read(text: str) -> Sequence[Any]:
    """Return what a text may stand for in JSON."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return [text]
    plain = isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) <= MAX_WHOLE)
    return [text, value] if plain else [text]
