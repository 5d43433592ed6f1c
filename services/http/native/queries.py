"""Reads of the endpoints that are not made of operations yet, until all are."""

from __future__ import annotations

from typing import Any

from services.http.core.errors import ApiError
from services.http.core.parameters import number
from services.http.core.service import Service
from services.http.native.lists import TASKS, Model

__all__ = ["TASKS", "one_row", "settled"]


async def settled(service: Service, parameters: dict[str, list[str]], *models: str) -> None:
    """Take `min_position`, when there is one, and wait for these read models to get there."""
    if "min_position" in parameters:
        position = number(parameters, "min_position", 0, 0)
        await service.positions.demand(models, position, service.settings.view_timeout)


async def one_row(service: Service, model: Model, tenant: str, entity_id: str, noun: str) -> tuple[Any, ...]:
    """Return a row by id, or refuse; another tenant's id reads like one that nobody has."""
    fits = len(entity_id) <= 64 and "\0" not in entity_id and entity_id.isascii()
    row = await service.loaders[model.name].row(tenant, entity_id) if fits else None
    if row is None:
        raise ApiError("not-found", f"there is no {noun} of this id")
    return row
