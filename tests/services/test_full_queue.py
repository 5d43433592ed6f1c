"""A queue of commands that is full: whoever sends a command is told at once that it was not taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from services import keys
from services.broker.names import COMMAND_QUEUE
from services.broker.publisher import Publisher, command_sender
from services.broker.sender import Outgoing
from services.http.core.app import create_app
from services.store.failures import OutsideUnavailable
from tests.brokers import BrokerInThread
from tests.eventually import eventually_async
from tests.services.harness import TENANT, declare, settings, waiting, working
from tests.services.processes import nursery


@pytest.fixture
def limited() -> Iterator[BrokerInThread]:
    """A development broker of the test's own."""
    broker = BrokerInThread()
    yield broker
    broker.close()


@pytest.fixture
async def full(limited: BrokerInThread) -> str:
    """The URL of a virtual host whose queue of commands takes none."""
    url = limited.virtual_host()
    await declare(url)
    limited.limit(url, COMMAND_QUEUE, 0)
    return url


@asynccontextmanager
async def client(database_url: str, amqp_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the API with its real sender."""
    with psycopg.connect(database_url) as conn:
        _, token = keys.create(conn, TENANT)
    app = create_app(settings(database_url, amqp_url))
    async with app.router.lifespan_context(app):
        transport, headers = httpx.ASGITransport(app), {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://foldwork.test", headers=headers) as asking:

            async def connected() -> None:
                assert (await asking.get("/readyz")).json()["sender"]["status"] == "ready"

            await eventually_async(connected)
            yield asking


WRITES: dict[str, Any] = {
    "/v1/commands": {"type": "task.create", "data": {"id": "t1", "title": "x"}},
    "/v1/directory/hub": {"id": "h1", "fields": {"name": "North"}},
    "/api/v3/hub": {"name": "North"},
}


async def test_http_writes_are_refused_and_may_be_sent_again(
    migrated_url: str, limited: BrokerInThread, full: str
) -> None:
    async with client(migrated_url, full) as asking:
        began = asyncio.get_running_loop().time()
        for path, body in WRITES.items():
            response = await asking.post(path, json=body)
            assert response.status_code == 503, (path, response.text)
            assert response.headers["retry-after"] == "1", path
        # Nobody waits for the time-out of an answer.
        assert asyncio.get_running_loop().time() - began < 5
        assert await waiting(full) == 0
        limited.limit(full, COMMAND_QUEUE, float("inf"))
        async with working(migrated_url, full):
            response = await asking.post("/v1/commands", json=WRITES["/v1/commands"])
            assert response.status_code == 200, response.text


async def test_send_says_so_and_fails(full: str, tmp_path: Path) -> None:
    for options in ((), ("--wait",)):
        arguments = ("send", "task.create", "--tenant", TENANT, "--data", '{"id": "t1", "title": "x"}', *options)
        done = await asyncio.to_thread(nursery().run, tmp_path, *arguments, env={"amqp_url": full})
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "the broker has no queue for commands, or refuses more of them\n"


async def test_what_sends_commands_of_its_own_waits(full: str) -> None:
    publisher = Publisher(full, "scheduler")
    await publisher.start()
    try:
        command = Outgoing("task.create", b'{"id":"t1","title":"x"}', TENANT)
        with pytest.raises(OutsideUnavailable, match="no room for more commands"):
            await asyncio.to_thread(command_sender(publisher), [command])
    finally:
        await publisher.close()
