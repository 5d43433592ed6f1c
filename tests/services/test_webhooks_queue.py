"""The queue of webhooks: what is in it, whose position is where, and what is sent again."""

from __future__ import annotations

import json
import signal

import psycopg
import pytest
from pydantic import SecretStr

from domain.activity import STATUS_CATEGORY
from domain.streams import stream_of
from services.processors.webhook_follower import entity_of
from services.store import webhook_queue, webhooks
from services.store.log import LogRow
from services.store.operations import Operation, record
from tests.eventually import PATIENCE, eventually
from tests.services.answering import Answering
from tests.services.harness import TENANT, rows
from tests.services.processes import nursery
from tests.services.webhook_scene import KEY, Scene, got


def ids(scene: Scene, name: str) -> list[str]:
    """Return the ids of the events that are, or were, in the queue of a webhook."""
    return [row[0] for row in scene.deliveries(name)]


def test_each_webhook_has_what_it_wants_of_its_own_tenant(scene: Scene) -> None:
    scene.hook("all", "https://example.com/")
    scene.hook("a", "https://example.com/", activity=["a"])
    scene.hook("a-or-b", "https://example.com/", activity=["a", "b"], type=["task.created"])
    scene.hook("other-type", "https://example.com/", activity=["a"], type=["task.completed"])
    scene.hook("system", "https://example.com/", member=["system"])
    scene.hook("ann", "https://example.com/", member=["ann"])
    scene.hook("all", "https://example.com/", "other")
    with scene.following():
        of = {name: scene.happen(name, 2) for name in ("a", "b", "c")}
        theirs = scene.happen("a", 1, "other")
        with psycopg.connect(scene.url) as conn:
            record(conn, Operation(TENANT, "cli:root", "key.create", "key/1"))
        scene.queued("a")
    everything = [event for events in of.values() for event in events]
    assert ids(scene, "a") == of["a"]
    assert ids(scene, "a-or-b") == [*of["a"], *of["b"]]
    assert ids(scene, "other-type") == ids(scene, "ann") == []
    assert ids(scene, "system") == everything
    both = "SELECT tenant, event_id FROM webhook_deliveries WHERE webhook = 'all' ORDER BY tenant, position"
    assert rows(scene.url, both) == [*((TENANT, event) for event in everything), ("other", theirs[0])]


def test_what_was_before_a_webhook_is_sent_only_if_it_is_asked_for(scene: Scene) -> None:
    before = scene.happen("a", 3)
    scene.hook("new", "https://example.com/")
    scene.hook("old", "https://example.com/", after=1)
    with scene.following():
        after = scene.happen("a", 2)
        scene.queued("new")
        scene.queued("old")
    assert ids(scene, "new") == after
    assert ids(scene, "old") == [*before[1:], *after]


def test_a_paused_webhook_goes_on_where_it_was_paused(scene: Scene, provider: Answering) -> None:
    scene.hook("h", provider.url)
    with scene.working():
        sent = scene.happen("a", 2)
        eventually(lambda: len(provider.received) == 2)
        with psycopg.connect(scene.url) as conn:
            webhooks.change(conn, TENANT, "h", state="paused")
        sent += scene.happen("a", 2)
        eventually(lambda: scene.webhook("h")["position"] == 2)
        sent += scene.happen("a", 2)
        eventually(lambda: rows(scene.url, "SELECT position FROM followers WHERE name = 'webhooks'")[0][0] == 6)
        assert len(provider.received) == 2
        with psycopg.connect(scene.url) as conn:
            webhooks.change(conn, TENANT, "h", state="active")
        eventually(lambda: len(provider.received) == 6)
        sent += scene.happen("a")
        eventually(lambda: len(provider.received) == 7)
    assert got(provider) == sent


def test_a_full_queue_takes_no_more_and_nothing_is_lost(
    scene: Scene, provider: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_queue, "MAX_PENDING", 10)
    scene.hook("h", provider.url)
    sent: list[str] = []
    with scene.following():
        for end in range(5, 35, 5):
            sent += scene.happen("a", 5)
            followed = "SELECT position FROM followers WHERE name = 'webhooks'"
            eventually(lambda: rows(scene.url, followed)[0][0] == end)  # noqa: B023
        assert scene.webhook("h")["pending"] < 20
        assert scene.webhook("h")["position"] is not None
        with scene.sending():
            eventually(lambda: len(provider.received) == 30)
            scene.queued("h")
            sent += scene.happen("a")
            eventually(lambda: len(provider.received) == 31)
    assert got(provider) == sent
    assert scene.webhook("h")["pending"] == 0


