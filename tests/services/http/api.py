"""The HTTP process in a test: a real database, the real worker in this process, and switches for what may be away.

Nothing here decides for the service: commands go through the worker, views through the read models' own folds.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import httpx
import msgspec
import psycopg
import uuid_utils
from pydantic import SecretStr

import projections
from services import keys
from services.broker.command_queue import BrokerAway, Counts
from services.broker.sender import NotSent, Outgoing
from services.commands import wire
from services.commands.wire import Reply
from services.commands.worker import Worker
from services.http.core.app import Application, create_app
from services.http.core.kept import Kept
from services.http.core.positions import Positions
from services.settings import Settings
from services.store import log
from services.store.event_store import EventStore
from services.store.pool import Pool
from tests.databases import Databases, shared_session
from tests.eventually import PATIENCE

NOW = datetime(2025, 10, 31, 1, 50, tzinfo=UTC)
LIMIT = 1 << 20
BRIEF = 0.2
# What credentials are encrypted with.
KEY = base64.b64encode(b"k" * 32).decode()


class InProcess:
    """Takes commands as the broker does, and answers as the workers do, or does not.

    `stopped`: what is sent waits, unanswered, for `catch_up`. `unreachable`: nothing is taken. `late`: read models that
    do not follow. `held`: ids of entities that they hold back. What is sent at the same time is one batch, as it is for
    the workers.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._store: EventStore | None = None
        self.numbered = 0
        self.sent: list[Outgoing] = []
        self.waiting: list[Outgoing] = []
        self.batches: list[int] = []
        self._arrived: list[tuple[Outgoing, asyncio.Future[Reply]]] = []
        self._working: asyncio.Task[None] | None = None
        # A batch that nobody waits for must not meet a command that sets a scene.
        self._one_at_a_time = threading.Lock()
        self._in_session = threading.Lock()
        # The workers' clock; that of the HTTP process stands still.
        self.now = NOW
        self.stopped = False
        self.unreachable = False
        self.blocked: str | None = None
        self.unanswered: float | None = None
        self.late: set[str] = set()
        self.held: set[str] = set()

    @property
    def ready(self) -> bool:
        return not self.unreachable

    async def start(self) -> None:
        if self.unreachable:
            raise ConnectionError("no broker")

    async def close(self) -> None:
        if self._working is not None:
            await self._working
        if self._store is not None:
            self._store.close()
            self._store = None

    @contextmanager
    def session(self) -> Iterator[psycopg.Connection[Any]]:
        """Give a transaction of the session for what is done beside the service."""
        with self._in_session:
            session = shared_session(self._url)
            with session.transaction():
                yield session

    async def send(self, outgoing: Outgoing, timeout: float, *, wait: bool = True) -> Reply | None:
        if self.unreachable:
            raise NotSent("no broker")
        self.sent.append(outgoing)
        if self.stopped:
            self.waiting.append(outgoing)
            return None
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._arrived.append((outgoing, answer))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work_off())
        return await answer if wait else None

    async def _work_off(self) -> None:
        while self._arrived:
            batch, self._arrived = self._arrived, []
            self.batches.append(len(batch))
            try:
                replies = await asyncio.to_thread(self.work, [outgoing for outgoing, _ in batch])
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
            else:
                for (_, answer), reply in zip(batch, replies, strict=True):
                    if not answer.done():
                        answer.set_result(reply)

    async def catch_up(self) -> list[Reply]:
        """Start the worker again: it runs all that waits."""
        waiting, self.waiting, self.stopped = self.waiting, [], False
        return await asyncio.to_thread(self.work, waiting)

    def work(self, batch: list[Outgoing]) -> list[Reply]:
        """Decide and record, then let the read models follow."""
        with self._one_at_a_time:
            return self._work(batch)

    def _work(self, batch: list[Outgoing]) -> list[Reply]:
        if self._store is None:
            self._store = EventStore(self._url)
        worker = Worker(self._store, lambda: self.now, lambda: str(uuid_utils.uuid7()), self._number)
        outcomes = worker.run([incoming(outgoing) for outgoing in batch])
        for outcome in outcomes:
            if outcome.failure is not None:
                raise outcome.failure
        replies = [outcome.reply for outcome in outcomes if outcome.reply is not None]
        if any(reply.events for reply in replies):
            self.follow()
        return replies

    def _number(self) -> int:
        self.numbered += 1
        return 1000 + self.numbered

    def follow(self) -> None:
        """Bring every read model that is not late to the log's end."""
        with self.session() as conn:
            for model in projections.READ_MODELS:
                if model.NAME in self.late:
                    continue
                suffix = projections.suffix(model)
                name = f"{model.NAME}_{suffix}"
                row = conn.execute("SELECT position FROM followers WHERE name = %s", (name,)).fetchone()
                assert row is not None
                rows = log.read(conn, row[0], 100_000)
                events = [found.recorded() for found in rows if found.name in model.EVENTS]
                events = [event for event in events if event.entity_id not in self.held]
                model.projection(suffix).project(conn, events)
                if rows:
                    conn.execute("UPDATE followers SET position = %s WHERE name = %s", (rows[-1].position, name))


def incoming(outgoing: Outgoing) -> wire.Incoming:
    """Return a command as a worker reads it; raises `InvalidMessage` for what it would dead-letter."""
    properties = SimpleNamespace(
        message_id=outgoing.command_id,
        message_type=outgoing.type,
        headers=outgoing.headers(),
        reply_to=None,
        correlation_id=None,
        user_id=None,
    )
    return wire.parse(properties, outgoing.body, LIMIT)


