"""The operations on what a tenant configures in the original's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from projections import directory
from projections.support.query import MAX_ROWS
from services.http.core.call import Call, as_json
from services.http.core.entities import entry
from services.http.core.errors import ApiError
from services.http.core.list_view import ListView
from services.http.core.operation import Operation
from services.http.core.parameters import MinPosition, nothing_else, settled
from services.http.core.sending import CommandResult
from services.http.core.submit import submit
from services.http.dispatch import activity_config as models
from services.http.dispatch.dialect import MANAGE, SPOKEN, VIEW

# An entry may appear, or be retired, between two commands; nobody does that all the time.
_ATTEMPTS = 4
_REGISTER, _CHANGE = "directory.register", "directory.change"
# What says that the other command is the right one: an entry is there, or is not, or this very request made or changed
# it before.
_OTHERWISE = {
    _REGISTER: frozenset({"taken", "idempotency-conflict"}),
    _CHANGE: frozenset({"not-found", "idempotency-conflict"}),
}


async def _upsert(call: Call, kind: str, request: models.Upsert) -> CommandResult:
    """Register an entry, or change the one that is there."""
    entries, entry_id = entry(kind), request.data()["id"]
    # A command whose answer is late must be the right one, too, so the read model is asked first.
    found = await entries.find(call, entry_id)
    command = _REGISTER if found is None or found["retired"] else _CHANGE
    for attempt in range(_ATTEMPTS):
        try:
            return await submit(
                call,
                command,
                request,
                entries,
                entity_id=None if command == _REGISTER else entry_id,
                extra_data={"kind": kind},
            )
        except ApiError as refused:
            if refused.code not in _OTHERWISE[command] or attempt == _ATTEMPTS - 1:
                raise
            command = _CHANGE if command == _REGISTER else _REGISTER
    raise AssertionError


async def all_of(
    call: Call, kind: str, query: MinPosition | None = None, *, retired: bool = False
) -> list[dict[str, Any]]:
    """Return every entry of a kind, in order of id, with the retired ones if asked."""
    await settled(call, query or MinPosition.read(call), directory.NAME)
    found: list[dict[str, Any]] = []
    wanted = None if retired else False
    while True:
        after = found[-1]["id"] if found else None
        rows = await call.service.pool.fetch(*directory.page(call.caller.tenant, kind, after, MAX_ROWS, retired=wanted))
        found += [directory.resource(row) for row in rows]
        if len(rows) < MAX_ROWS:
            return found


def _by_id(found: dict[str, Any]) -> Any:
    return found["id"]


def _by_priority(found: dict[str, Any]) -> Any:
    return found["fields"].get("priority") or 0, found["id"]


def _configured(
    kind: str,
    path: str,
    name: str,
    what: str,
    request: type[models.Upsert],
    view: type[Any],
    views: type[ListView],
    status: int,
    order: Callable[[dict[str, Any]], Any] = _by_id,
) -> tuple[Operation, ...]:
    """Return the operations on entries of a kind."""

    async def write(call: Call) -> Response:
        nothing_else(call.parameters())
        result = await _upsert(call, kind, request.read(await call.json()))
        return await SPOKEN.answer(call, result, view, kind, status)

    async def read(call: Call) -> Response:
        return as_json(views.show(sorted(await all_of(call, kind), key=order)))

    return (
        Operation(
            SPOKEN, "GET", path, VIEW, f"dispatch_all_{name}", f"List {what}",
            query=MinPosition, handler=read, view=views,
        ),
        Operation(
            SPOKEN, "POST", path, MANAGE, f"dispatch_put_{name}", f"Create or change one of {what}",
            description="What is there under the same name is changed; what is left out of it stays as it is.",
            request=request, handler=write, view=view, status=status,
        ),
    )  # fmt: skip


OPERATIONS = (
    *_configured(
        "attribute", "/api/activity-config/attribute-policies", "attribute_strategies", "the policies of attributes",
        models.AttributePolicyUpsert, models.AttributeStrategy, models.AttributeStrategies, 200,
    ),
    *_configured(
        "targeting", "/api/activity-config/target-resolution", "target_resolutions", "the ways to find targets",
        models.TargetResolutionUpsert, models.TargetResolution, models.TargetResolutions, 201, _by_priority,
    ),
    *_configured(
        "dispatch", "/api/dispatch-configs", "dispatch_configs", "the providers of channels",
        models.DispatchConfigUpsert, models.DispatchConfig, models.DispatchConfigs, 201,
    ),
)  # fmt: skip
