"""Filters for people: references to them are resolved before, so that what is asked for is known when it is planned."""

from __future__ import annotations

from typing import Any

from projections.support.conditions import NEQ, ORDER, Asked, Condition, Where, among, beside
from projections.support.query import BadQuery


def account(value: Any, parameter: str) -> int:
    """Return an account number; raises `BadQuery`."""
    text = str(value) if not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadQuery("bad-filter", "an account id is a whole number", parameter)
    return int(text)


class Members(tuple[str, ...]):
    """The ids of the members that references name, in place of the references."""


def members_of(asked: Asked) -> list[str]:
    """Return the members that a filter is for."""
    if not isinstance(asked.value, Members):
        raise TypeError("references are resolved before they are asked for")
    return list(asked.value)


def person(column: str) -> Condition:
    """Return the conditions of a column that holds a member's id; `lt` and the like compare account numbers."""

    def condition(asked: Asked) -> Where:
        there = asked.presence()
        if there is not None:
            return Where(f"{column} IS NOT NULL" if there else f"{column} IS NULL")
        if asked.operator in ORDER:
            ids = (
                "SELECT id FROM entries WHERE tenant = %s AND kind = 'member'"  # noqa: S608
                f" AND account_id {ORDER[asked.operator]} %s"
            )
            return Where(f"{column} = ANY(ARRAY({ids}))", (asked.tenant, account(asked.single(), asked.parameter)))
        if asked.operator == NEQ:
            return beside(column, "text", members_of(asked), f"{column} IS NULL")
        return among(column, "text", members_of(asked))

    return condition
