"""The operations on API keys of the native API."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
from starlette.responses import Response

from domain.decider import instant
from domain.errors import Rejected
from services import keys
from services.http.core.acts import act
from services.http.core.call import Call, as_json
from services.http.core.errors import ApiError
from services.http.core.operation import Link, Operation
from services.http.core.parameters import nothing_else, settled
from services.http.native.dialect import NATIVE
from services.http.native.key_models import CreatedKey, Key, ListKeys, NewKey
from services.http.native.lists import next_page
from services.http.native.webhook_lists import page_of
from services.keys import KEY_ID, KeyInfo, NotGranted
from services.store.operations import Operation as Acted
from services.store.operations import record

_KEYS = replace(NATIVE, tag="keys")
_COLUMNS = ("id", "name", "actor", "created_at", "expires_at", "revoked_at")


def _shown(call: Call, key: KeyInfo) -> dict[str, Any]:
    """Return a key for its view."""
    return {
        **{name: getattr(key, name) for name in _COLUMNS},
        "permissions": list(key.permissions),
        "state": key.state(datetime.now(UTC)),
        "current": key.id == call.caller.key_id,
    }


def _demand_id(call: Call) -> None:
    if not KEY_ID.match(call.id):
        raise _unknown()


def _unknown() -> ApiError:
    return ApiError("not-found", "there is no key of this id")


async def _list(call: Call) -> Response:
    query = ListKeys.read(call)
    await settled(call, None)
    if query.cursor is not None and not KEY_ID.match(query.cursor):
        raise ApiError("bad-cursor", "a cursor is what `next` of the page before says", parameter="cursor")
    asked = keys.page(call.caller.tenant, query.state, query.cursor, query.limit + 1)
    found = [keys.key_info(row) for row in await call.list_rows(asked)]
    follow = next_page(call, found[query.limit - 1].id) if len(found) > query.limit else None
    return as_json({"data": [Key.show(_shown(call, key)) for key in found[: query.limit]], "next": follow})


async def _get(call: Call) -> Response:
    nothing_else(call.parameters())
    await settled(call, None)
    _demand_id(call)
    rows = await call.service.pool.fetch(*keys.of_tenant(call.caller.tenant, call.id))
    if not rows:
        raise _unknown()
    return as_json(Key.show(_shown(call, keys.key_info(rows[0]))))


async def _create(call: Call) -> Response:
    nothing_else(call.parameters())
    request, caller = NewKey.read(await call.json()), call.caller
    actor = request.actor if request.actor is not None else caller.actor
    wanted, expires_at = _permissions(request), _expiry(request)
    _demand_valid(caller.tenant, actor, wanted, expires_at)

    def create(conn: psycopg.Connection[Any]) -> tuple[KeyInfo, str]:
        with conn.transaction():
            # What is known of the caller may be some seconds old.
            row = conn.execute(*keys.of_tenant(caller.tenant, caller.key_id, lock=True)).fetchone()
            maker = keys.key_info(row) if row is not None else None
            if maker is None or not maker.usable(datetime.now(UTC)):
                raise ApiError("forbidden", "this key was revoked, or has expired")
            until = expires_at if expires_at is not None else maker.expires_at
            keys.demand_granted(maker, actor, wanted, until)
            made, token = keys.create(conn, caller.tenant, actor, wanted, request.name, until)
            details = {"actor": actor, "permissions": list(made.permissions), "name": made.name, "expires_at": until}
            record(conn, Acted(caller.tenant, caller.actor, "key.create", f"key/{made.id}", details=details,
                               key_id=caller.key_id))  # fmt: skip
        return made, token

    try:
        made, token = await act(call, create)
    except NotGranted as error:
        raise ApiError("forbidden", str(error), f"/{error.what}") from None
    body = CreatedKey.show({**_shown(call, made), "token": token})
    return as_json(body, 201, {"Location": f"/v1/keys/{made.id}", "Cache-Control": "no-store"})


def _permissions(request: NewKey) -> list[str]:
    """Return what the key is to be permitted; raises `ApiError`."""
    for name, known in (("permissions", keys.PERMISSIONS), ("roles", tuple(keys.ROLES))):
        for index, value in enumerate(getattr(request, name) or ()):
            if value not in known:
                raise ApiError("invalid", f"{name} are {', '.join(known)}", f"/{name}/{index}")
    wanted = [*(request.permissions or ()), *(each for role in request.roles or () for each in keys.ROLES[role])]
    return wanted or ["read", "write"]


def _expiry(request: NewKey) -> datetime | None:
    """Return when the key is to expire, None where nothing is said; raises `ApiError`."""
    if request.days is not None and request.expires_at is not None:
        raise ApiError("invalid", "a key expires after days or at a time, not both", "/expires_at")
    if request.expires_at is None:
        return None if request.days is None else keys.after_days(request.days)
    try:
        return instant(request.expires_at, "/expires_at")
    except Rejected as error:
        raise ApiError.caused_by(error) from None


def _demand_valid(tenant: str, actor: str, wanted: list[str], expires_at: datetime | None) -> None:
    """Refuse what no key can have, with its place; the actor's form is the request's."""
    for place, given in (
        ("/permissions", (actor, wanted, None)),
        ("/expires_at", (actor, wanted, expires_at)),
    ):
        try:
            keys.demand_valid(tenant, *given)
        except ValueError as error:
            raise ApiError("invalid", str(error), place) from None


async def _revoke(call: Call) -> Response:
    nothing_else(call.parameters())
    _demand_id(call)
    caller = call.caller

    def revoke(conn: psycopg.Connection[Any]) -> KeyInfo:
        asked = keys.of_tenant(caller.tenant, call.id, lock=True)
        with conn.transaction():
            if conn.execute(*asked).fetchone() is None:
                raise _unknown()
            if keys.revoke(conn, call.id):
                record(conn, Acted(caller.tenant, caller.actor, "key.revoke", f"key/{call.id}", key_id=caller.key_id))
            return keys.key_info(conn.execute(*asked).fetchone() or ())

    revoked = await act(call, revoke)
    # Other processes notice when they ask anew; this one need not wait for that.
    call.service.authenticator.forget(caller.tenant, revoked.actor)
    return as_json(Key.show(_shown(call, revoked)))


_ALL, _ONE = "/v1/keys", "/v1/keys/{id}"
OPERATIONS = (
    Operation(
        _KEYS, "POST", _ALL, "keys", "create_key", "Create a key",
        description="The token is shown here only. A key can do no more than the one that makes it, nor for longer.",
        request=NewKey, handler=_create, view=CreatedKey, status=201, located=True, act=True,
        refusals=(400, 408, 413, 415, 422), links={"get": Link("get_key", "/id"), "revoke": Link("revoke_key", "/id")},
    ),
    Operation(
        _KEYS, "GET", _ALL, "keys", "list_keys", "List the tenant's keys without their tokens, the newest first",
        query=ListKeys, handler=_list, view=page_of(Key, "KeyPage"),
    ),
    Operation(_KEYS, "GET", _ONE, "keys", "get_key", "Read one key", handler=_get, view=Key),
    Operation(
        _KEYS, "DELETE", _ONE, "keys", "revoke_key", "Revoke a key",
        description="It is refused within 5 seconds. A key that is revoked already stays as it is. The key of the"
        " request itself may be revoked, too: the answer says `current`, and further requests with it are refused.",
        handler=_revoke, view=Key, act=True, refusals=(400, 404),
    ),
)  # fmt: skip