@dataclass(slots=True)
class Queue:
    """The commands' queue as readiness sees it."""

    count: int = 1
    waiting: int = 0
    dead: int = 0
    away: bool = False

    async def counts(self) -> Counts:
        if self.away:
            raise BrokerAway("ConnectionError")
        return Counts(self.count, self.waiting, self.dead)

    async def close(self) -> None:
        """Nothing is open."""


class Followed(Positions):
    """Waits briefly for a read model that a test keeps from following, and with patience for any other."""

    def __init__(self, database: Pool, *, late: Callable[[], set[str]]) -> None:
        super().__init__(database)
        self._late = late

    async def reached(self, models: Iterable[str], position: int, timeout: float) -> bool:
        models = tuple(models)
        return await super().reached(models, position, min(timeout, BRIEF) if self._late() & {*models} else timeout)


@dataclass(slots=True)
class Api:
    """One HTTP process, and what a test needs around it."""

    url: str
    app: Application
    sender: InProcess
    queue: Queue
    client: httpx.AsyncClient
    tokens: dict[str, str] = field(default_factory=dict)

    def key(self, tenant: str = "acme", actor: str = "system", *permissions: str) -> str:
        """Return a token."""
        with self.sender.session() as conn:
            _, token = keys.create(conn, tenant, actor, permissions or ("read", "write"))
        return token

    def by(self, token: str | None = None) -> dict[str, str]:
        """Return the headers of a caller; by default of `acme`'s system."""
        if token is None:
            token = self.tokens.get("acme") or self.tokens.setdefault("acme", self.key())
        return {"Authorization": f"Bearer {token}"}

    def command(self, name: str, data: Mapping[str, Any], tenant: str = "acme", actor: str = "system") -> Reply:
        """Run a command that sets a scene; a refused one fails the test."""
        (reply,) = self.sender.work([Outgoing(name, msgspec.json.encode(data), tenant, actor=actor)])
        assert reply.accepted, reply
        return reply

    async def get(self, path: str, token: str | None = None, **rest: Any) -> httpx.Response:
        return await self.client.get(path, headers={**self.by(token), **rest.pop("headers", {})}, **rest)

    async def post(self, path: str, body: Any, token: str | None = None, **rest: Any) -> httpx.Response:
        return await self.client.post(path, json=body, headers={**self.by(token), **rest.pop("headers", {})}, **rest)


def settings_for(database_url: str, **given: Any) -> Settings:
    """Return settings that wait with patience."""
    values = {
        "amqp_url": "amqp://127.0.0.1:1/none",
        "reply_timeout": PATIENCE,
        "view_timeout": PATIENCE,
        "secret_key": KEY,
        "http_body_limit": 64 << 10,
        **given,
    }
    return Settings(**values, database_url=SecretStr(database_url))


@asynccontextmanager
async def opened(
    database_url: str, *, streams: bool = False, clock: Callable[[], datetime] = lambda: NOW, **given: Any
) -> AsyncIterator[Api]:
    """Run the HTTP process on a database.

    Its client gives no answer before that has ended, so streams end at once unless they are asked for.
    """
    sender, queue = InProcess(database_url), Queue()
    with patch("services.http.core.service.Positions", partial(Followed, late=lambda: sender.late)):
        app = create_app(settings_for(database_url, **given), sender, queue, clock=clock)
    # Figures that are kept would be those of the test before.
    with patch.object(Kept, "seconds", 0.0):
        async with app.router.lifespan_context(app):
            if not streams:
                app.end_streams()
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://foldwork.test") as client:
                yield Api(database_url, app, sender, queue, client)


# Scenes.

Scene = Callable[[Api], None]
# What a scene leaves in the process besides rows: the tokens, the clock, and how many numbers were drawn.
_left: dict[Scene, tuple[dict[str, str], datetime, int]] = {}


def play(scene: Scene, api: Api, databases: Databases) -> None:
    """Set a scene; its commands run once in a test process, and its rows are copied for each further test."""
    if databases.furnish(api.url, scene, lambda: scene(api)):
        _left[scene] = dict(api.tokens), api.sender.now, api.sender.numbered
    else:
        tokens, api.sender.now, api.sender.numbered = _left[scene]
        api.tokens.update(tokens)


WORKFLOW = {"id": "w1", "name": "Pickup to Delivery", "steps": [{"name": "Pickup"}, {"name": "Delivery"}]}


def with_workflow(api: Api, tenant: str = "acme", **rest: Any) -> None:
    """Define a workflow of two steps."""
    api.command("workflow.define", {**WORKFLOW, **rest}, tenant)


def with_activity(api: Api, activity_id: str = "a1", tenant: str = "acme", **rest: Any) -> Reply:
    """Create an activity of that workflow, with tasks `<id>-t1` and `<id>-t2`."""
    tasks = [{"id": f"{activity_id}-t1", "assignees": ["ann@example.com"]}, {"id": f"{activity_id}-t2"}]
    return api.command("activity.create", {"id": activity_id, "workflow_id": "w1", "tasks": tasks, **rest}, tenant)


def problem(response: httpx.Response, status: int, code: str, **rest: Any) -> None:
    """Expect problem details."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["type"] == f"urn:foldwork:problem:{code}"
    assert body["title"]
    assert body["detail"]
    for name, value in rest.items():
        assert body.get(name) == value, body
    assert response.headers["x-request-id"]


def field_failure(response: httpx.Response, status: int, code: str) -> str:
    """Expect the field dialect's envelope, and return its message."""
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["status", "message", "failedCode"]
    assert body["status"] is False
    assert body["failedCode"] == code
    message: str = body["message"]
    assert message
    return message
