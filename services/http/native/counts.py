"""Numbers that are counted up to a limit, so that they cost about the same however many there are."""

from __future__ import annotations

from pydantic import Field

from services.http.core.models import Json, View
from services.http.native.models import Count, Status

# The most activities and tasks of a state that are counted.
MOST = 10_000


class Bounded(View):
    """A number, counted up to a limit."""

    count: Count
    more: bool = Field(description="whether there are more, which are not counted")


class StatusCount(Bounded):
    """How many have a status."""

    status: Status


def bounded(count: int, most: int) -> Json:
    """Return a number that was counted up to one more than a limit."""
    return {"count": min(count, most), "more": count > most}
