"""Webhooks whose receivers refuse, hang, flood, redirect or are not there; and who is not disturbed by that."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import psycopg
import pytest
from pydantic import SecretStr

from services.processors import receivers
from services.processors.receivers import Delivered, Delivery, Receivers
from services.store import webhooks
from tests.eventually import eventually
from tests.services.answering import Answering
from tests.services.harness import TENANT, rows, settings
from tests.services.webhook_scene import KEY, Scene, got


class Fake:
    """Takes the receivers' place: `answer` says what comes of a delivery."""

    def __init__(self, answer: Any) -> None:
        self.sent: list[Delivery] = []
        self.answer = answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def send(self, delivery: Delivery) -> Delivered:
        """Note the delivery, and answer as the test says."""
        self.sent.append(delivery)
        found = self.answer(delivery)
        return found if isinstance(found, Delivered) else await found


def test_an_event_that_is_refused_holds_up_its_activity_alone_and_is_parked(hooks: Scene) -> None:
    hooks.hook("h", "https://example.com/")
    (bad,) = hooks.happen("a")
    refused = {bad}
    client = Fake(lambda each: Delivered(400 if each.event_id in refused else 200, "no" * 500))
    with psycopg.connect(hooks.url) as conn:
        webhooks.replay_from(conn, TENANT, "h", 0)
    with hooks.working(client=client):
        behind = hooks.happen("a", 2)
        others = hooks.happen("b", 3)
        eventually(lambda: [row[0] for row in hooks.deliveries("h", "delivered")] == others)
        eventually(lambda: [attempts for _, _, attempts, *_ in hooks.deliveries("h", "pending")][:1] == [1])
        assert [row[0] for row in hooks.deliveries("h", "pending")] == [bad, *behind]
        for _ in range(3):
            tries = len([each for each in client.sent if each.event_id == bad])
            # The next attempt is counted from when this one was noted.
            eventually(lambda: (bad, tries) in [(row[0], row[2]) for row in hooks.deliveries("h", "pending")])  # noqa: B023
            hooks.clock.go(days=1)
            eventually(lambda: len([each for each in client.sent if each.event_id == bad]) > tries)  # noqa: B023
        # What is given up is waited for no longer, and the webhook goes on.
        eventually(lambda: [row[0] for row in hooks.deliveries("h", "delivered")] == [*behind, *others])
        ((event, state, attempts, status, _),) = hooks.deliveries("h", "parked")
        assert (event, state, attempts, status) == (bad, "parked", 4, 400)
        assert hooks.webhook("h")["state"] == "active"
        assert hooks.webhook("h")["failing_since"] is None
        refused.clear()
        with psycopg.connect(hooks.url) as conn:
            webhooks.replay(conn, TENANT, "h", 1)
        eventually(lambda: not hooks.deliveries("h", "parked"))
        eventually(lambda: len(hooks.deliveries("h", "delivered")) == 6)
    assert hooks.webhook("h")["pending"] == 0


def test_a_receiver_that_is_away_is_tried_by_one_delivery_at_a_time_and_disabled_after_three_days(
    hooks: Scene,
) -> None:
    hooks.hook("h", "https://example.com/")
    client = Fake(lambda _: Delivered(None, "no answer"))
    with hooks.working(client=client):
        for activity in "abcdefghij":
            hooks.happen(activity)
        hooks.queued("h")
        eventually(lambda: hooks.webhook("h")["probes"] == 1)
        # Those that were under way when the first one failed say nothing new.
        first = len(client.sent)
        assert first <= 10
        for step in range(1, 5):
            hooks.clock.go(hours=1)
            eventually(lambda: hooks.webhook("h")["probes"] == 1 + step)  # noqa: B023
            assert len(client.sent) == first + step
        hooks.clock.go(days=3)
        eventually(lambda: hooks.webhook("h")["state"] == "disabled")
        assert "3 days: no answer" in hooks.webhook("h")["cause"]
        assert len(hooks.deliveries("h", "pending")) == 10
        count = len(client.sent)
        hooks.happen("z")
        eventually(lambda: hooks.webhook("h")["position"] is not None)
        client.answer = lambda _: Delivered(204, "")
        hooks.clock.go(days=1)
        assert len(client.sent) == count
        with psycopg.connect(hooks.url) as conn:
            webhooks.change(conn, TENANT, "h", state="active")
        eventually(lambda: len(hooks.deliveries("h", "delivered")) == 11)
    assert [each.event_id for each in client.sent[count:]] == sorted(
        [each.event_id for each in client.sent[count:]],
        key=[row[0] for row in hooks.deliveries("h")].index,
    )


