"""Webhooks at work: a follower and a sender in threads by a clock that the test moves, and a real receiver."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from pydantic import SecretStr

from domain.streams import stream_of
from domain.task import TaskCreated
from services.encryption import Keyring
from services.processors.receivers import Receivers
from services.processors.webhook_follower import WebhookFollower
from services.processors.webhook_sender import WebhookSender
from services.store import codec, webhooks
from services.store.append import NewEvent, append_in
from services.webhooks import new_secret, place_of
from tests.eventually import PATIENCE, eventually
from tests.services.answering import Answering
from tests.services.harness import TENANT, rows, settings

KEY = base64.b64encode(b"k" * 32).decode()


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def go(self, **ahead: float) -> None:
        """Move the clock ahead."""
        self.now += timedelta(**ahead)


@dataclass
class Scene:
    """A database with webhooks, and what works on it."""

    url: str
    clock: Clock = field(default_factory=Clock)
    versions: dict[str, int] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)

    def hook(self, name: str, url: str, tenant: str = TENANT, after: int | None = None, **wanted: Sequence[str]) -> str:
        """Create a webhook, and return its secret."""
        secret = self.secrets[name] = new_secret()
        text = self.encrypted(name, secret, tenant)
        with psycopg.connect(self.url) as conn:
            webhooks.create(conn, tenant, name, url, wanted, text, "system", after)  # type: ignore[arg-type]
        return secret

    def encrypted(self, name: str, secret: str, tenant: str = TENANT) -> str:
        """Return a secret as it is stored."""
        return Keyring([SecretStr(KEY)]).encrypt(place_of(tenant, name), secret)

    def happen(self, activity: str, count: int = 1, tenant: str = TENANT) -> list[str]:
        """Record so many events of an activity, each of another task, and return their ids."""
        ids = [str(uuid.uuid4()) for _ in range(count)]
        events = []
        for event_id in ids:
            task = f"t-{uuid.uuid4().hex[:12]}"
            meta = codec.Metadata(event_id, event_id, "c", "c", "system", datetime.now(UTC))
            event = TaskCreated(task, activity_id=activity)
            events.append(NewEvent(stream_of(tenant, "task", task), 1, "task.created", event, meta))
        with psycopg.connect(self.url) as conn:
            append_in(conn, events)
        return ids

    @contextmanager
    def following(self) -> Iterator[WebhookFollower]:
        """Queue events in a thread."""
        follower = WebhookFollower(poll=0.05, clock=self.clock)
        with _thread(follower, self.url):
            yield follower

    @contextmanager
    def sending(self, client: Any = None, **given: Any) -> Iterator[WebhookSender]:
        """Deliver in a thread; what cannot be tested by a server of this machine is sent by `client`."""
        known = settings(self.url, "amqp://", secret_key=(SecretStr(KEY),), dispatch_hosts=("127.0.0.1",))
        sender = WebhookSender(lambda: client or Receivers(known), poll=0.02, clock=self.clock, **given)
        with _thread(sender, self.url):
            yield sender

    @contextmanager
    def working(self, **given: Any) -> Iterator[WebhookSender]:
        """Queue and deliver."""
        with self.following(), self.sending(**given) as sender:
            yield sender

    def deliveries(self, name: str, state: str = "%") -> list[tuple[Any, ...]]:
        """Return (event id, state, attempts, status, answer) of the deliveries of a webhook in the order of the log."""
        return rows(
            self.url,
            "SELECT event_id, state, attempts, status, answer FROM webhook_deliveries"
            " WHERE webhook = %s AND state LIKE %s ORDER BY position",
            name,
            state,
        )

    def webhook(self, name: str) -> Mapping[str, Any]:
        """Return the row of a webhook."""
        with psycopg.connect(self.url) as conn:
            found = conn.execute("SELECT to_jsonb(w) FROM webhooks AS w WHERE id = %s", (name,)).fetchone()
        assert found is not None
        return dict(found[0])

    def queued(self, name: str) -> None:
        """Wait until everything that is in the log is queued for a webhook."""

        def done() -> None:
            head = rows(self.url, "SELECT coalesce(max(notification_id), 0) FROM stored_events")[0][0]
            followed = rows(self.url, "SELECT position FROM followers WHERE name = 'webhooks'")[0][0]
            assert followed == head
            assert self.webhook(name)["position"] is None

        eventually(done)


def got(receiver: Answering) -> list[str]:
    """Return the ids of the events that a receiver was sent, in order."""
    return [each.headers["webhook-id"] for each in receiver.received]


def positions(receiver: Answering) -> dict[str, list[int]]:
    """Return the positions that a receiver was sent of each activity, in order."""
    found: dict[str, list[int]] = {}
    for each in receiver.received:
        event = json.loads(each.body)
        found.setdefault(event["data"]["activity_id"], []).append(event["position"])
    return found


@contextmanager
def _thread(worker: Any, url: str) -> Iterator[None]:
    thread = threading.Thread(target=worker.run, args=(url,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()
