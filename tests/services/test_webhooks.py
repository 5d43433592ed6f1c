"""Webhooks: everything arrives, in order, signed, at those who want it, whatever happens to receivers and senders."""

from __future__ import annotations

import json

import psycopg
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from services.cloud_events import cloud_event
from services.store import log, webhooks
from services.webhooks import new_secret
from tests.eventually import eventually
from tests.services.answering import Answering
from tests.services.harness import TENANT
from tests.services.webhook_scene import Scene, got, positions


def test_an_event_arrives_as_it_is_published_and_signed(scene: Scene, provider: Answering) -> None:
    secret = scene.hook("h", provider.url)
    with scene.working():
        (event_id,) = scene.happen("a")
        eventually(lambda: provider.received)
    (received,) = provider.received
    with psycopg.connect(scene.url) as conn:
        (row,) = log.read(conn, 0, 10)
    assert received.body == cloud_event(row)
    assert received.headers["content-type"] == "application/cloudevents+json"
    assert received.headers["webhook-id"] == event_id == json.loads(received.body)["id"]
    assert Webhook(secret).verify(received.body, received.headers) == json.loads(received.body)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(received.body + b" ", received.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(received.body, received.headers)
    assert scene.deliveries("h") == [(event_id, "delivered", 1, 200, "{}")]
    assert scene.webhook("h")["pending"] == 0


def test_during_a_rotation_both_secrets_verify(scene: Scene, provider: Answering) -> None:
    first, second = scene.hook("h", provider.url), new_secret()
    with psycopg.connect(scene.url) as conn:
        webhooks.rotate(conn, TENANT, "h", scene.encrypted("h", second), 3600)
    with scene.working():
        scene.happen("a")
        eventually(lambda: len(provider.received) == 1)
        scene.clock.go(hours=2)
        scene.happen("a")
        eventually(lambda: len(provider.received) == 2)
    during, afterwards = provider.received
    assert Webhook(first).verify(during.body, during.headers) == Webhook(second).verify(during.body, during.headers)
    assert len(during.headers["webhook-signature"].split(" ")) == 2
    assert len(afterwards.headers["webhook-signature"].split(" ")) == 1
    # Its time is one that the library takes for wrong, so only the signature is compared.
    with pytest.raises(WebhookVerificationError, match="timestamp"):
        Webhook(second).verify(afterwards.body, afterwards.headers)


def test_a_receiver_that_was_down_for_two_days_gets_everything_in_order(scene: Scene, provider: Answering) -> None:
    working = Answering()
    scene.hook("down", provider.url)
    scene.hook("fine", working.url)
    provider.answer = lambda _: (503, {}, b"later")
    sent: list[str] = []
    with scene.working():
        for hours in range(0, 49, 3):
            sent += [event for activity in ("a", "b", "c") for event in scene.happen(activity, 2)]
            # Who is fine has it at once, at any time.
            eventually(lambda: sorted(got(working)) == sorted(sent))  # noqa: B023
            assert scene.webhook("down")["state"] == "active"
            scene.clock.go(hours=3 if hours < 48 else 0)
        tries = len(provider.received)
        assert 10 < tries < 120
        provider.received.clear()
        provider.answer = lambda _: (200, {}, b"")
        scene.clock.go(minutes=30)
        eventually(lambda: len(scene.deliveries("down", "delivered")) == len(sent))
    working.close()
    assert sorted(got(provider)) == sorted(sent)
    assert [event for event, *_ in scene.deliveries("down")] == sent
    assert all(found == sorted(found) for found in positions(provider).values())
    assert positions(provider).keys() == {"a", "b", "c"}
    assert scene.webhook("down")["failing_since"] is None
