"""What a tenant configures of dispatch: attribute policies, target resolution and dispatch providers.

Each is a directory entry whose id is its key or its channel; what may stand in one is the domain's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from starlette.responses import Response

from domain.streams import ID
from projections import directory
from services.http.actions import command
from services.http.core.command import Answered, events_of, idempotency_key
from services.http.core.errors import ApiError
from services.http.core.service import Service
from services.http.dispatch import examples_configuration as examples
from services.http.dispatch.answers import accepted, as_json
from services.http.dispatch.lists import meta, paging
from services.http.dispatch.shapes import fields_of, text
from services.http.endpoints import Call, Handler, nothing_else
from services.http.native.examples import Json
from services.http.native.queries import settled

MANAGE = "MANAGE_ACTIVITY_CONFIG"
Served = tuple[str, str, str, Handler, Json]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of entry: where it is served, what its id is called, and its fields with the names they are shown by."""

    kind: str
    path: str
    id: str
    fields: Mapping[str, str]
    about: examples.About

    def shown(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return an entry in the dialect's words; fields that others gave it are theirs alone."""
        fields = entry["fields"]
        shown = {name: fields.get(field) for field, name in self.fields.items()}
        for name in ("criteria", "fallbacks"):
            if name in shown:
                shown[name] = [_criterion(stored) for stored in shown[name] or ()]
        return {self.id: entry["id"], **shown, "createdAt": entry["created_at"], "updatedAt": entry["updated_at"]}


def _criterion(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": stored["type"], "priority": stored.get("priority", 0), "role": stored.get("role")}


KINDS = (
    Kind(
        "attribute",
        "/api/attribute-policies",
        "key",
        {"strategy": "strategy", "source": "source", "fallback": "fallback"},
        examples.ATTRIBUTE_POLICIES,
    ),
    Kind(
        "targeting",
        "/api/target-resolution-policies",
        "channel",
        {"criteria": "criteria", "fallbacks": "fallbacks"},
        examples.TARGET_RESOLUTION_POLICIES,
    ),
    Kind(
        "dispatch",
        "/api/dispatch-configurations",
        "channel",
        {
            "provider": "provider",
            "url": "url",
            "secret": "secret",
            "timeout_seconds": "timeoutSeconds",
            "backoff_seconds": "backoffSeconds",
        },
        examples.DISPATCH_CONFIGURATIONS,
    ),
)


def endpoints(service: Service) -> list[Served]:
    """Return the endpoints of all three kinds: (method, path, permission, handler, documentation)."""
    return [
        served
        for kind in KINDS
        for served in (
            ("POST", kind.path, MANAGE, _register(service, kind), kind.about.create),
            ("GET", kind.path, MANAGE, _page(service, kind), kind.about.page),
            ("GET", f"{kind.path}/{{id}}", MANAGE, _get(service, kind), kind.about.get),
            ("PATCH", f"{kind.path}/{{id}}", MANAGE, _change(service, kind), kind.about.change),
            ("DELETE", f"{kind.path}/{{id}}", MANAGE, _retire(service, kind), kind.about.delete),
        )
    ]


def _register(service: Service, kind: Kind) -> Handler:
    async def post(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        given = fields_of(await call.json(), (kind.id, *kind.fields))
        entry_id = text(given, kind.id)
        fields = {name: value for name, value in given.items() if name != kind.id}
        answered = await _command(service, call, "directory.register", kind, entry_id, {"fields": fields})
        return await _answer(service, call, kind, entry_id, answered, 201)

    return post


def _change(service: Service, kind: Kind) -> Handler:
    async def patch(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        _demand_id(kind, call.id)
        body = await call.json()
        fields_of(body, kind.fields)
        # A null takes a field away, so it is passed on.
        answered = await _command(service, call, "directory.change", kind, call.id, {"fields": body})
        return await _answer(service, call, kind, call.id, answered, 200)

    return patch


def _retire(service: Service, kind: Kind) -> Handler:
    async def delete(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        _demand_id(kind, call.id)
        answered = await _command(service, call, "directory.retire", kind, call.id, {})
        return accepted(answered) if answered.reply is None else Response(status_code=204)

    return delete


def _get(service: Service, kind: Kind) -> Handler:
    async def get(call: Call) -> Response:
        parameters = call.parameters()
        await settled(service, parameters, directory.NAME)
        nothing_else(parameters, ("min_position",))
        row = await _row(service, call.caller.tenant, kind, call.id)
        entry = directory.resource(row) if row is not None else None
        if entry is None or entry["retired"]:
            raise _unknown(kind)
        return as_json(kind.shown(entry))

    return get


def _page(service: Service, kind: Kind) -> Handler:
    async def page(call: Call) -> Response:
        parameters = call.parameters()
        await settled(service, parameters, directory.NAME)
        number, limit = paging(parameters)
        nothing_else(parameters, ("page", "per_page", "limit", "min_position"))
        tenant, offset = call.caller.tenant, (number - 1) * limit
        total = int((await service.pool.fetch(*directory.count(tenant, kind.kind)))[0][0])
        rows = []
        if offset < total:
            rows = await service.pool.fetch(*directory.page(tenant, kind.kind, None, limit, offset=offset))
        data = [kind.shown(directory.resource(row)) for row in rows]
        return as_json({"data": data, "meta": meta(number, limit, total)})

    return page


async def _command(
    service: Service, call: Call, name: str, kind: Kind, entry_id: str, rest: Mapping[str, Any]
) -> Answered:
    data = {"kind": kind.kind, "id": entry_id, **rest}
    # What is no id names no stream, and is refused by the decision; it must not name a route either.
    route = entry_id if ID.match(entry_id) else "new"
    return await command(service, call.caller, name, data, route, idempotency_key(), (directory.NAME,))


def _demand_id(kind: Kind, entry_id: str) -> None:
    if not ID.match(entry_id):
        raise _unknown(kind)


def _unknown(kind: Kind) -> ApiError:
    return ApiError("not-found", f"there is no {kind.kind} of this id")


async def _row(service: Service, tenant: str, kind: Kind, entry_id: str) -> tuple[Any, ...] | None:
    if not ID.match(entry_id):
        return None
    rows = await service.pool.fetch(*directory.get(tenant, kind.kind, entry_id))
    return rows[0] if rows else None


async def _answer(service: Service, call: Call, kind: Kind, entry_id: str, answered: Answered, status: int) -> Response:
    """Answer with the entry: the read model's, or as the command's own events leave it."""
    if answered.reply is None:
        return accepted(answered)
    try:
        row = await _row(service, call.caller.tenant, kind, entry_id)
        events = [] if answered.visible else await events_of(service, answered.reply)
    except (ApiError, psycopg.Error):
        # The command took effect; that it cannot be read back now makes no failure of it.
        return accepted(answered)
    entry = directory.render_from_events(events, kind.kind, entry_id, row[0] if row is not None else None)
    return accepted(answered) if entry is None else as_json(kind.shown(entry), status)
