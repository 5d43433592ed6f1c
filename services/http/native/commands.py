"""Commands over HTTP, as they are on the wire, and their receipts; what a worker would dead-letter is refused here."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from domain import COMMANDS
from domain.decider import SYSTEM
from domain.streams import ID, split_stream
from services.broker.sender import Outgoing
from services.commands import wire
from services.commands.wire import Malformed
from services.http.actions import route_of
from services.http.core.command import MAX_ROUTING_KEY, Answered, give, idempotency_key, outgoing, receipt_path
from services.http.core.errors import ApiError, problem
from services.http.core.service import Service
from services.http.endpoints import JSON, Call, Endpoint, nothing_else
from services.http.native import examples
from services.store import ledger, log

_KEYS = ("type", "data", "id", "actor", "expected_version", "routing_key")


def endpoints(service: Service) -> list[Endpoint]:
    """Return the endpoints of commands."""

    async def post(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        body = await call.json()
        if not isinstance(body, dict):
            raise ApiError("wrong-shape", "a command is an object")
        command = await _command(service, call, body)
        return _answer(await give(service, command))

    async def receipt(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        return await _receipt(service, call)

    return [
        Endpoint("POST", "/v1/commands", "write", post, examples.POST_COMMAND),
        Endpoint("GET", "/v1/commands/{id:path}", "read", receipt, examples.GET_RECEIPT),
    ]


async def _command(service: Service, call: Call, body: dict[str, Any]) -> Outgoing:
    for key in body:
        if key not in _KEYS:
            raise ApiError("unknown-field", f"a command has {', '.join(_KEYS)}", wire.pointer_of((key,)))
    name, data = body.get("type"), body.get("data")
    if not isinstance(name, str) or name not in COMMANDS:
        raise ApiError("unknown-type", f"commands are {', '.join(COMMANDS)}", "/type")
    if not isinstance(data, dict):
        raise ApiError("wrong-shape", "data is an object", "/data")
    command_id, expected = body.get("id"), body.get("expected_version")
    if command_id is not None and not isinstance(command_id, str):
        raise ApiError("wrong-shape", "an id is a text", "/id")
    if expected is not None and (not isinstance(expected, int) or isinstance(expected, bool) or expected < 0):
        raise ApiError("wrong-shape", "expected_version is a whole number from 0", "/expected_version")
    given: dict[str, Any] = {} if command_id is None else {"command_id": command_id}
    try:
        return outgoing(
            service,
            call.caller,
            name,
            data,
            await _routing_key(service, call, body, name, data),
            actor=_actor(call, body.get("actor")),
            expected_version=expected,
            idempotency_key=idempotency_key(),
            **given,
        )
    except Malformed as error:
        if error.code == "bad-message-id":
            raise ApiError("wrong-shape", error.detail, "/id") from None
        if error.code == "bad-header":
            raise
        raise ApiError(error.code, error.detail, f"/data{error.pointer}") from None


def _actor(call: Call, wanted: Any) -> str:
    caller = call.caller
    if wanted is None or wanted == caller.actor:
        return caller.actor
    if not isinstance(wanted, str) or not ID.match(wanted):
        raise ApiError("wrong-shape", "actor is a member's id or `system`", "/actor")
    if caller.actor != SYSTEM:
        raise ApiError("forbidden", "only a key of `system` may name another actor", "/actor")
    caller.demand("impersonate")
    return wanted


async def _routing_key(service: Service, call: Call, body: dict[str, Any], name: str, data: dict[str, Any]) -> str:
    wanted = body.get("routing_key")
    if wanted is None:
        return await route_of(service, call.caller.tenant, name, data)
    if not isinstance(wanted, str) or not 1 <= len(wanted.encode()) <= MAX_ROUTING_KEY:
        raise ApiError("wrong-shape", f"routing_key is a text of 1 to {MAX_ROUTING_KEY} bytes", "/routing_key")
    return wanted


def _answer(answered: Answered) -> Response:
    reply = answered.reply
    if reply is None:
        body = {"command_id": answered.command_id, "outcome": "undecided", "receipt": answered.receipt}
        return Response(msgspec.json.encode(body), 202, {"Location": answered.receipt}, JSON)
    if reply.error is not None:
        extra = {"command_id": reply.command_id, "position": reply.position, "duplicate": reply.duplicate}
        pointer = f"/data{reply.error.pointer}" if reply.error.pointer else ""
        return problem(ApiError(reply.error.code, reply.error.detail, pointer, extra=extra))
    return Response(wire.encode_reply(reply), 200, {"Location": receipt_path(reply.command_id)}, JSON)


async def _receipt(service: Service, call: Call) -> Response:
    command_id: str = call.id
    rows = []
    if "\0" not in command_id:
        rows = await service.pool.fetch(*ledger.receipt(call.caller.tenant, command_id))
    if not rows:
        raise ApiError("unknown-or-undecided", "no command of this id was decided here, or not yet")
    code, detail, pointer, first, last, recorded_at = rows[0]
    receipt: dict[str, Any] = {
        "command_id": command_id,
        "outcome": "accepted" if code is None else "rejected",
        "recorded_at": recorded_at,
        "position": last,
        "events": [],
    }
    if code is not None:
        receipt["error"] = {"code": code, "detail": detail or "", "pointer": pointer or ""}
    elif first is not None:
        receipt["events"] = [
            {"position": position, "type": name, "stream": "-".join(split_stream(stream)[1:]), "version": version}
            for position, name, stream, version in await service.pool.fetch(*log.summaries_between(first, last))
        ]
    return Response(msgspec.json.encode(receipt), 200, media_type=JSON)
