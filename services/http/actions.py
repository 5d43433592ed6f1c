"""The writes of the dialects that are not made of operations yet, by the same way as all others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.types import Message

from projections import activities, directory, tasks
from services.http.core.authenticator import Caller
from services.http.core.call import Call
from services.http.core.command import Answered, give, outgoing
from services.http.core.errors import ApiError
from services.http.core.service import Service
from services.http.core.submit import ACTIVITY, TASK, Done, route_of, submit

__all__ = ["MODELS", "Done", "change", "command", "route_of"]

# What a write waits for by default: the task, its activity, and the people whom both show.
MODELS = (activities.NAME, tasks.NAME, directory.NAME)
_ENTITIES = {"activity": ACTIVITY, "task": TASK}


async def change(service: Service, caller: Caller, name: str, data: dict[str, Any], noun: str = "task") -> Done:
    """Give a command on the task or activity that `data["id"]` names, and return it as it is after that."""
    return await submit(Call({}, _nothing, caller, service), name, data, _ENTITIES[noun], entity_id=data["id"])


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


async def command(
    service: Service,
    caller: Caller,
    name: str,
    data: Mapping[str, Any],
    route: str,
    key: str | None = None,
    models: Iterable[str] = MODELS,
) -> Answered:
    """Give a command and wait for its answer and these read models; raises `ApiError` with the command's refusal."""
    answered = await give(service, outgoing(service, caller, name, data, route, idempotency_key=key), models)
    reply = answered.reply
    if reply is not None and reply.error is not None:
        raise ApiError.of(reply.error)
    return answered
