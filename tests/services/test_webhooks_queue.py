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


def ids(hooks: Scene, name: str) -> list[str]:
    """Return the ids of the events that are, or were, in the queue of a webhook."""
    return [row[0] for row in hooks.deliveries(name)]


def test_each_webhook_has_what_it_wants_of_its_own_tenant(hooks: Scene) -> None:
    hooks.hook("all", "https://example.com/")
    hooks.hook("a", "https://example.com/", activity=["a"])
    hooks.hook("a-or-b", "https://example.com/", activity=["a", "b"], type=["task.created"])
    hooks.hook("other-type", "https://example.com/", activity=["a"], type=["task.completed"])
    hooks.hook("system", "https://example.com/", member=["system"])
    hooks.hook("ann", "https://example.com/", member=["ann"])
    hooks.hook("all", "https://example.com/", "other")
    with hooks.following():
        of = {name: hooks.happen(name, 2) for name in ("a", "b", "c")}
        theirs = hooks.happen("a", 1, "other")
        with psycopg.connect(hooks.url) as conn:
            record(conn, Operation(TENANT, "cli:root", "key.create", "key/1"))
        for name in ("all", "a", "a-or-b", "other-type", "system", "ann"):
            hooks.queued(name)
    everything = [event for events in of.values() for event in events]
    assert ids(hooks, "a") == of["a"]
    assert ids(hooks, "a-or-b") == [*of["a"], *of["b"]]
    assert ids(hooks, "other-type") == ids(hooks, "ann") == []
    assert ids(hooks, "system") == everything
    both = "SELECT tenant, event_id FROM webhook_deliveries WHERE webhook = 'all' ORDER BY tenant, position"
    assert rows(hooks.url, both) == [*((TENANT, event) for event in everything), ("other", theirs[0])]


def test_what_was_before_a_webhook_is_sent_only_if_it_is_asked_for(hooks: Scene) -> None:
    before = hooks.happen("a", 3)
    hooks.hook("new", "https://example.com/")
    hooks.hook("old", "https://example.com/", after=1)
    with hooks.following():
        after = hooks.happen("a", 2)
        hooks.queued("new")
        hooks.queued("old")
    assert ids(hooks, "new") == after
    assert ids(hooks, "old") == [*before[1:], *after]


def test_a_paused_webhook_goes_on_where_it_was_paused(hooks: Scene, provider: Answering) -> None:
    hooks.hook("h", provider.url)
    with hooks.working():
        sent = hooks.happen("a", 2)
        eventually(lambda: len(provider.received) == 2)
        with psycopg.connect(hooks.url) as conn:
            webhooks.change(conn, TENANT, "h", state="paused")
        sent += hooks.happen("a", 2)
        eventually(lambda: hooks.webhook("h")["position"] == 2)
        sent += hooks.happen("a", 2)
        eventually(lambda: rows(hooks.url, "SELECT position FROM followers WHERE name = 'webhooks'")[0][0] == 6)
        assert len(provider.received) == 2
        with psycopg.connect(hooks.url) as conn:
            webhooks.change(conn, TENANT, "h", state="active")
        eventually(lambda: len(provider.received) == 6)
        sent += hooks.happen("a")
        eventually(lambda: len(provider.received) == 7)
    assert got(provider) == sent


def test_a_full_queue_takes_no_more_and_nothing_is_lost(
    hooks: Scene, provider: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_queue, "MAX_PENDING", 10)
    hooks.hook("h", provider.url)
    sent: list[str] = []
    with hooks.following():
        for end in range(5, 35, 5):
            sent += hooks.happen("a", 5)
            followed = "SELECT position FROM followers WHERE name = 'webhooks'"
            eventually(lambda: rows(hooks.url, followed)[0][0] == end)  # noqa: B023
        assert hooks.webhook("h")["pending"] < 20
        assert hooks.webhook("h")["position"] is not None
        with hooks.sending():
            eventually(lambda: len(provider.received) == 30)
            hooks.queued("h")
            sent += hooks.happen("a")
            eventually(lambda: len(provider.received) == 31)
    assert got(provider) == sent
    assert hooks.webhook("h")["pending"] == 0


