"""The queries of webhooks and of their deliveries."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import Field, create_model
from starlette.responses import Response

from domain.limits import MAX_WHOLE, Number
from domain.streams import ID
from services.http.core.call import Call, as_json
from services.http.core.errors import ApiError
from services.http.core.parameters import Position, Query, nothing_else, settled
from services.http.native import models
from services.http.native.webhook_models import Webhook, WebhookDelivery
from services.store import webhooks


class ListWebhooks(Query):
    """The page of webhooks."""

    limit: Annotated[int, Number(1, 500)] = Field(50, description="Webhooks of a page")
    cursor: str | None = Field(None, description="What `next` of the page before says")


class ListDeliveries(Query):
    """The page of deliveries."""

    state: Literal["pending", "delivered", "parked"] | None = Field(None, description="Those in this state")
    limit: Annotated[int, Number(1, 500)] = Field(50, description="Deliveries of a page")
    cursor: Position = Field(0, description="The last position seen")


async def shown(call: Call) -> dict[str, Any]:
    """Return the webhook of a call as a resource; raises `ApiError`."""
    demand_id(call)
    rows = await call.service.pool.fetch(*webhooks.by_id(call.caller.tenant, call.id))
    if not rows:
        raise ApiError("not-found", "there is no webhook of this id")
    return asdict(webhooks.Webhook(*rows[0]))


def demand_id(call: Call) -> None:
    if not ID.match(call.id):
        raise ApiError("not-found", "there is no webhook of this id")


async def list_webhooks(call: Call) -> Response:
    query = ListWebhooks.read(call)
    await settled(call, None)
    if query.cursor is not None and not ID.match(query.cursor):
        raise ApiError("bad-cursor", "a cursor is what `next` of the page before says", parameter="cursor")
    asked = webhooks.page(call.caller.tenant, query.cursor or "", query.limit + 1)
    found = [asdict(webhooks.Webhook(*row)) for row in await call.service.pool.fetch(*asked)]
    return _page(call, [Webhook.show(each) for each in found], query.limit, "id")


async def get_webhook(call: Call) -> Response:
    nothing_else(call.parameters())
    await settled(call, None)
    return as_json(Webhook.show(await shown(call)))


async def list_deliveries(call: Call) -> Response:
    query = ListDeliveries.read(call)
    await settled(call, None)
    await shown(call)
    before = query.cursor if "cursor" in query.model_fields_set else MAX_WHOLE
    asked = webhooks.deliveries(call.caller.tenant, call.id, before, query.state, query.limit + 1)
    found = [asdict(webhooks.Delivery(*row)) for row in await call.service.pool.fetch(*asked)]
    return _page(call, [WebhookDelivery.show(each) for each in found], query.limit, "position")


def _page(call: Call, shown: list[dict[str, Any]], limit: int, key: str) -> Response:
    """Answer with a page; there is another one if there is a row more than its limit."""
    follow = None
    if len(shown) > limit:
        parts = call.scope["query_string"].decode("latin-1").split("&")
        kept = [part for part in parts if part and not part.startswith("cursor=")]
        follow = f"{call.scope['path']}?{'&'.join([*kept, f'cursor={shown[limit - 1][key]}'])}"
    return as_json({"data": shown[:limit], "next": follow})


def page_of(view: Any, name: str) -> Any:
    return create_model(name, __base__=models.Page, __doc__="A page", __module__=__name__, data=(list[view], ...))
