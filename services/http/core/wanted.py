"""Which events a caller wants, as given by the caller: members by any reference, types and ids that exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from domain import EVENTS
from domain.streams import ID
from projections.support.query import MAX_FILTER_VALUES
from services.http.core.call import Call
from services.http.core.errors import ApiError
from services.interests import Dimension, Interest


async def interest_of(call: Call, given: Mapping[Dimension, Sequence[str] | None]) -> Interest:
    """Return what is wanted; raises `ApiError`, whose parameter is the respect, for what no event can be about."""
    wanted: list[tuple[Dimension, frozenset[str]]] = []
    for name, values in given.items():
        if values is None:
            continue
        if len(set(values)) > MAX_FILTER_VALUES:
            raise ApiError("bad-filter", f"a filter has at most {MAX_FILTER_VALUES} values", parameter=name)
        for value in values:
            if not value:
                raise ApiError("bad-filter", "this filter needs a value", parameter=name)
            if name == "type" and value not in EVENTS:
                raise ApiError("bad-filter", f"{value[:100]!r} is no type of event", parameter=name)
            if name in ("activity", "task") and not ID.match(value):
                raise ApiError("bad-filter", f"{value[:100]!r} is no id", parameter=name)
        if name == "member":
            named = await call.service.members.named(call.caller.tenant, values, name)
            for value, members in named.items():
                if not members:
                    raise ApiError("bad-filter", f"there is no member {value[:100]!r}", parameter=name)
            values = [member for members in named.values() for member in members]
        wanted.append((name, frozenset(values)))
    return Interest(tuple(wanted))
