"""What may be asked of activities and not of tasks: who created one, and the number that callers call its priority.

No index serves these: they stay inside the activities of the tenant, and the statement's time-out.
"""

from __future__ import annotations

from typing import Any

from projections.support.conditions import SCALAR, Asked, Conditions, Where, asked_of, scalar
from projections.support.people import person
from projections.support.stored import stored

_CREATOR = stored("created_by")
_GIVEN = "doc::jsonb #> '{fields,priority}'"
# A field may hold anything: what is no whole number that fits is no priority.
PRIORITY = f"(CASE WHEN ({_GIVEN})::text ~ '^-?[0-9]{{1,15}}$' THEN ({_GIVEN})::bigint END)"
ACCOUNT = (
    "(SELECT account_id FROM entries AS e WHERE e.tenant = activities.tenant AND e.kind = 'member'"  # noqa: S608
    f" AND e.id = {_CREATOR})"
)


def _number(asked: Asked, value: Any) -> int:
    if not (isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) <= 16):
        raise asked.bad("a priority is a whole number")
    return int(value)


_CONDITIONS: Conditions = {
    "created_by": (SCALAR, person(_CREATOR)),
    "priority": (SCALAR, scalar(PRIORITY, "bigint", _number, f"{PRIORITY} IS NULL")),
}
FILTERS = frozenset(_CONDITIONS)


def where(asked: Asked) -> Where:
    """Return the condition of a filter; raises `BadQuery`."""
    return asked_of(_CONDITIONS, asked)