def test_a_receiver_that_is_gone_is_sent_nothing_more(hooks: Scene, provider: Answering) -> None:
    hooks.hook("h", provider.url)
    provider.answer = lambda _: (410, {}, b"gone")
    with hooks.working():
        hooks.happen("a", 3)
        eventually(lambda: hooks.webhook("h")["state"] == "disabled")
        hooks.clock.go(days=1)
        hooks.happen("b")
        hooks.hook("other", provider.url)
        eventually(lambda: rows(hooks.url, "SELECT position FROM followers WHERE name = 'webhooks'")[0][0] == 4)
    assert len(provider.received) == 1


def test_a_receiver_that_hangs_holds_up_nobody_else(hooks: Scene) -> None:
    hanging: list[Delivery] = []
    release = asyncio.Event()

    async def hang() -> Delivered:
        await release.wait()
        return Delivered(None, "no answer")

    def answer(each: Delivery) -> Any:
        if each.webhook.startswith("slow"):
            hanging.append(each)
            return hang()
        return Delivered(200, "")

    for number in range(5):
        hooks.hook(f"slow{number}", "https://example.com/")
    hooks.hook("fine", "https://example.com/")
    hooks.hook("theirs", "https://example.com/", "other")
    with hooks.working(client=Fake(answer)):
        for activity in "abcdefghijklmnop":
            hooks.happen(activity)
        hooks.happen("a", 5, "other")
        eventually(lambda: len(hooks.deliveries("theirs", "delivered")) == 5)
        # The tenant's calls are taken by those that hang, until these are known not to work.
        eventually(lambda: hanging)
        release.set()
        eventually(lambda: len(hooks.deliveries("fine", "delivered")) == 16)
        assert hooks.webhook("slow0")["failures"] >= 0


def test_what_a_receiver_answers_is_cut_and_no_redirect_is_followed(hooks: Scene, provider: Answering) -> None:
    other = Answering()
    hooks.hook("flood", provider.url)
    provider.answer = lambda _: (200, {}, b"x" * (64 << 20))
    with hooks.working():
        hooks.happen("a")
        eventually(lambda: hooks.deliveries("flood", "delivered"))
        assert hooks.deliveries("flood")[0][4] == "x" * 200
        provider.answer = lambda _: (302, {"Location": other.url}, b"\x00there\xff")
        (event,) = hooks.happen("a")
        eventually(lambda: [attempts for _, _, attempts, *_ in hooks.deliveries("flood", "pending")] == [1])
        assert hooks.deliveries("flood", "pending") == [(event, "pending", 1, 302, "there\ufffd")]
    assert other.received == []
    other.close()


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("https://169.254.169.254/latest", "not a public address"),
        ("https://[::1]:9/", "not a public address"),
        ("https://localhost:9/", "not a public address"),
        ("http://93.184.216.34/", "must use https"),
        ("https://user:word@example.com/", "must be an http"),
        ("ftp://example.com/", "must be an http"),
        ("https://no-such-host.invalid/", "cannot be resolved"),
    ],
)
async def test_no_request_is_made_to_an_address_that_is_not_allowed(url: str, cause: str) -> None:
    made = Scene("").encrypted("h", "whsec_" + "A" * 40)
    known = settings("postgresql://", "amqp://", secret_key=(SecretStr(KEY),))
    async with Receivers(known) as client:
        found = await client.send(Delivery(TENANT, "h", url, [made], "e", 1, b"{}"))
    assert found.status is None
    assert cause in found.answer


async def test_a_receiver_that_says_nothing_is_given_up(provider: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "TIMEOUT", 0.2)
    provider.hold.clear()
    known = settings("postgresql://", "amqp://", secret_key=(SecretStr(KEY),), dispatch_hosts=("127.0.0.1",))
    async with Receivers(known) as client:
        made = Scene("").encrypted("h", "whsec_" + "A" * 40)
        sent = Delivery(TENANT, "h", provider.url, [made], "e", 1, b"{}")
        assert await client.send(sent) == Delivered(None, "no answer within 0.2 s")
        # A secret of another webhook signs nothing.
        provider.hold.set()
        assert "decrypted" in (await client.send(sent._replace(webhook="other"))).answer
    assert got(provider) == ["e"]
