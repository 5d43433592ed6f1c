"""The servers that tests run against; no fixture guesses a port, and each run removes only what it has made.

PostgreSQL: `FOLDWORK_TEST_DATABASE_URL`, or a container with `FOLDWORK_TEST_DOCKER=1`, or else the embedded one.
Broker: the development broker always, and with `FOLDWORK_TEST_AMQP_URL` every such test on RabbitMQ as well.
`FOLDWORK_TEST_REQUIRE_BROKERS=1` fails the run when either of the real servers is missing, or a test is skipped.
`FOLDWORK_TEST_PATIENCE=4` waits four times as long for everything, on a slow machine.
"""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import psycopg
import pytest
import structlog

from tests.databases import Databases
from tests.eventually import SLOWNESS

if TYPE_CHECKING:
    from tests.brokers import Broker, BrokerInThread
    from tests.services.http.api import Api

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("foldwork", deadline=None)
hypothesis.settings.load_profile("foldwork")

# As the service itself does. structlog's default renders an error with the local variables of every frame, which blocks
# the event loop for seconds.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)

AMQP_URL = os.environ.get("FOLDWORK_TEST_AMQP_URL")


def pytest_configure() -> None:
    # A run in the background of a script ignores Ctrl-C, and so would every process that a test starts and interrupts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("FOLDWORK_TEST_REQUIRE_BROKERS") == "1":
        for name in ("FOLDWORK_TEST_DATABASE_URL", "FOLDWORK_TEST_AMQP_URL"):
            if not os.environ.get(name):
                raise pytest.UsageError(f"FOLDWORK_TEST_REQUIRE_BROKERS=1, but {name} is not set")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # What a test may take in all grows with what it waits for.
    if SLOWNESS > 1:
        for item in items:
            given = item.get_closest_marker("timeout")
            seconds = float(given.args[0] if given else config.getini("timeout"))
            item.add_marker(pytest.mark.timeout(seconds * SLOWNESS), append=False)


def pytest_collection_finish() -> None:
    # The modules and the thousands of items live as long as the process; each full collection would look through them.
    gc.collect()
    gc.freeze()


_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    # A case that is left out on one of the servers proves nothing of their being equal.
    if _skipped and os.environ.get("FOLDWORK_TEST_REQUIRE_BROKERS") == "1" and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name in _skipped:
        terminalreporter.write_line(f"SKIPPED, which fails a run with both brokers: {name}")


def pytest_xdist_auto_num_workers() -> int:
    # Tests also wait, so one worker more than there are cores pays; each has a PostgreSQL of its own.
    return min(8, (os.cpu_count() or 1) + 1)


@pytest.fixture(scope="session")
def database_server() -> Iterator[str]:
    """The URL of a PostgreSQL server on which databases may be made."""
    given = os.environ.get("FOLDWORK_TEST_DATABASE_URL")
    if given:
        yield given
    elif os.environ.get("FOLDWORK_TEST_DOCKER") == "1":
        from testcontainers.postgres import PostgresContainer

        with PostgresContainer("postgres:18", driver=None) as container:
            yield container.get_connection_url()
    else:
        from services.dev.postgres import EmbeddedPostgres

        # Open to enter, else the server that root starts as another user would keep its data elsewhere.
        folder = Path(tempfile.mkdtemp(prefix="foldwork-test-"))
        folder.chmod(0o755)
        server = EmbeddedPostgres(folder, fast=True)
        try:
            yield server.start()
        finally:
            server.remove()


@pytest.fixture(scope="session")
def databases(database_server: str) -> Iterator[Databases]:
    """Everything this process makes on the server; tests use the fixtures below."""
    made = Databases(database_server)
    yield made
    made.close()


@pytest.fixture(scope="module")
def database_url(databases: Databases) -> Iterator[str]:
    """An empty database that the tests of a module share."""
    url = databases.create()
    yield url
    databases.drop(url)


@pytest.fixture(scope="module")
def module_url(databases: Databases) -> Iterator[str]:
    """A database with all tables and no rows, which the tests of a module share."""
    url = databases.create_migrated()
    yield url
    databases.drop(url)


@pytest.fixture
def fresh_database(databases: Databases) -> Iterator[Callable[[], str]]:
    """A function that makes an empty database each time it is called."""
    made: list[str] = []

    def make() -> str:
        made.append(databases.create())
        return made[-1]

    yield make
    for url in made:
        databases.drop(url)


@pytest.fixture
def migrated_url(databases: Databases) -> Iterator[str]:
    """A database with all tables and no rows; others had it before, unless they changed more than rows."""
    url = databases.lend()
    yield url
    databases.take_back(url)


@pytest.fixture
def conn(migrated_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the test's database, which commits each statement."""
    with psycopg.connect(migrated_url, autocommit=True) as session:
        yield session


@pytest.fixture
async def api(migrated_url: str, databases: Databases, request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    """The HTTP process on a database of the test's own.

    A module may name other `SETTINGS`, and have a function `set_scene` that runs commands before each of its tests.
    """
    from tests.services.http.api import opened, play

    async with opened(migrated_url, **getattr(request.module, "SETTINGS", {})) as running:
        if (set_scene := getattr(request.module, "set_scene", None)) is not None:
            play(set_scene, running, databases)
        yield running


@pytest.fixture(scope="session", params=["development", "rabbitmq"] if AMQP_URL else ["development"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A broker; tests use `amqp_url`."""
    from tests.brokers import BrokerInThread, RabbitMQ

    started: Broker
    if request.param == "rabbitmq":
        assert AMQP_URL is not None
        started = RabbitMQ(AMQP_URL, os.environ.get("FOLDWORK_TEST_RABBITMQ_API"))
    else:
        started = BrokerInThread()
    yield started
    started.close()


@pytest.fixture
def amqp_url(broker: Broker) -> Iterator[str]:
    """The URL of a virtual host of this test alone, on each broker in turn."""
    url = broker.virtual_host()
    yield url
    broker.release(url)


@pytest.fixture(scope="session")
def development_broker() -> Iterator[BrokerInThread]:
    """A development broker that all tests of a process share; its limits may be changed with `monkeypatch`."""
    from tests.brokers import BrokerInThread

    started = BrokerInThread()
    yield started
    started.close()


@pytest.fixture
def development_url(development_broker: BrokerInThread) -> str:
    """The URL of a virtual host of this test alone on the development broker, whatever other brokers there are."""
    return development_broker.virtual_host()
