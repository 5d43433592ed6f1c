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


def test_an_event_arrives_as_it_is_published_and_signed(hooks: Scene, provider: Answering) -> None:
    secret = hooks.hook("h", provider.url)
    with hooks.working():
        (event_id,) = hooks.happen("a")
        eventually(lambda: provider.received)
    (received,) = provider.received
    with psycopg.connect(hooks.url) as conn:
        (row,) = log.read(conn, 0, 10)
    assert received.body == cloud_event(row)
    assert received.headers["content-type"] == "application/cloudevents+json"
    assert received.headers["webhook-id"] == event_id == json.loads(received.body)["id"]
    assert Webhook(secret).verify(received.body, received.headers) == json.loads(received.body)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(received.body + b" ", received.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(received.body, received.headers)
    assert hooks.deliveries("h") == [(event_id, "delivered", 1, 200, "{}")]
    assert hooks.webhook("h")["pending"] == 0


def test_during_a_rotation_both_secrets_verify(hooks: Scene, provider: Answering) -> None:
    first, second = hooks.hook("h", provider.url), new_secret()
    with psycopg.connect(hooks.url) as conn:
        webhooks.rotate(conn, TENANT, "h", hooks.encrypted("h", second), 3600)
    with hooks.working():
        hooks.happen("a")
        eventually(lambda: len(provider.received) == 1)
        hooks.clock.go(hours=2)
        hooks.happen("a")
        eventually(lambda: len(provider.received) == 2)
    during, afterwards = provider.received
    assert Webhook(first).verify(during.body, during.headers) == Webhook(second).verify(during.body, during.headers)
    assert len(during.headers["webhook-signature"].split(" ")) == 2
    assert len(afterwards.headers["webhook-signature"].split(" ")) == 1
    # Its time is one that the library takes for wrong, so only the signature is compared.
    with pytest.raises(WebhookVerificationError, match="timestamp"):
        Webhook(second).verify(afterwards.body, afterwards.headers)


def test_a_receiver_that_was_down_for_two_days_gets_everything_in_order(hooks: Scene, provider: Answering) -> None:
    working = Answering()
    hooks.hook("down", provider.url)
    hooks.hook("fine", working.url)
    provider.answer = lambda _: (503, {}, b"later")
    sent: list[str] = []
    with hooks.working():
        for hours in range(0, 49, 3):
            sent += [event for activity in ("a", "b", "c") for event in hooks.happen(activity, 2)]
            # Who is fine has it at once, at any time.
            eventually(lambda: sorted(got(working)) == sorted(sent))  # noqa: B023
            assert hooks.webhook("down")["state"] == "active"
            hooks.clock.go(hours=3 if hours < 48 else 0)
        tries = len(provider.received)
        assert 10 < tries < 120
        provider.received.clear()
        provider.answer = lambda _: (200, {}, b"")
        hooks.clock.go(minutes=30)
        eventually(lambda: len(hooks.deliveries("down", "delivered")) == len(sent))
    working.close()
    assert sorted(got(provider)) == sorted(sent)
    assert [event for event, *_ in hooks.deliveries("down")] == sent
    assert all(found == sorted(found) for found in positions(provider).values())
    assert positions(provider).keys() == {"a", "b", "c"}
    assert hooks.webhook("down")["failing_since"] is None
