"""Brokers for tests: every test has a virtual host of its own, and only what a run has made is removed."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import urllib.request
import uuid
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from services.dev.broker import DevelopmentBroker
from tests.eventually import PATIENCE


class Broker(Protocol):
    """What a test needs of a broker."""

    def virtual_host(self) -> str:
        """Return the URL of a virtual host that nobody has used."""

    def release(self, url: str) -> None:
        """Take back a virtual host that nobody uses any more."""

    def user(self, url: str, name: str, configure: str, write: str, read: str) -> str:
        """Make a user with these permissions in a virtual host, and return its URL."""

    def close(self) -> None:
        """Remove all that was made."""


def with_virtual_host(url: str, name: str) -> str:
    """Return the URL with another virtual host."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{quote(name, safe='')}"))


def with_user(url: str, name: str, password: str) -> str:
    """Return the URL with another user."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(name, safe='')}:{quote(password, safe='')}@{host}"))


class BrokerInThread:
    """The development broker on an event loop of its own, so that it also serves tests that block theirs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="development-broker", daemon=True)
        self._thread.start()
        self._broker = DevelopmentBroker("127.0.0.1", 0)
        asyncio.run_coroutine_threadsafe(self._broker.start(), self._loop).result(PATIENCE)
        self._numbers = itertools.count(1)

    @property
    def server(self) -> DevelopmentBroker:
        """Return the broker itself."""
        return self._broker

    def virtual_host(self) -> str:
        """Return the URL of a new virtual host; this broker makes one when it is first named."""
        return with_virtual_host(self._broker.url, f"test-{next(self._numbers)}")

    def set_alarm(self, reason: str | None) -> None:
        """Play the alarm of a broker that is low on memory or disk, or end it."""

        def play() -> None:
            self._broker.alarm = reason
            for connection in () if reason else tuple(self._broker.connections):
                connection.hold(None)

        self._loop.call_soon_threadsafe(play)

    def limit(self, url: str, queue: str, messages: float) -> None:
        """Limit the length of a queue, as a policy of RabbitMQ does."""
        vhost = unquote(urlsplit(url).path[1:])

        def play() -> None:
            self._broker.vhosts[vhost].queues[queue].limit = messages

        self._loop.call_soon_threadsafe(play)

    def unacknowledged(self, url: str) -> int:
        """Return how many messages of a virtual host were delivered and are not acknowledged."""
        name = unquote(urlsplit(url).path[1:])
        return sum(
            len(channel.unacked)
            for connection in list(self._broker.connections)
            if connection.vhost.name == name
            for channel in list(connection.channels.values())
        )

    def release(self, url: str) -> None:
        """Keep it: what lies in it is nothing to this broker."""

    def user(self, url: str, name: str, configure: str, write: str, read: str) -> str:
        """Make a user; this broker has no permissions."""
        self._broker.users[name] = password = uuid.uuid4().hex
        return with_user(url, name, password)

    def close(self) -> None:
        """Stop the broker and its thread."""
        asyncio.run_coroutine_threadsafe(self._broker.close(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()


class RabbitMQ:
    """A RabbitMQ that runs already: virtual hosts are made through its HTTP API, or else by `rabbitmqctl`.

    Where neither can be used the URL's own virtual host serves all tests, which then keep apart by their names.
    """

    # rabbitmqctl takes seconds on a busy machine, however much it does at once.
    _AT_ONCE = 10

    def __init__(self, url: str, api: str | None) -> None:
        self._url = url
        self._api = api.rstrip("/") if api else None
        parts = urlsplit(url)
        self._user = unquote(parts.username or "guest")
        self._password = unquote(parts.password or "guest")
        # Whoever gives the run a virtual host finds all that it has made under that name.
        given = unquote(parts.path.removeprefix("/")).strip("/")
        self._prefix = f"{given or 'foldwork-test'}-{uuid.uuid4().hex[:12]}"
        self._made: list[str] = []
        self._users: list[str] = []
        self._unused: list[str] = []
        # A virtual host takes about five file handles of the server, which has a thousand; without one left it hangs.
        self._done: list[str] = []
        self._can_make = self._api is not None or _rabbitmqctl_works()

    def virtual_host(self) -> str:
        """Return the URL of a new virtual host."""
        if not self._can_make:
            return self._url
        if not self._unused:
            first = len(self._made) + 1
            self._unused = [f"{self._prefix}-{first + number}" for number in range(self._AT_ONCE)]
            done, self._done = self._done, []
            self._made = [name for name in self._made if name not in done] + self._unused
            self._make(self._unused, done)
        return with_virtual_host(self._url, self._unused.pop(0))

    def release(self, url: str) -> None:
        """Note that a virtual host may be removed when the next ones are made."""
        if self._can_make:
            self._done.append(unquote(urlsplit(url).path[1:]))

    def user(self, url: str, name: str, configure: str, write: str, read: str) -> str:
        """Make a user, of a name that nobody else uses; without the means to, the URL stays as it is."""
        if not self._can_make:
            return url
        name, password = f"{name}-{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
        vhost = unquote(urlsplit(url).path[1:])
        self._users.append(name)
        if self._api is not None:
            self._call("PUT", f"/users/{name}", {"password": password, "tags": ""})
            where = f"/permissions/{quote(vhost, safe='')}/{name}"
            self._call("PUT", where, {"configure": configure, "write": write, "read": read})
        else:
            _rabbitmqctl("add_user", name, password)
            _rabbitmqctl("set_permissions", "-p", vhost, name, configure, write, read)
        return with_user(url, name, password)

    def close(self) -> None:
        """Remove every user and virtual host that was made."""
        for name in self._users:
            if self._api is not None:
                self._call("DELETE", f"/users/{name}", None)
            else:
                _rabbitmqctl("delete_user", name)
        if self._made:
            self._make([], self._made)

    def _make(self, names: list[str], done: list[str]) -> None:
        """Remove virtual hosts, and make others."""
        if self._api is not None:
            for name in done:
                self._call("DELETE", f"/vhosts/{quote(name, safe='')}", None)
            for name in names:
                vhost, user = quote(name, safe=""), quote(self._user, safe="")
                self._call("PUT", f"/vhosts/{vhost}", {})
                self._call("PUT", f"/permissions/{vhost}/{user}", {"configure": ".*", "write": ".*", "read": ".*"})
            return
        _rabbitmqctl(
            "eval",
            'All = <<".*">>, Actor = <<"foldwork">>, '
            f"[rabbit_vhost:delete(V, Actor) || V <- {_erlang(done)}], [begin rabbit_vhost:add(V, Actor), "
            "rabbit_auth_backend_internal:set_permissions(U, V, All, All, All, Actor) end || "
            f"V <- {_erlang(names)}, U <- {_erlang([self._user])}].",
        )

    def _call(self, method: str, path: str, body: dict[str, str] | None) -> None:
        credentials = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        request = urllib.request.Request(
            f"{self._api}/api{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE):
            pass


def _erlang(texts: list[str]) -> str:
    """Return Erlang's notation of a list of binaries."""
    return "[" + ", ".join("<<" + ", ".join(str(byte) for byte in text.encode()) + ">>" for text in texts) + "]"


def _rabbitmqctl(*arguments: str) -> None:
    # It is a script that starts others, which outlive it and keep its output open: they end as one process group.
    with tempfile.TemporaryFile() as said:
        command = ["rabbitmqctl", "-q", *arguments]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if code:
            said.seek(0)
            raise subprocess.CalledProcessError(code, command, said.read())


def _rabbitmqctl_works() -> bool:
    if shutil.which("rabbitmqctl") is None:
        return False
    try:
        _rabbitmqctl("list_vhosts")
    except (subprocess.SubprocessError, OSError):
        return False
    return True
