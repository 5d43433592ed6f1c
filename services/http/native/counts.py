"""Numbers that are counted up to a limit, so that they cost about the same however many there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from domain.lifecycle import Lifecycle
from projections.listing import Listing
from services.http.core.call import Call
from services.http.core.models import Json, View
from services.http.native.models import Count, Status
from services.store.unavailable import StoreUnavailable

# The most activities and tasks of a state that are counted.
MOST = 10_000
_STATUSES = [state.value.lower() for state in Lifecycle]


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


async def by_status(call: Call, listing: Listing, filters: Mapping[str, Any]) -> list[Json] | None:
    """Return how many filters, but that for the status, find by status; None if counting takes too long."""
    tenant, others = call.caller.tenant, {name: value for name, value in filters.items() if name != "status"}
    if others:
        asked = listing.standing_among(tenant, _STATUSES, MOST, others)
    else:
        asked = listing.standing(tenant, _STATUSES, MOST)
    try:
        found: dict[str, int] = dict(await call.list_rows(asked))
    except StoreUnavailable:
        return None
    more = bool(others) and sum(found.values()) > MOST
    return [
        {"status": status, "count": min(found[status], MOST), "more": more or found[status] > MOST}
        for status in _STATUSES
    ]