def test_a_replay_sends_again_from_a_position_or_one_delivery(hooks: Scene, provider: Answering) -> None:
    hooks.hook("h", provider.url)
    with hooks.working():
        sent = hooks.happen("a", 4)
        eventually(lambda: len(hooks.deliveries("h", "delivered")) == 4)
        with psycopg.connect(hooks.url) as conn:
            webhooks.replay_from(conn, TENANT, "h", 2)
        eventually(lambda: len(provider.received) == 6)
        eventually(lambda: len(hooks.deliveries("h", "delivered")) == 4)
        with psycopg.connect(hooks.url) as conn:
            webhooks.replay(conn, TENANT, "h", 1)
        hooks.clock.go(minutes=5)
        eventually(lambda: len(provider.received) == 7)
        hooks.queued("h")
    assert got(provider) == [*sent, *sent[2:], sent[0]]


def test_what_the_log_does_not_have_is_parked(hooks: Scene, provider: Answering) -> None:
    hooks.hook("h", provider.url)
    with hooks.following():
        hooks.happen("a", 2)
        hooks.queued("h")
    with psycopg.connect(hooks.url) as conn:
        conn.execute("UPDATE webhook_deliveries SET event_id = 'another' WHERE position = 1")
    with hooks.sending():
        eventually(lambda: len(hooks.deliveries("h", "delivered")) == 1)
    assert hooks.deliveries("h", "parked") == [
        ("another", "parked", 1, None, "the log does not have the event any more")
    ]
    assert hooks.webhook("h")["state"] == "active"


def test_after_a_restore_the_queue_is_that_of_the_log(hooks: Scene) -> None:
    hooks.hook("h", "https://example.com/")
    with hooks.following():
        hooks.happen("a", 4)
        hooks.queued("h")
    with psycopg.connect(hooks.url) as conn:
        webhooks.forget_after(conn, 2)
    assert len(ids(hooks, "h")) == hooks.webhook("h")["pending"] == 2
    assert hooks.webhook("h")["position"] == 2


def test_old_deliveries_are_pruned(hooks: Scene, monkeypatch: pytest.MonkeyPatch, provider: Answering) -> None:
    monkeypatch.setattr(webhook_queue, "KEPT", 3)
    hooks.hook("h", provider.url)
    with hooks.working():
        sent = hooks.happen("a", 5)
        eventually(lambda: len(hooks.deliveries("h", "delivered")) == 5)
    with psycopg.connect(hooks.url) as conn:
        conn.execute(*webhook_queue.pruned_of(TENANT, "h"))
        conn.commit()
        assert ids(hooks, "h") == sent[2:]
        hooks.clock.go(days=8)
        conn.execute(*webhook_queue.pruned("parked", hooks.clock()))
        conn.commit()
        assert ids(hooks, "h") == sent[2:]
        conn.execute(*webhook_queue.pruned("delivered", hooks.clock()))
    assert ids(hooks, "h") == []


def test_the_status_of_an_activity_is_in_order_with_it(hooks: Scene) -> None:
    with psycopg.connect(hooks.url) as conn:
        for category in ("activity", STATUS_CATEGORY):
            row = LogRow(1, stream_of(TENANT, category, "a"), 1, "x", b"{}", hooks.clock())
            assert entity_of(conn, row) == f"{TENANT}/activity-a"


def test_a_process_killed_between_the_answer_and_the_record_sends_again_under_the_same_id(
    hooks: Scene, provider: Answering, amqp_url: str
) -> None:
    hooks.hook("h", provider.url)
    (event,) = hooks.happen("a")
    env = {
        "database_url": hooks.url,
        "amqp_url": amqp_url,
        "secret_key": KEY,
        "dispatch_hosts": "127.0.0.1",
        "test_build": "1",
    }
    with nursery().start("policies", env={**env, "crash_at": "after-delivery"}) as process:
        assert process.wait(PATIENCE) == -signal.SIGKILL
    assert got(provider) == [event]
    assert hooks.deliveries("h") == [(event, "pending", 0, None, None)]
    # As if the lease were over.
    with psycopg.connect(hooks.url) as conn:
        conn.execute("UPDATE webhook_deliveries SET leased_until = now()")
        conn.execute("UPDATE webhooks SET due_at = now()")
    with nursery().start("policies", env=env):
        eventually(lambda: hooks.deliveries("h", "delivered"))
    assert got(provider) == [event, event]
    bodies = {json.dumps(json.loads(each.body)) for each in provider.received}
    assert len(bodies) == 1
    assert SecretStr(KEY).get_secret_value() not in provider.received[0].body.decode()
