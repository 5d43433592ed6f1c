"""The operations on webhooks of the native API."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import psycopg
from starlette.responses import Response

from domain.errors import RefusalError
from domain.streams import ID
from services.encryption import NoKey, NotGenuine
from services.http.core.acts import act, act_for_long, by
from services.http.core.call import Call, as_json
from services.http.core.errors import ApiError
from services.http.core.openapi import parameter
from services.http.core.operation import Link, Operation
from services.http.core.parameters import nothing_else
from services.http.core.submit import idempotency_key, new_id
from services.http.core.wanted import interest_of
from services.http.native import webhook_lists
from services.http.native.dialect import NATIVE
from services.http.native.webhook_lists import demand_id, page_of
from services.http.native.webhook_models import (
    PLACES,
    CreatedWebhook,
    NewWebhook,
    Replay,
    RotatedSecret,
    SecretRotation,
    Webhook,
    WebhookChange,
    WebhookDelivery,
    WebhookFilter,
    WebhookPing,
)  # fmt: skip
from services.interests import Dimension
from services.store import webhooks
from services.store.operations import Act, acting
from services.webhooks import BadSecret, BadUrl, demand_url, host_of, key_of, new_secret, place_of

_WEBHOOKS = replace(NATIVE, tag="webhooks")
_Done = TypeVar("_Done")
_Work = Callable[[psycopg.Connection[Any], Act], _Done]
_encode = msgspec.json.Encoder(order="deterministic").encode


async def _acted(call: Call, verb: str, webhook: str, work: _Work[_Done], **details: Any) -> _Done:
    """Do something to a webhook, and record that in the same transaction; raises `ApiError`."""
    operation = by(call).operation(call.caller.tenant, f"webhook.{verb}", f"webhook/{webhook}", **details)

    def run(conn: psycopg.Connection[Any]) -> _Done:
        with acting(conn, operation) as doing:
            return work(conn, doing)

    return await act(call, run)


async def _wanted(
    call: Call, types: Sequence[str] | None, about: WebhookFilter | None
) -> Mapping[Dimension, Sequence[str]]:
    """Return what events are wanted; raises `ApiError`."""
    given: dict[Dimension, Sequence[str] | None] = {"type": types, **(about.wanted() if about is not None else {})}
    try:
        interest = await interest_of(call, given)
    except RefusalError as error:
        place = getattr(error, "parameter", "")
        raise ApiError("invalid", error.detail, next((PLACES[name] for name in PLACES if name == place), "")) from None
    return {name: sorted(values) for name, values in interest.wanted}


def _url(url: str) -> str:
    try:
        demand_url(url)
    except BadUrl as error:
        raise ApiError("invalid", str(error), "/url") from None
    return url


def _secret(call: Call, webhook: str, given: str | None) -> tuple[str, str]:
    """Return a secret, and how it is stored; raises `ApiError`."""
    secret = given if given is not None else new_secret()
    try:
        key_of(secret)
        return secret, call.service.keys.encrypt(place_of(call.caller.tenant, webhook), secret)
    except (BadSecret, NoKey) as error:
        raise ApiError("invalid", str(error), "/secret") from None


def _asked(call: Call, body: Any) -> webhooks.Asked | None:
    """Return what a webhook is created by under an `Idempotency-Key`."""
    key = idempotency_key()
    if key is None:
        return None
    under = f"{call.caller.actor}\0{key}".encode()
    return webhooks.Asked(hashlib.sha256(under).digest(), hashlib.sha256(_encode(body)).digest())


async def _create(call: Call) -> Response:
    nothing_else(call.parameters())
    body, caller = await call.json(), call.caller
    request, asked = NewWebhook.read(body), _asked(call, body)
    webhook = request.id if request.id is not None else new_id()
    if not ID.match(webhook):
        raise ApiError("invalid", "an id is 1 to 64 characters of A-Z a-z 0-9 _ -", "/id")
    url, wanted = _url(request.url), await _wanted(call, request.types, request.filter)
    _, stored = _secret(call, webhook, request.secret)

    def create(conn: psycopg.Connection[Any], act: Act) -> tuple[webhooks.Webhook, str]:
        before = webhooks.create(
            conn, caller.tenant, webhook, url, wanted, stored, caller.actor, request.from_position, asked
        )
        act.changed, found = before is None, before or webhook
        return webhooks.get(conn, caller.tenant, found), webhooks.sent_to(conn, caller.tenant, found)[1][0]

    details = {"host": host_of(url), **{webhooks.FILTERS[name]: values for name, values in wanted.items()}}
    made, secret = await _acted(call, "create", webhook, create, **details)
    try:
        shown = call.service.keys.decrypt(place_of(caller.tenant, made.id), secret)
    except (NoKey, NotGenuine):
        # The one of a repetition, whose key is gone since.
        raise ApiError("not-ready", "the webhook was created, and its secret cannot be decrypted any more") from None
    body = CreatedWebhook.show({**asdict(made), "secret": shown})
    return as_json(body, 201, {"Location": f"/v1/webhooks/{made.id}"})


async def _left(call: Call, verb: str, work: _Work[None], **details: Any) -> Response:
    """Do something to a webhook in a transaction, and answer with the webhook as it leaves it."""

    def run(conn: psycopg.Connection[Any], act: Act) -> webhooks.Webhook:
        work(conn, act)
        return webhooks.get(conn, call.caller.tenant, call.id)

    return as_json(Webhook.show(asdict(await _acted(call, verb, call.id, run, **details))))


async def _change(call: Call) -> Response:
    nothing_else(call.parameters())
    demand_id(call)
    request, tenant = WebhookChange.read(await call.json()), call.caller.tenant
    given: dict[str, Any] = {}
    for name in ("url", "state"):
        if name in request.model_fields_set:
            if getattr(request, name) is None:
                raise ApiError("invalid", f"{name} cannot be taken away", f"/{name}")
            given[name] = getattr(request, name)
    if "url" in given:
        _url(given["url"])
    wanted = await _wanted(call, request.types, request.filter)
    changed = [name for name in PLACES if PLACES[name].split("/")[1] in request.model_fields_set]
    given["wanted"] = {name: wanted.get(name) for name in changed}
    details: dict[str, Any] = {webhooks.FILTERS[name]: values for name, values in given["wanted"].items()}
    details |= {"host": host_of(given["url"])} if "url" in given else {}
    details |= {"state": given["state"]} if "state" in given else {}
    return await _left(call, "change", lambda conn, _: webhooks.change(conn, tenant, call.id, **given), **details)


async def _delete(call: Call) -> Response:
    nothing_else(call.parameters())
    demand_id(call)
    await _acted(call, "delete", call.id, lambda conn, _: webhooks.delete(conn, call.caller.tenant, call.id))
    return Response(status_code=204)


async def _rotate(call: Call) -> Response:
    nothing_else(call.parameters())
    demand_id(call)
    request = SecretRotation.read(await call.json() if call.has_body else {})
    secret, stored = _secret(call, call.id, request.secret)
    tenant, overlap = call.caller.tenant, request.overlap_seconds

    def rotate(conn: psycopg.Connection[Any], _: Act) -> datetime | None:
        return webhooks.rotate(conn, tenant, call.id, stored, overlap)

    until = await _acted(call, "rotate-secret", call.id, rotate, overlap_seconds=overlap)
    return as_json(RotatedSecret.show({"secret": secret, "old_secret_until": until}))


async def _replay(call: Call) -> Response:
    nothing_else(call.parameters())
    demand_id(call)
    request, tenant = Replay.read(await call.json()), call.caller.tenant
    position = request.from_position

    def replay(conn: psycopg.Connection[Any], _: Act) -> None:
        webhooks.replay_from(conn, tenant, call.id, position)

    return await _left(call, "replay", replay, from_position=position)


async def _replay_one(call: Call) -> Response:
    nothing_else(call.parameters())
    demand_id(call)
    text, tenant = call.parts["position"], call.caller.tenant
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ApiError("not-found", "the webhook has no delivery of this position")
    position = int(text)

    def replay(conn: psycopg.Connection[Any], _: Act) -> webhooks.Delivery:
        webhooks.replay(conn, tenant, call.id, position)
        return webhooks.get_delivery(conn, tenant, call.id, position)

    return as_json(
        WebhookDelivery.show(asdict(await _acted(call, "replay-delivery", call.id, replay, position=position)))
    )


async def _ping(call: Call) -> Response:
    from services.processors.pings import ping

    nothing_else(call.parameters())
    demand_id(call)
    settings, tenant = call.service.settings, call.caller.tenant
    found = await act_for_long(call, lambda: ping(settings, tenant, call.id, by(call)))
    return as_json(WebhookPing.show(found._asdict()))


_ALL, _ONE = "/v1/webhooks", "/v1/webhooks/{id}"
_POSITION = parameter("position", "The position of the event", "integer", place="path", minimum=0)
OPERATIONS = (
    Operation(
        _WEBHOOKS, "POST", _ALL, "webhooks", "create_webhook", "Create a webhook",
        description="Events are sent by POST, with the headers and the signature of the Standard Webhooks"
        " specification. The secret is shown here only. With an `Idempotency-Key`, a repetition is answered with the"
        " same webhook, and its secret, as they are then, for as long as it is there.",
        request=NewWebhook, handler=_create, view=CreatedWebhook, status=201, located=True, act=True, keyed=True,
        refusals=(400, 408, 409, 413, 415, 422), links={"get": Link("get_webhook", "/id")},
    ),
    Operation(
        _WEBHOOKS, "GET", _ALL, "webhooks", "list_webhooks", "List webhooks by id",
        query=webhook_lists.ListWebhooks, handler=webhook_lists.list_webhooks, view=page_of(Webhook, "WebhookPage"),
    ),
    Operation(
        _WEBHOOKS, "GET", _ONE, "webhooks", "get_webhook", "Read one webhook",
        handler=webhook_lists.get_webhook, view=Webhook,
    ),
    Operation(
        _WEBHOOKS, "PATCH", _ONE, "webhooks", "change_webhook", "Change, pause or resume a webhook",
        description="What is left out stays as it is. What is queued already is sent all the same.",
        request=WebhookChange, handler=_change, view=Webhook, act=True,
    ),
    Operation(
        _WEBHOOKS, "DELETE", _ONE, "webhooks", "delete_webhook", "Delete a webhook with its deliveries",
        handler=_delete, status=204, act=True, refusals=(400, 404),
    ),
    Operation(
        _WEBHOOKS, "POST", f"{_ONE}/rotate-secret", "webhooks", "rotate_webhook_secret", "Replace the secret",
        description="Until the old secret ends, deliveries are signed with both.",
        request=SecretRotation, body_optional=True, handler=_rotate, view=RotatedSecret, act=True,
    ),
    Operation(
        _WEBHOOKS, "POST", f"{_ONE}/replay", "webhooks", "replay_webhook", "Send events again, from a position on",
        description="Whatever the webhook wants after the position is sent again in order, under the same ids.",
        request=Replay, handler=_replay, view=Webhook, act=True,
    ),
    Operation(
        _WEBHOOKS, "POST", f"{_ONE}/ping", "webhooks", "ping_webhook", "Send a test event now",
        description="The event `webhook.ping` is signed and sent once, whatever the state of the webhook, which it does"
        " not change. The answer says what the receiver answered, within 15 seconds.",
        handler=_ping, view=WebhookPing, act=True, refusals=(400, 404, 429),
    ),
    Operation(
        _WEBHOOKS, "GET", f"{_ONE}/deliveries", "webhooks", "list_webhook_deliveries",
        "List deliveries, the newest event first",
        description="What was delivered is kept for a week, at most the last 1000 of a webhook; what is parked for 30"
        " days.",
        query=webhook_lists.ListDeliveries, handler=webhook_lists.list_deliveries,
        view=page_of(WebhookDelivery, "WebhookDeliveryPage"),
    ),
    Operation(
        _WEBHOOKS, "POST", f"{_ONE}/deliveries/{{position}}/replay", "webhooks", "replay_webhook_delivery",
        "Send one event again", parameters=(_POSITION,), handler=_replay_one, view=WebhookDelivery, act=True,
    ),
)  # fmt: skip
