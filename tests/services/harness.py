"""What the tests of intake, store and relay share: a worker at work, a sender, a proxy that cuts, processes to kill."""

from __future__ import annotations

import asyncio
import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

import aio_pika
import aiormq
import psycopg
from pamqp.commands import Basic
from pydantic import SecretStr

from services.broker import names, topology
from services.commands import wire
from services.commands.consumer import CommandConsumer
from services.commands.wire import Reply
from services.settings import Settings
from tests.eventually import PATIENCE, eventually, eventually_async

TENANT = "acme"


def settings(database_url: str, amqp_url: str, **given: Any) -> Settings:
    """Return settings that owe nothing to the environment."""
    return Settings(database_url=SecretStr(database_url), amqp_url=SecretStr(amqp_url), **given)


@asynccontextmanager
async def working(database_url: str, amqp_url: str, **given: Any) -> AsyncIterator[CommandConsumer]:
    """Give a worker that takes commands, and stop it at the end as SIGTERM does."""
    consumer = CommandConsumer(settings(database_url, amqp_url, **given))
    task = asyncio.create_task(consumer.run())
    try:
        await eventually_async(lambda: task.done() or not consumer.unready)
        assert not task.done(), task.exception()
        yield consumer
    finally:
        await consumer.stop()
        await asyncio.wait_for(task, PATIENCE)


