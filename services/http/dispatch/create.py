"""Creating an activity: one key makes one, and whoever comes second is told which one it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from domain.recorded import Recorded
from domain.task import Task, evolve
from services.commands.outcome import IDEMPOTENCY, row_of_key
from services.http.actions import command
from services.http.core.authenticator import Caller
from services.http.core.command import Answered, events_of, idempotency_key, key_route
from services.http.core.errors import ApiError
from services.http.core.service import Service
from services.http.dispatch.shapes import short
from services.store import ledger, log


async def create(service: Service, caller: Caller, data: dict[str, Any], key: str) -> tuple[Answered, dict[str, Any]]:
    """Give `task.create`, and return its answer with the activity; an empty one while nobody can show it.

    Raises `ApiError` with the command's refusal, and with 409 when the key was used before.
    """
    header = idempotency_key()
    if header is not None and header != key:
        detail = "the body's idempotency_key is the key of this request; the header may only repeat it"
        raise ApiError("bad-header", detail, parameter="Idempotency-Key")
    try:
        answered = await command(service, caller, "task.create", data, key_route(key), key)
    except ApiError as refused:
        if refused.code != "idempotency-conflict":
            raise
        existing = (await _holder(service, caller.tenant, key))[1]
        raise _used(existing, same=False) from None
    reply = answered.reply
    if reply is None:
        return answered, {}
    if reply.duplicate:
        first, _ = await _holder(service, caller.tenant, key)
        # A broker may deliver a command twice, and then it repeats itself alone.
        if first != answered.command_id:
            raise _used(_created((event.type, event.stream) for event in reply.events), same=True)
    return answered, _shown(await _own_events(service, answered))


def _used(existing: str | None, same: bool) -> ApiError:
    return ApiError(
        "idempotency-conflict",
        f"the idempotency key was used before, {'with the same payload' if same else 'with another payload or actor'}",
        "/idempotency_key",
        extra={"existingId": existing, "samePayload": same},
    )


async def _holder(service: Service, tenant: str, key: str) -> tuple[str | None, str | None]:
    """Return which command took a key, and the id of what it made."""
    rows = await service.pool.fetch(*ledger.holder(tenant, IDEMPOTENCY, key))
    if not rows:
        return None, None
    row = row_of_key(tenant, rows[0][0])
    if row.first_position is None:
        return row.command_id, None
    found = await service.pool.fetch(*log.summaries_between(row.first_position, row.last_position or 0))
    return row.command_id, _created((name, stream.partition("/")[2]) for _, name, stream, _ in found)


def _created(events: Iterable[tuple[str, str]]) -> str | None:
    """Return the id of the task that events make, or of the activity, when another dialect took the key."""
    made = {name: stream.partition("-")[2] for name, stream in reversed(list(events))}
    return made.get("activity.created") or made.get("task.created")


async def _own_events(service: Service, answered: Answered) -> list[Recorded]:
    try:
        assert answered.reply is not None  # noqa: S101
        return await events_of(service, answered.reply)
    except ApiError as refused:
        if refused.code != "unavailable":
            raise
        # The command took effect; that the database went away since makes no failure of it.
        return []


def _shown(events: Iterable[Recorded]) -> dict[str, Any]:
    """Return the activity as the command's own events leave it, whatever a follower has done since."""
    task: Task | None = None
    for event in events:
        if event.category == "task":
            task = evolve(task, event.data)
    if task is None:
        return {}
    plan = task.created.plan
    facts = {
        "id": task.id,
        "status": task.lifecycle.value.lower(),
        "resolution": task.resolution.value,
        "dispatch": task.dispatch.value,
        "route": task.created.route,
    }
    return short(facts, {"channel": plan.channel if plan is not None else None}, task.created.operator)
