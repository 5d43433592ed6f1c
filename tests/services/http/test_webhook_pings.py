"""Pings: a signed test event to a real receiver, on demand, whatever the receiver makes of it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

import psycopg
import pytest

from services.processors import receivers
from services.webhooks import key_of
from tests.eventually import eventually_async
from tests.services.answering import Answering
from tests.services.harness import rows
from tests.services.http.api import Api, problem
from tests.services.http.test_webhooks import made, token

SETTINGS = {"dispatch_hosts": "127.0.0.1"}


async def pinged(api: Api, webhook: str = "h1") -> dict[str, Any]:
    """Send a ping, and return the answer."""
    response = await api.client.post(f"/v1/webhooks/{webhook}/ping", headers=api.by(token(api)))
    assert response.status_code == 200, response.text
    return dict(response.json())


async def details(api: Api) -> list[dict[str, Any]]:
    """Return the details of the pings that were recorded with an outcome, the newest first."""
    answer = await api.get("/v1/audit?act=webhook.ping&outcome=succeeded", api.key("acme", "system", "audit"))
    return [each["details"] for each in answer.json()["data"]]


async def test_a_ping_is_signed_sent_once_and_recorded(api: Api, provider: Answering) -> None:
    provider.answer = lambda _: (202, {}, b"thanks")
    secret = (await made(api, id="h1", url=provider.url))["secret"]
    found = await pinged(api)
    assert (found["delivered"], found["status"], found["answer"]) == (True, 202, "thanks")
    assert 0 <= found["seconds"] < 15
    (got,) = provider.received
    event = json.loads(got.body)
    assert (event["type"], event["subject"], event["tenant"]) == ("webhook.ping", "webhook/h1", "acme")
    assert event["id"] == got.headers["webhook-id"] == found["event_id"]
    text = f"{event['id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    signature = base64.b64encode(hmac.new(key_of(secret), text, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{signature}"
    assert await details(api) == [found]
    # No delivery, no event of the tenant's, and the webhook is as it was.
    assert rows(api.url, "SELECT count(*) FROM webhook_deliveries") == [(0,)]
    assert (await api.get("/v1/events?after=0")).json()["events"] == []


async def test_during_a_rotation_a_ping_has_both_signatures(api: Api, provider: Answering) -> None:
    await made(api, id="h1", url=provider.url)
    await api.post("/v1/webhooks/h1/rotate-secret", {}, token(api))
    await pinged(api)
    assert len(provider.received[0].headers["webhook-signature"].split()) == 2


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (500, {}, b"\x1b[2Jno\n" + b"x" * 10_000),
        (302, {"Location": "http://127.0.0.1:1/"}, b""),
        (410, {}, b"\xff\xfe"),
        (204, {}, b""),
    ],
)
async def test_whatever_a_receiver_answers_is_told_and_changes_nothing(
    api: Api, provider: Answering, status: int, headers: dict[str, str], body: bytes
) -> None:
    provider.answer = lambda _: (status, headers, body)
    await made(api, id="h1", url=provider.url)
    before = rows(api.url, "SELECT w::text FROM webhooks AS w")
    found = await pinged(api)
    assert (found["status"], found["delivered"]) == (status, status == 204)
    assert len(found["answer"]) <= 200
    assert found["answer"].isprintable()
    assert rows(api.url, "SELECT w::text FROM webhooks AS w") == before
    assert len(provider.received) == 1


async def test_a_receiver_that_is_away_hangs_or_is_forbidden(
    api: Api, provider: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(api, id="away", url="http://127.0.0.1:1/")
    assert "ConnectError" in (await pinged(api, "away"))["answer"]
    await made(api, id="inside", url="http://10.0.0.1/")
    assert (await pinged(api, "inside"))["answer"] == "10.0.0.1 is not a public address"
    with psycopg.connect(api.url) as conn:
        conn.execute("UPDATE webhooks SET secret = 'v1.0000.x' WHERE id = 'away'")
    assert "no key" in (await pinged(api, "away"))["answer"]
    monkeypatch.setattr(receivers, "TIMEOUT", 0.2)
    provider.hold.clear()
    await made(api, id="hangs", url=provider.url)
    found = await pinged(api, "hangs")
    assert (found["status"], found["answer"]) == (None, "no answer within 0.2 s")
    assert [each["delivered"] for each in await details(api)] == [False] * 4


async def test_pings_that_hang_leave_places_to_other_tenants(api: Api, provider: Answering) -> None:
    provider.hold.clear()
    for tenant in ("acme", "other"):
        await made(api, tenant, id="h1", url=provider.url)
    path = "/v1/webhooks/h1/ping"
    waiting = [asyncio.create_task(api.client.post(path, headers=api.by(token(api)))) for _ in range(2)]
    await eventually_async(lambda: len(provider.received) == 2)
    refused = await api.client.post(path, headers=api.by(token(api)))
    problem(refused, 429, "too-many-requests")
    assert refused.headers["retry-after"]
    other = asyncio.create_task(api.client.post(path, headers=api.by(token(api, "other"))))
    await eventually_async(lambda: len(provider.received) == 3)
    # What the database alone is asked goes on.
    paused = await api.client.patch("/v1/webhooks/h1", json={"state": "paused"}, headers=api.by(token(api)))
    assert paused.json()["state"] == "paused"
    provider.hold.set()
    assert [(await each).json()["delivered"] for each in (*waiting, other)] == [True] * 3
    assert (await pinged(api))["delivered"]
