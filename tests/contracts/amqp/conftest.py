"""The brokers that the contract is checked against; a test leaves none of its queues and exchanges behind."""

import asyncio
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiormq
import pytest

from services.dev.broker import DevelopmentBroker
from tests.eventually import PATIENCE

RABBITMQ = os.environ.get("FOLDWORK_TEST_AMQP_URL")
REQUIRED = os.environ.get("FOLDWORK_TEST_REQUIRE_BROKERS") == "1"
BROKERS = ["development", "development with a file", *(["rabbitmq"] if RABBITMQ or REQUIRED else [])]
DEVELOPMENT_BROKER_IS_LIKE = (4, 0)


class Background:
    """The development broker in a thread of its own, so that clients that block can talk to it."""

    def __init__(self, messages: Path | None) -> None:
        self._messages = messages
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        broker, self._stop, self._loop = (
            DevelopmentBroker(messages=self._messages),
            asyncio.Event(),
            asyncio.get_running_loop(),
        )
        await broker.start()
        self.url = broker.url
        self._up.set()
        await self._stop.wait()
        await broker.close()

    def __enter__(self) -> str:
        self._thread.start()
        assert self._up.wait(PATIENCE)
        return self.url

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)


@pytest.fixture(scope="session", params=BROKERS)
def broker_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param.startswith("development"):
        messages = tmp_path_factory.mktemp("broker") / "messages" if "file" in request.param else None
        with Background(messages) as url:
            yield url
    elif RABBITMQ:
        yield RABBITMQ
    else:
        pytest.fail("FOLDWORK_TEST_REQUIRE_BROKERS is set, but FOLDWORK_TEST_AMQP_URL does not name a RabbitMQ")


@pytest.fixture(scope="session")
def version(broker_url: str) -> tuple[int, int]:
    """Which RabbitMQ it is, or does as: versions 3.10, 4.0 and 4.3 answer otherwise here and there."""

    async def asked() -> tuple[int, int]:
        connection = await aiormq.connect(broker_url)
        about = connection.server_properties
        await connection.close()
        if about["product"] != "RabbitMQ":
            return DEVELOPMENT_BROKER_IS_LIKE
        major, minor, *_ = str(about["version"]).split(".")
        return int(major), int(minor)

    return asyncio.run(asked())


@pytest.fixture
async def connection(broker_url: str, fresh: Callable[[], str]) -> AsyncIterator[aiormq.abc.AbstractConnection]:
    connected = await aiormq.connect(broker_url)
    yield connected
    await connected.close()


@pytest.fixture
async def channel(connection: aiormq.abc.AbstractConnection) -> aiormq.abc.AbstractChannel:
    return await connection.channel(publisher_confirms=True)


@pytest.fixture
def fresh(broker_url: str) -> Iterator[Callable[[], str]]:
    """Makes names that nobody else uses; queues and exchanges of these names are deleted after the test."""
    names: list[str] = []

    def name() -> str:
        names.append(f"contract-{uuid.uuid4().hex}")
        return names[-1]

    yield name
    asyncio.run(delete(broker_url, names))


async def delete(url: str, names: list[str]) -> None:
    connection = await aiormq.connect(url)

    async def deleted() -> bool:
        try:
            await (await connection.channel()).queue_delete(name)
        except aiormq.exceptions.ChannelLockedResource:
            # The connection it was exclusive to is closed, but the broker has not got around to it yet.
            return False
        return True

    for name in names:
        await eventually(deleted)
        await (await connection.channel()).exchange_delete(name)
    await connection.close()


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Asks again until it is so; every question is a round trip, which is all the waiting there is."""
    end = time.monotonic() + PATIENCE
    while not await condition():
        assert time.monotonic() < end, "it did not become so"