async def declare(amqp_url: str) -> None:
    """Declare what a worker declares, for commands that are sent before there is one."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        await topology.declare(await connection.channel())


class Client:
    """A sender below aio-pika, which sets any property to anything, and a reply queue of its own."""

    def __init__(self, amqp_url: str) -> None:
        self._url = amqp_url
        self.reply_to = f"reply.{uuid.uuid4().hex}"
        self.replies: dict[str, list[Reply]] = {}

    async def __aenter__(self) -> Self:
        self._connection = await aiormq.connect(self._url)
        self._channel = await self._connection.channel(publisher_confirms=True)
        listening = await self._connection.channel()
        await listening.queue_declare(self.reply_to, exclusive=True)
        await listening.basic_consume(self.reply_to, self._answered, no_ack=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(Exception):
            await self._connection.close()

    async def _answered(self, message: Any) -> None:
        key = message.header.properties.correlation_id
        self.replies.setdefault(key, []).append(wire.decode_reply(message.body))

    async def publish(self, body: bytes, exchange: str = names.COMMAND_EXCHANGE, **properties: Any) -> None:
        """Publish bytes with just these properties, and wait for the confirm."""
        await self._channel.basic_publish(
            body, exchange=exchange, routing_key="k", properties=Basic.Properties(delivery_mode=2, **properties)
        )

    async def send(self, name: str, data: Any, command_id: str | None = None, **headers: Any) -> str:
        """Send a command as one should, and return its id, under which the answer is found."""
        command_id = command_id or uuid.uuid4().hex
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        properties = {"reply_to": self.reply_to, "message_type": name, "message_id": command_id}
        properties |= {"correlation_id": command_id, **headers.pop("properties", {})}
        given = {"tenant": TENANT} | {key.replace("_", "-"): value for key, value in headers.items()}
        await self.publish(body, headers=given, **properties)
        return command_id

    async def send_all(self, commands: list[tuple[str, Any]]) -> list[str]:
        """Send many commands, in order, and return their ids."""
        return list(await asyncio.gather(*(self.send(name, data) for name, data in commands)))

    async def ask(self, name: str, data: Any, command_id: str | None = None, **headers: Any) -> Reply:
        """Send a command and return the next answer under its id."""
        command_id = command_id or uuid.uuid4().hex
        before = len(self.replies.get(command_id, ()))
        await self.send(name, data, command_id, **headers)
        return await self.answer(command_id, before)

    async def answer(self, key: str, before: int = 0, timeout: float = PATIENCE) -> Reply:
        """Return an answer, when it is there."""
        return (
            await eventually_async(lambda: self.replies.get(key, ())[before : before + 1], timeout)
            and (self.replies[key][before])
        )

    async def answers(self, keys: list[str], timeout: float = PATIENCE) -> list[Reply]:
        """Return the first answer to each, when all are there."""
        await eventually_async(lambda: all(key in self.replies for key in keys), timeout)
        return [self.replies[key][0] for key in keys]


async def dead_letters(amqp_url: str, most: int = 1000) -> list[Any]:
    """Take all dead letters that lie there."""
    connection = await aiormq.connect(amqp_url)
    try:
        channel = await connection.channel()
        found = []
        while len(found) < most:
            message = await channel.basic_get(names.DEAD_QUEUE, no_ack=True)
            if isinstance(message.delivery, Basic.GetEmpty):
                break
            found.append(message)
        return found
    finally:
        await connection.close()


async def waiting(amqp_url: str, queue: str = names.COMMAND_QUEUE) -> int:
    """Return how many messages of a queue wait for a consumer."""
    connection = await aiormq.connect(amqp_url)
    try:
        declared = await (await connection.channel()).queue_declare(queue, passive=True)
        return int(declared.message_count or 0)
    finally:
        await connection.close()


def rows(database_url: str, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        return conn.execute(query, parameters or None).fetchall()  # type: ignore[call-overload]


def stored(database_url: str) -> list[tuple[str, int, str]]:
    """Return (stream, version, name) of the whole log, having checked that no position and no version is missing."""
    found = rows(
        database_url,
        "SELECT notification_id, originator_id, originator_version, topic FROM stored_events ORDER BY 1",
    )
    assert [row[0] for row in found] == list(range(1, len(found) + 1))
    versions: dict[str, int] = {}
    for _, stream, version, _ in found:
        versions[stream] = versions.get(stream, 0) + 1
        assert version == versions[stream], f"{stream} has no version {versions[stream]}"
    return [row[1:] for row in found]


def created(database_url: str) -> list[str]:
    """Return the ids of all tasks of the log, in order; one that was created twice stands there twice."""
    found = [stream for stream, _, name in stored(database_url) if name == "task.created"]
    return [stream.partition("/task-")[2] for stream in found]


class Proxy:
    """A TCP proxy in a thread of its own, before a server on TCP or on a unix socket; it can cut, refuse and forget."""

    def __init__(self, target: str | tuple[str, int]) -> None:
        self._target = target
        self.loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.refusing = False
        # What ends a connection as soon as the server answers it: the client never learns what came of it.
        self.forget_after: bytes | None = None
        self.connections = 0
        self._thread = threading.Thread(target=self.loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._accept, "127.0.0.1", 0), self.loop
        ).result(PATIENCE)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        self.connections += 1
        try:
            if isinstance(self._target, str):
                far_reader, far_writer = await asyncio.open_unix_connection(self._target)
            else:
                far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, far_writer)
        self._open.update(pair)
        forgetting = [False]
        for source, sink, outward in ((reader, far_writer, True), (far_reader, writer, False)):
            task = self.loop.create_task(self._pump(source, sink, pair, forgetting, outward))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, ...],
        forgetting: list[bool],
        outward: bool,
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while data := await self._read(source, outward):
                if outward and self.forget_after is not None and self.forget_after in data:
                    self.forget_after, forgetting[0] = None, True
                elif not outward and forgetting[0]:
                    break
                await self.forward(data, outward)
                sink.write(data)
                await sink.drain()
        self._abort(*pair)

    async def forward(self, data: bytes, outward: bool) -> None:
        """Return when the data may go on; `outward` is to the server."""

    async def _read(self, source: asyncio.StreamReader, outward: bool) -> bytes:
        """Return what is passed on next; `outward` is to the server."""
        return await source.read(1 << 16)

    def _abort(self, *writers: asyncio.StreamWriter) -> None:
        for writer in writers:
            writer.transport.abort()
            self._open.discard(writer)

    def cut(self) -> None:
        """End every connection at once, as a broken network does."""

        async def cut() -> None:
            self._abort(*tuple(self._open))

        asyncio.run_coroutine_threadsafe(cut(), self.loop).result(PATIENCE)

    def down(self) -> None:
        """Cut all, and let nobody in."""
        self.refusing = True
        self.cut()

    def up(self) -> None:
        """Let everybody in again."""
        self.refusing = False

    def close(self) -> None:
        """End the proxy."""

        async def end() -> None:
            self._server.close()
            self._abort(*tuple(self._open))
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(PATIENCE)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()


P = TypeVar("P", bound=Proxy)


@contextmanager
def database_proxy(database_url: str) -> Iterator[tuple[Proxy, str]]:
    """Give a proxy before PostgreSQL, and the URL that leads through it."""
    parts = urlsplit(database_url)
    query = parse_qs(parts.query)
    folder = query.get("host", [""])[0]
    if folder.startswith("/"):
        proxy = Proxy(f"{folder}/.s.PGSQL.{query.get('port', [parts.port or 5432])[0]}")
    else:
        proxy = Proxy((parts.hostname or "127.0.0.1", parts.port or 5432))
    user = quote(parts.username or query.get("user", ["postgres"])[0])
    secret = f":{parts.password}" if parts.password else ""
    # A connection that is cut while it asks for encryption would be one more round trip to tell apart.
    url = f"postgresql://{user}{secret}@127.0.0.1:{proxy.port}{parts.path}?sslmode=disable&gssencmode=disable"
    try:
        yield proxy, url
    finally:
        proxy.close()


@contextmanager
def broker_proxy(amqp_url: str, kind: type[P] = Proxy) -> Iterator[tuple[P, str]]:  # type: ignore[assignment]
    """Give a proxy before the broker, and the URL that leads through it."""
    parts = urlsplit(amqp_url)
    proxy = kind((parts.hostname or "127.0.0.1", parts.port or 5672))
    login, at, _ = parts.netloc.rpartition("@")
    try:
        yield proxy, urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{proxy.port}"))
    finally:
        proxy.close()


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Starting Python costs seconds; a process that has imported all and forks costs none, and dies just as dead.
_NURSERY = """
import json, os, sys
import services.cli, services.logs, services.roles
started = set()
for line in sys.stdin:
    order = json.loads(line)
    if order["do"] == "start":
        pid = os.fork()
        if pid == 0:
            for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY | os.O_CREAT | os.O_APPEND)):
                opened = os.open("/dev/null" if number == 0 else order["log"], mode, 0o600)
                os.dup2(opened, number)
            os.dup2(1, 2)
            os.environ.update(order["env"])
            os.chdir(order["folder"])
            sys.argv = ["foldwork", *order["arguments"]]
            exec(order["before"])
            services.cli.main()
            sys.exit(0)
        started.add(pid)
        answer = pid
    else:
        pid, status = os.waitpid(order["pid"], os.WNOHANG)
        answer = None if pid == 0 else os.waitstatus_to_exitcode(status)
        if pid:
            started.discard(pid)
    print(json.dumps(answer), flush=True)
