"""Cursors of lists: where a page ended, as a text that a client gives back."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from domain.streams import ID
from projections.support.query import BadQuery, demand_text, time_of
from projections.support.table import NOT_DONE


def made(sort: str, key: str, last: str) -> str:
    """Return the cursor of a row with this id, by a sort and the text of the sort's value in the row."""
    return urlsafe_b64encode(msgspec.json.encode([sort, key, last])).decode().rstrip("=")


def read(after: str, sort: str, kind: str) -> tuple[Any, str]:
    """Return the sort's value, as one of its column's type, and the id that a cursor holds; raises `BadQuery`."""
    try:
        padded = after.encode("ascii") + b"=" * (-len(after) % 4)
        name, key, last = msgspec.json.decode(urlsafe_b64decode(padded), type=tuple[str, str, str])
        value = _KEYS[kind](key)
    except (ValueError, RecursionError, BadQuery):
        raise BadQuery("bad-cursor", "this is no cursor that was given out here", "cursor") from None
    if name != sort:
        raise BadQuery("bad-cursor", f"this cursor belongs to the sort {name[:40]!r}", "cursor")
    if not ID.match(last):
        raise BadQuery("bad-cursor", "this is no cursor that was given out here", "cursor")
    return value, last


def _moment_key(key: str) -> Any:
    # The instant is given to PostgreSQL, never the text: Python reads weeks and offsets that PostgreSQL does not.
    # As PostgreSQL writes it, which is not what a caller may write.
    moment = key if key in ("infinity", NOT_DONE) else datetime.fromisoformat(key)
    return moment if isinstance(moment, str) else time_of(moment, "cursor")


# How the value of a sort is read from a cursor, by the type of the sort's column.
_KEYS: Mapping[str, Callable[[str], Any]] = {
    "timestamptz": _moment_key,
    "float": float,
    "text": lambda key: demand_text(key, "cursor"),
}
