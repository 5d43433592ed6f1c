"""The log over HTTP: a tenant's own events as CloudEvents, in order of position, the same bytes as are published."""

from __future__ import annotations

from starlette.responses import Response

from domain import EVENTS
from services import cloud_events
from services.http.core.errors import ApiError
from services.http.core.service import Service
from services.http.endpoints import JSON, Call, Endpoint, nothing_else, number
from services.http.native import examples
from services.store import log
from services.store.log import LogRow

_KNOWN = ("after", "type", "limit")
_DEFAULT, _MOST = 100, 500
# How far one request looks for a tenant's events, so that a long stretch without any costs little and `next` moves on.
_WINDOW = 20_000


def endpoints(service: Service) -> list[Endpoint]:
    """Return the endpoint of the log."""

    async def read(call: Call) -> Response:
        parameters = call.parameters()
        after = number(parameters, "after", 0, 0)
        limit = number(parameters, "limit", _DEFAULT, 1, _MOST)
        types = parameters.pop("type", None)
        nothing_else(parameters, _KNOWN)
        for name in types or ():
            if name not in EVENTS:
                raise ApiError("bad-filter", f"{name[:100]!r} is no type of event", parameter="type")
        head = int((await service.pool.fetch(log.HEAD))[0][0])
        if after > head:
            raise ApiError("position-beyond-head", f"the log ends at position {head}", parameter="after")
        end = min(after + _WINDOW, head)
        asked = log.events_of_tenant(call.caller.tenant, after, end, types, limit)
        rows = await service.pool.fetch(*asked) if end > after else []
        found = b",".join([cloud_events.cloud_event(LogRow(*row)) for row in rows])
        follow = rows[-1][0] if len(rows) == limit else end
        return Response(b'{"events":[%b],"next":%d,"head":%d}' % (found, follow, head), media_type=JSON)

    return [Endpoint("GET", "/v1/events", "read", read, examples.GET_EVENTS)]