def test_a_replay_sends_again_from_a_position_or_one_delivery(scene: Scene, provider: Answering) -> None:
    scene.hook("h", provider.url)
    with scene.working():
        sent = scene.happen("a", 4)
        eventually(lambda: len(scene.deliveries("h", "delivered")) == 4)
        with psycopg.connect(scene.url) as conn:
            webhooks.replay_from(conn, TENANT, "h", 2)
        eventually(lambda: len(provider.received) == 6)
        eventually(lambda: len(scene.deliveries("h", "delivered")) == 4)
        with psycopg.connect(scene.url) as conn:
            webhooks.replay(conn, TENANT, "h", 1)
        scene.clock.go(minutes=5)
        eventually(lambda: len(provider.received) == 7)
        scene.queued("h")
    assert got(provider) == [*sent, *sent[2:], sent[0]]


def test_what_the_log_does_not_have_is_parked(scene: Scene, provider: Answering) -> None:
    scene.hook("h", provider.url)
    with scene.following():
        scene.happen("a", 2)
        scene.queued("h")
    with psycopg.connect(scene.url) as conn:
        conn.execute("UPDATE webhook_deliveries SET event_id = 'another' WHERE position = 1")
    with scene.sending():
        eventually(lambda: len(scene.deliveries("h", "delivered")) == 1)
    assert scene.deliveries("h", "parked") == [
        ("another", "parked", 1, None, "the log does not have the event any more")
    ]
    assert scene.webhook("h")["state"] == "active"


def test_after_a_restore_the_queue_is_that_of_the_log(scene: Scene) -> None:
    scene.hook("h", "https://example.com/")
    with scene.following():
        scene.happen("a", 4)
        scene.queued("h")
    with psycopg.connect(scene.url) as conn:
        webhooks.forget_after(conn, 2)
    assert len(ids(scene, "h")) == scene.webhook("h")["pending"] == 2
    assert scene.webhook("h")["position"] == 2


def test_old_deliveries_are_pruned(scene: Scene, monkeypatch: pytest.MonkeyPatch, provider: Answering) -> None:
    monkeypatch.setattr(webhook_queue, "KEPT", 3)
    scene.hook("h", provider.url)
    with scene.working():
        sent = scene.happen("a", 5)
        eventually(lambda: len(scene.deliveries("h", "delivered")) == 5)
    with psycopg.connect(scene.url) as conn:
        conn.execute(*webhook_queue.pruned_of(TENANT, "h"))
        conn.commit()
        assert ids(scene, "h") == sent[2:]
        scene.clock.go(days=8)
        conn.execute(*webhook_queue.pruned("parked", scene.clock()))
        conn.commit()
        assert ids(scene, "h") == sent[2:]
        conn.execute(*webhook_queue.pruned("delivered", scene.clock()))
    assert ids(scene, "h") == []


def test_the_status_of_an_activity_is_in_order_with_it(scene: Scene) -> None:
    with psycopg.connect(scene.url) as conn:
        for category in ("activity", STATUS_CATEGORY):
            row = LogRow(1, stream_of(TENANT, category, "a"), 1, "x", b"{}", scene.clock())
            assert entity_of(conn, row) == f"{TENANT}/activity-a"


def test_a_process_killed_between_the_answer_and_the_record_sends_again_under_the_same_id(
    scene: Scene, provider: Answering, amqp_url: str
) -> None:
    scene.hook("h", provider.url)
    (event,) = scene.happen("a")
    env = {
        "database_url": scene.url,
        "amqp_url": amqp_url,
        "secret_key": KEY,
        "dispatch_hosts": "127.0.0.1",
        "test_build": "1",
    }
    with nursery().start("policies", env={**env, "crash_at": "after-delivery"}) as process:
        assert process.wait(PATIENCE) == -signal.SIGKILL
    assert got(provider) == [event]
    assert scene.deliveries("h") == [(event, "pending", 0, None, None)]
    # As if the lease were over.
    with psycopg.connect(scene.url) as conn:
        conn.execute("UPDATE webhook_deliveries SET leased_until = now()")
        conn.execute("UPDATE webhooks SET due_at = now()")
    with nursery().start("policies", env=env):
        eventually(lambda: scene.deliveries("h", "delivered"))
    assert got(provider) == [event, event]
    bodies = {json.dumps(json.loads(each.body)) for each in provider.received}
    assert len(bodies) == 1
    assert SecretStr(KEY).get_secret_value() not in provider.received[0].body.decode()
