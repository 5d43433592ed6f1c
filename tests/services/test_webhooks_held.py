"""Webhooks and events that the follower cannot take: they are held back, and sent when they can be taken."""

from __future__ import annotations

import psycopg
import pytest

from services.processors import webhook_follower
from services.store import held
from services.store.log import LogRow
from tests.eventually import eventually
from tests.services.harness import rows
from tests.services.webhook_scene import Scene


def test_an_event_that_cannot_be_taken_is_queued_in_order_later(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(migrated_url)
    scene.hook("h", "https://example.com/", activity=["a", "b"])
    subject = webhook_follower.Subject

    def failing(row: LogRow) -> webhook_follower.Subject:
        if row.position == 1:
            raise ValueError("it cannot be read")
        return subject(row)

    monkeypatch.setattr(webhook_follower, "Subject", failing)
    with scene.following():
        bad = scene.happen("a", 2)
        fine = scene.happen("b", 2)
        eventually(lambda: [row[0] for row in scene.deliveries("h")] == fine)
        assert rows(scene.url, "SELECT entity FROM held_entities WHERE follower = 'webhooks'") == [("acme/activity-a",)]
        # One that reads the same from the log passes it as well.
        scene.hook("late", "https://example.com/", after=0, activity=["a", "b"])
        scene.queued("late")
        assert [row[0] for row in scene.deliveries("late")] == fine
        monkeypatch.setattr(webhook_follower, "Subject", subject)
        with psycopg.connect(scene.url) as conn:
            held.retry_now(conn, "webhooks")
        scene.happen("c")
        for name in ("h", "late"):
            eventually(lambda: [row[0] for row in scene.deliveries(name)] == [*bad, *fine])  # noqa: B023