for pid in started:
    os.kill(pid, 9)
"""


class Process:
    """A process of the nursery."""

    def __init__(self, nursery: Nursery, pid: int, log: Path) -> None:
        self._nursery = nursery
        self._log = log
        self.pid = pid
        self.code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        if self.code is None:
            self.code = self._nursery.order(do="poll", pid=self.pid)
        return self.code

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Return the exit code, when it has ended."""
        eventually(lambda: self.poll() is not None, timeout)
        assert self.code is not None
        return self.code

    async def ended(self, timeout: float = PATIENCE) -> int:
        """Do as `wait`, and let the event loop go on."""
        await eventually_async(lambda: self.poll() is not None, timeout)
        assert self.code is not None
        return self.code

    @property
    def output(self) -> str:
        """Return what it has printed."""
        return self._log.read_text("utf-8")

    def said(self, text: str) -> bool:
        """Tell whether it has printed something; fail when it has ended without."""
        if text in self.output:
            return True
        if self.poll() is not None and text not in self.output:
            raise RuntimeError(f"ended with {self.code} before it said {text!r}:\n{self.output}")
        return text in self.output


class Nursery:
    """Processes of the command line, forked from one that has imported everything."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="foldwork-test-")
        self._lock = threading.Lock()
        self._parent = subprocess.Popen(
            [sys.executable, "-c", _NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={name: value for name, value in os.environ.items() if not name.startswith("FOLDWORK_")},
        )

    def order(self, **order: Any) -> Any:
        """Have something done, and return the answer."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        with self._lock:
            self._parent.stdin.write(json.dumps(order) + "\n")
            self._parent.stdin.flush()
            return json.loads(self._parent.stdout.readline())

    @contextmanager
    def start(self, *arguments: str, before: str = "", env: Mapping[str, str]) -> Iterator[Process]:
        """Run the command line in a process of its own, which is killed at the end if it has not ended."""
        log = Path(self._folder.name) / uuid.uuid4().hex
        log.touch()
        given = {f"FOLDWORK_{name.upper()}": value for name, value in env.items()}
        pid = self.order(
            do="start", arguments=arguments, before=before, env=given, log=str(log), folder=self._folder.name
        )
        process = Process(self, pid, log)
        try:
            yield process
        finally:
            process.signal(signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        """End the parent, which ends whatever is left."""
        if self._parent.stdin is not None:
            self._parent.stdin.close()
        self._parent.wait(PATIENCE)
        self._folder.cleanup()


@functools.cache
def nursery() -> Nursery:
    """Return this test process's nursery."""
    made = Nursery()
    atexit.register(made.close)
    return made


@contextmanager
def worker_process(database_url: str, amqp_url: str, before: str = "", **env: str) -> Iterator[Process]:
    """Give a process of the commands role."""
    given = {"database_url": database_url, "amqp_url": amqp_url, **env}
    with nursery().start("commands", before=before, env=given) as process:
        yield process
