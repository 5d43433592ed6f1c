"""Conditions on what stands in the documents themselves, for which there are no columns, and so no indexes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from projections.support.conditions import Asked, Condition, Where, scalar, texts
from projections.support.query import time_of


def stored(path: str) -> str:
    """Return the text at a path of the document, such as `fields,name`."""
    return f"(doc::jsonb #>> '{{{path}}}' COLLATE \"C\")"


def text(path: str) -> Condition:
    """Return the conditions of a text at a path of the document."""
    return texts(stored(path), f"{stored(path)} IS NULL")


def _time(asked: Asked, value: Any) -> datetime:
    return time_of(value, asked.parameter)


def moment(name: str) -> Condition:
    """Return the conditions of a time that the service itself wrote into the document."""
    return scalar(f"({stored(name)}::timestamptz)", "timestamptz", _time, "FALSE")


def flag(sql: str) -> Condition:
    """Return the condition that something is, or is not, so."""

    def condition(asked: Asked) -> Where:
        wanted = {_FLAGS.get(value) if isinstance(value, str) else None for value in asked.several()}
        if None in wanted:
            raise asked.bad(f"{asked.name} is true or false")
        return Where(f"({sql}) = ANY(%s::boolean[])", (list(wanted),))

    return condition


_FLAGS: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}
