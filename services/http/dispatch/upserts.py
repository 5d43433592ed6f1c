"""The operations on what a tenant configures in the original's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from projections import directory
from services.http.core.call import Call, as_json
from services.http.core.entities import entry
from services.http.core.list_view import ListView
from services.http.core.operation import Operation
from services.http.core.pages import all_entries
from services.http.core.parameters import MinPosition, settled
from services.http.dispatch import activity_config as models
from services.http.dispatch.dialect import MANAGE, SPOKEN, VIEW

_PUT = "directory.put"


async def all_of(
    call: Call, kind: str, query: MinPosition | None = None, *, retired: bool = False
) -> list[dict[str, Any]]:
    """Return every entry of a kind, in order of id, with the retired ones if asked."""
    await settled(call, query or MinPosition.read(call), directory.NAME)
    return [directory.resource(row) for row in await all_entries(call, kind, None if retired else False)]


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

    async def read(call: Call) -> Response:
        return as_json(views.show(sorted(await all_of(call, kind), key=order)))

    return (
        Operation(
            SPOKEN, "GET", path, VIEW, f"dispatch_all_{name}", f"List {what}",
            query=MinPosition, handler=read, view=views,
        ),
        Operation(
            SPOKEN, "POST", path, MANAGE, f"dispatch_put_{name}", f"Create or replace one of {what}",
            description="What is there under the same name is replaced as a whole.",
            request=request, command=_PUT, entity=entry(kind, creates=_PUT), extra_data=lambda _: {"kind": kind},
            view=view, status=status,
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
