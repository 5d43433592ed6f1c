"""What became of a bulk that is carried out in the background: how far it is, and each part's outcome.

Nothing is kept of the outcomes but what the ledger has of the parts' commands.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from domain.errors import Refusal
from domain.streams import ID
from services.http.core.bulk_sender import StoredItem, decode_items
from services.http.core.command import receipt_path
from services.http.core.errors import ApiError
from services.http.core.service import Service
from services.http.endpoints import JSON, Call, Endpoint, nothing_else
from services.http.native import examples_bulks as examples
from services.store import bulks, ledger

# What a worker answers to the command whose id another one took.
_CONFLICT = Refusal("command-id-conflict", "another command came under this id", "")


def endpoints(service: Service) -> list[Endpoint]:
    """Return the endpoint of receipts of bulks."""

    async def receipt(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        return Response(msgspec.json.encode(await _receipt(service, call.caller.tenant, call.id)), media_type=JSON)

    return [Endpoint("GET", "/v1/bulks/{id}", "read", receipt, examples.GET_BULK)]


async def _receipt(service: Service, tenant: str, bulk_id: str) -> dict[str, Any]:
    rows = await service.pool.fetch(*bulks.stored(tenant, bulk_id)) if ID.match(bulk_id) else []
    if not rows:
        raise ApiError("not-found", "there is no bulk of this id, or no longer")
    command, stored, sent, created_at = rows[0]
    items = decode_items(stored)
    ids = [item.command_id for item in items if item.command_id is not None]
    decided = {row[0]: row[1:] for row in await service.pool.fetch(*ledger.outcomes(tenant, ids))}
    shown = [_item(item, decided) for item in items]
    outcomes = [item["outcome"] for item in shown]
    counts = {outcome: outcomes.count(outcome) for outcome in examples.OUTCOMES}
    return {
        "id": bulk_id,
        "command": command,
        "state": "running" if counts["undecided"] else "done",
        "created_at": created_at,
        "total": len(items),
        "sent": sent,
        **counts,
        "position": max((item["position"] for item in shown if item.get("position")), default=None),
        "items": shown,
    }


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
