"""The followers of the log in the native API: how far they are, what they hold back, and rebuilds of read models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import psycopg
from starlette.responses import Response

from domain.decider import SYSTEM
from projections import BY_NAME
from services.http.core.acts import act
from services.http.core.call import Call, as_json
from services.http.core.errors import ApiError
from services.http.core.openapi import parameter
from services.http.core.operation import Link, Operation
from services.http.core.parameters import nothing_else, settled
from services.http.native.dialect import NATIVE
from services.http.native.projection_models import HeldBack, HowToRebuild, Projection, Projections, Retried
from services.store import held, rebuilds, standing
from services.store.rebuilds import Shown
from services.store.standing import UnknownFollower

_PROJECTIONS = replace(NATIVE, tag="projections")


async def found(call: Call) -> list[dict[str, Any]]:
    """Return all followers, read models first, as the caller's tenant sees them."""
    pool, tenant = call.service.pool, call.caller.tenant
    rows = await pool.fetch(*standing.FIGURES)
    waiting: dict[str, list[dict[str, Any]]] = {}
    for follower, *rest in await pool.fetch(*held.of_tenant(tenant)):
        waiting.setdefault(follower, []).append(dict(zip(HeldBack.model_fields, rest, strict=True)))
    asked = {row[0]: Shown(*row) for row in await pool.fetch(*rebuilds.shown(tenant))}
    built = {row[0]: row for row in rows if not row[2]}
    return [_one(row, waiting, built.get(row[0]), asked.get(row[0])) for row in rows if row[2]]


def _one(
    row: Sequence[Any],
    waiting: dict[str, list[dict[str, Any]]],
    built: Sequence[Any] | None,
    asked: Shown | None,
) -> dict[str, Any]:
    """Return a follower for its view, from rows of `standing.FIGURES`."""
    name, _, _, position, halted_at, error, follower, head, age = row
    build = None if built is None else {"position": built[3], "lag": max(0, head - built[3])}
    return {
        "name": name,
        "kind": "read-model" if name in BY_NAME else "follower",
        "position": position,
        "head": head,
        "lag": max(0, head - position),
        "lag_seconds": 0.0 if age is None else round(max(0.0, age), 3),
        "halted_at": halted_at,
        "error": error,
        "held_back": waiting.get(follower, []),
        "build": build,
        "rebuild": None if asked is None else _rebuild(asked),
    }


def _rebuild(asked: Shown) -> dict[str, Any]:
    shown = asked._asdict()
    if asked.result is not None:
        shown["result"] = {**asked.result, "examples": asked.examples or []}
    return shown


async def _list(call: Call) -> Response:
    nothing_else(call.parameters())
    await settled(call, None)
    return as_json(Projections.show({"data": await found(call)}))


async def _shown(call: Call) -> dict[str, Any]:
    """Return the follower that the path names for its view; raises `ApiError`."""
    name = call.parts["name"]
    for each in await found(call):
        if each["name"] == name:
            return Projection.show(each)
    raise ApiError("not-found", "there is no follower of this name")


async def _get(call: Call) -> Response:
    nothing_else(call.parameters())
    await settled(call, None)
    return as_json(await _shown(call))


async def _begin(call: Call) -> Response:
    """Ask for a rebuild, which the role `projections` does."""
    query, caller, name = HowToRebuild.read(call), call.caller, call.parts["name"]
    if caller.actor != SYSTEM:
        raise ApiError("forbidden", "read models are shared by all tenants: only a key of `system` may rebuild one")
    if name not in BY_NAME:
        raise ApiError("not-found", "there is no read model of this name")

    def ask(conn: psycopg.Connection[Any]) -> bool:
        with conn.transaction():
            return rebuilds.ask(conn, name, caller.tenant, caller.actor, caller.key_id, diff=query.diff)

    if not await act(call, ask):
        raise ApiError("not-ready", f"{name} is being rebuilt already")
    return as_json(await _shown(call), 202, {"Location": f"/v1/projections/{name}"})


async def _retry(call: Call) -> Response:
    """Have what is held back of the caller's tenant tried again now."""
    nothing_else(call.parameters())
    caller, name = call.caller, call.parts["name"]

    def retry(conn: psycopg.Connection[Any]) -> int:
        return standing.retry_in(conn, name, caller.tenant, caller.actor, caller.key_id)

    try:
        entities = await act(call, retry)
    except UnknownFollower:
        raise ApiError("not-found", "there is no follower of this name") from None
    return as_json(Retried.show({"name": name, "entities": entities}))


_ALL, _ONE = "/v1/projections", "/v1/projections/{name}"
_NAME = (parameter("name", "The name of a read model, or of another follower", place="path"),)
_FOUND = {"first": Link("get_projection", "/data/0/name", "name")}
OPERATIONS = (
    Operation(
        _PROJECTIONS, "GET", _ALL, "read", "list_projections", "List the followers of the log, read models first",
        description="They are shared by all tenants; what they hold back is the tenant's own.",
        handler=_list, view=Projections, links=_FOUND,
    ),
    Operation(
        _PROJECTIONS, "GET", _ONE, "read", "get_projection", "Read how far a follower of the log, or its rebuild, is",
        handler=_get, view=Projection, parameters=_NAME,
    ),
    Operation(
        _PROJECTIONS, "POST", f"{_ONE}/rebuild", "operate", "rebuild_projection", "Rebuild a read model",
        description="Read models are shared by all tenants, so this takes a key of `system`. It is done in the"
        " background by the role `projections`, beside the tables that serve. With `diff` the new tables are compared"
        " with them first, and dropped if any row differs.",
        query=HowToRebuild, handler=_begin, view=Projection, status=202, located=True, act=True, parameters=_NAME,
    ),
    Operation(
        _PROJECTIONS, "POST", f"{_ONE}/retry", "operate", "retry_projection",
        "Have what a follower holds back of the tenant tried again now",
        handler=_retry, view=Retried, act=True, parameters=_NAME, refusals=(400, 404),
    ),
)  # fmt: skip
