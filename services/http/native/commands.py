"""Commands as they are on the wire, and what became of them; what a worker would dead-letter is refused here."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from domain.decider import SYSTEM
from domain.errors import Refusal
from domain.streams import ID, split_stream
from services.broker.sender import Outgoing
from services.commands import wire
from services.commands.wire import InvalidMessage
from services.http.core.bulk_sender import StoredItem, decode_items
from services.http.core.call import JSON, Call, as_json
from services.http.core.errors import ApiError, problem
from services.http.core.parameters import nothing_else
from services.http.core.submit import CommandResult, idempotency_key, outgoing, receipt_path, route_of, send
from services.http.native.receipts import OUTCOMES, Bulk, Receipt, Undecided
from services.http.native.requests import Command
from services.store import bulks, ledger, log

# What a worker answers to the command whose id another one took.
_CONFLICT = Refusal("command-id-conflict", "another command came under this id", "")


async def post_command(call: Call) -> Response:
    """Give a command as it is."""
    nothing_else(call.parameters())
    command = Command.read(await call.json())
    result = await send(call.service, await _outgoing(call, command))
    reply = result.reply
    if reply is None:
        return undecided(result)
    if reply.error is not None:
        extra = {"command_id": reply.command_id, "position": reply.position, "duplicate": reply.duplicate}
        pointer = f"/data{reply.error.pointer}" if reply.error.pointer else ""
        return problem(ApiError(reply.error.code, reply.error.detail, pointer, extra=extra))
    return Response(wire.encode_reply(reply), 200, {"Location": receipt_path(reply.command_id)}, JSON)


def undecided(result: CommandResult) -> Response:
    """Answer with where the receipt will lie."""
    found = {
        "command_id": result.command_id,
        "receipt": result.receipt,
        "known": result.reply is not None,
    }
    return as_json(Undecided.show(found), 202, {"Location": result.receipt})


async def _outgoing(call: Call, command: Command) -> Outgoing:
    service, caller = call.service, call.caller
    route = command.routing_key
    if route is None:
        route = await route_of(service, caller.tenant, command.type, command.own)
    given: dict[str, Any] = {} if command.id is None else {"command_id": command.id}
    try:
        return outgoing(
            service,
            caller,
            command.type,
            command.own,
            route,
            actor=_actor(call, command.actor),
            expected_version=command.expected_version,
            idempotency_key=idempotency_key(),
            **given,
        )
    except InvalidMessage as error:
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


async def get_receipt(call: Call) -> Response:
    """Answer with what became of a command."""
    nothing_else(call.parameters())
    command_id, pool = call.id, call.service.pool
    rows = []
    if "\0" not in command_id:
        rows = await pool.fetch(*ledger.receipt(call.caller.tenant, command_id))
    if not rows:
        raise ApiError("unknown-or-undecided", "no command of this id was decided here, or not yet")
    code, detail, pointer, first, last, recorded_at = rows[0]
    found: dict[str, Any] = {
        "command_id": command_id,
        "outcome": "accepted" if code is None else "rejected",
        "recorded_at": recorded_at,
        "position": last,
        "events": [],
    }
    if code is not None:
        found["error"] = {"code": code, "detail": detail or "", "pointer": pointer or ""}
    elif first is not None:
        found["events"] = [
            {"position": position, "type": name, "stream": "-".join(split_stream(stream)[1:]), "version": version}
            for position, name, stream, version in await pool.fetch(*log.summaries_between(first, last))
        ]
    return as_json(Receipt.show(found))


async def get_bulk(call: Call) -> Response:
    """Answer with how far a bulk is that is carried out in the background; the ledger has each part's outcome."""
    nothing_else(call.parameters())
    pool, tenant = call.service.pool, call.caller.tenant
    rows = await pool.fetch(*bulks.stored(tenant, call.id)) if ID.match(call.id) else []
    if not rows:
        raise ApiError("not-found", "there is no bulk of this id, or no longer")
    command, stored, sent, created_at = rows[0]
    items = decode_items(stored)
    ids = [item.command_id for item in items if item.command_id is not None]
    decided = {row[0]: row[1:] for row in await pool.fetch(*ledger.outcomes(tenant, ids))}
    shown = [_item(item, decided) for item in items]
    outcomes = [item["outcome"] for item in shown]
    counts = {outcome: outcomes.count(outcome) for outcome in OUTCOMES}
    found = {
        "id": call.id,
        "command": command,
        "state": "running" if counts["undecided"] else "done",
        "created_at": created_at,
        "total": len(items),
        "sent": sent,
        **counts,
        "position": max((item["position"] for item in shown if item.get("position")), default=None),
        "items": shown,
    }
    return as_json(Bulk.show(found))


def _item(item: StoredItem, decided: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    own: dict[str, Any] = {"ref": item.ref, "id": item.id}
    if item.command_id is None:
        return {**own, "outcome": "rejected", "error": item.error}
    if item.command_id not in decided:
        # Without its command's id, which whoever reads this could take before it is used.
        return {**own, "outcome": "undecided"}
    fingerprint, code, detail, pointer, position = decided[item.command_id]
    own["receipt"] = receipt_path(item.command_id)
    if fingerprint != item.fingerprint:
        return {**own, "outcome": "rejected", "error": _CONFLICT}
    if code is not None:
        return {**own, "outcome": "rejected", "error": Refusal(code, detail or "", pointer or "")}
    return {**own, "outcome": "accepted", "position": position}
