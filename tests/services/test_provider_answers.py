"""Whatever a provider answers, byte for byte: the status decides, and nothing that follows it can hurt."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from domain.plan import Provider
from services.commands import wire
from services.processors import providers
from services.processors.outward import MAX_ANSWER, MAX_MESSAGE
from services.processors.providers import Call, Outcome, Providers
from tests.eventually import PATIENCE
from tests.services.harness import settings

Say = Callable[[socket.socket], None]


class Raw:
    """A server that reads a request and then writes what the test wants, whether it is HTTP or not."""

    def __init__(self) -> None:
        self.say: Say = lambda _: None
        self.over = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/tasks"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                taken, _ = self._listening.accept()
                with taken, suppress(OSError):
                    taken.settimeout(20)
                    asked = b""
                    while not asked.endswith(b'{"id":"t"}'):
                        asked += taken.recv(65536)
                    self.say(taken)

    def close(self) -> None:
        self.over.set()
        # Closing alone does not wake the thread that accepts.
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(PATIENCE)


@pytest.fixture
def raw() -> Iterator[Raw]:
    server = Raw()
    yield server
    server.close()


async def called(url: str, timeout: float = 20.0) -> Outcome:
    given = settings("postgresql://localhost/none", "amqp://guest:guest@localhost/", dispatch_hosts=("127.0.0.1",))
    async with Providers(given) as calls:
        return await calls.call(Call("acme", "SMS", "acme/t/1", Provider("http", url, None, timeout), b'{"id":"t"}'))


def answer(body: bytes, status: bytes = b"200 OK", *headers: bytes) -> Say:
    """Say a whole answer."""
    lines = (b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers)
    return lambda taken: taken.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)


def chunked(*parts: bytes) -> Say:
    """Say the head of an answer in chunks, and then what is given, as it is."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return lambda taken: [taken.sendall(part) for part in (head, *parts)] and None


def for_ever(head: bytes, part: bytes) -> Say:
    """Say something again and again until the caller has gone."""

    def say(taken: socket.socket) -> None:
        taken.sendall(head)
        while True:
            taken.sendall(part)

    return say


def as_json(name: str, value: str) -> bytes:
    return msgspec.json.encode({name: value})


UGLY_BODIES = [
    b"",
    b"\0" * 100,
    b"\xff\xfe\xfd",
    b'{"id": "\xe9"}',
    b'{"\xff": 1}',
    b'{"id": "\\ud800"}',
    b'{"id": "a\\u0000b"}',
    b'{"id": "a\\u001bb"}',
    b'{"id": "a\\nb"}',
    b'{"id": 1e999}',
    b'{"id": ' + b"9" * 5000 + b"}",
    b'{"id": {"deep": [1]}}',
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b"\xef\xbb\xbf{}",
    '{"id": "x"}'.encode("utf-16"),
    '{"id": "x"}'.encode("utf-32"),
    as_json("id", "x" * (MAX_MESSAGE + 1)),
    as_json("id", "x" * MAX_ANSWER),
    as_json("reference", "\U0001f600" * 5000),
    b"<html>no JSON</html>",
]


@pytest.mark.parametrize("body", UGLY_BODIES, ids=range(len(UGLY_BODIES)))
async def test_no_body_changes_what_the_status_says(raw: Raw, body: bytes) -> None:
    raw.say = answer(body)
    assert await called(raw.url) == Outcome(True)
    raw.say = answer(body.replace(b'"id"', b'"error"'), b"503 Busy")
    outcome = await called(raw.url)
    assert (outcome.succeeded, outcome.reference, outcome.code) == (False, None, "http-503")
    assert outcome.message is not None
    assert outcome.message.startswith("the provider answered 503")
    assert len(outcome.message) < MAX_MESSAGE + 40
    assert outcome.message.isprintable()


@pytest.mark.parametrize(
    ("body", "reference"),
    [
        (as_json("id", "r-1"), "r-1"),
        (as_json("id", " r-1\n"), "r-1"),
        (as_json("id", "\U0001f600" * MAX_MESSAGE), "\U0001f600" * MAX_MESSAGE),
        (b'{"id": 17}', "17"),
        (b'{"id": "a\\u0000b", "reference": "r-2"}', "r-2"),
        (b'{"id": "' + b"x" * 300 + b'", "reference": "r-3"}', "r-3"),
    ],
)
async def test_a_reference_is_a_short_text_that_can_be_shown(raw: Raw, body: bytes, reference: str) -> None:
    raw.say = answer(body, b"201 Created")
    assert await called(raw.url) == Outcome(True, reference)


@pytest.mark.parametrize(
    "headers",
    [
        (b"Content-Type: application/json; charset=utf-16",),
        (b"Content-Type: application/json; charset=no-such-charset",),
        (b"Content-Type: \xff\xfe",),
        (b"X-Odd: \x80\xff",),
        (b"Content-Encoding: br",),
        (b"Content-Encoding: gzip, gzip, deflate",),
        (b"Set-Cookie: " + b"x" * 20_000,),
        (b"Connection: close", b"Connection: keep-alive"),
    ],
)
async def test_no_header_changes_what_the_status_says(raw: Raw, headers: tuple[bytes, ...]) -> None:
    raw.say = answer(b'{"id": "r-1"}', b"200 \xc3\xa9\xff", *headers)
    assert await called(raw.url) == Outcome(True, "r-1")


async def test_what_is_compressed_is_not_unpacked(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten megabytes in ten kilobytes; one read is all that is held of it."""
    held: list[int] = []
    body_of = providers.body_of

    async def measured(response: Any) -> bytes:
        found = await body_of(response)
        held.append(len(found))
        return found

    monkeypatch.setattr(providers, "body_of", measured)
    bomb = gzip.compress(b'{"id": "' + b"x" * 10_000_000 + b'"}')
    raw.say = answer(bomb, b"200 OK", b"Content-Encoding: gzip")
    assert await called(raw.url) == Outcome(True)
    assert held == [len(bomb)]


@pytest.mark.parametrize(
    "say",
    [
        for_ever(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 10_000),
        for_ever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2710\r\n" + b"x" * 10_000 + b"\r\n"),
        for_ever(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", b"x" * 10_000),
        # What comes behind the last chunk has no end.
        for_ever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"x-more: 1\r\n"),
        chunked(b"zz\r\nnot a size"),
        chunked(b"5\r\nab"),
        chunked(b"2\r\n{}\r\n0\r\nno trailer at all\r\n\r\n"),
        chunked(b"2\r\n{}\r\n0\r\nExpires: never\r\n\r\n"),
        lambda taken: taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
        lambda taken: taken.sendall(b"HTTP/1.1 204 No Content\r\n\r\nand a body all the same"),
        lambda taken: taken.sendall(b"HTTP/1.0 200\r\n\r\n{"),
        lambda taken: taken.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ],
    ids=range(12),
)
async def test_however_a_body_ends_the_status_counts(raw: Raw, say: Say) -> None:
    raw.say = say
    assert await called(raw.url) == Outcome(True)


async def test_a_body_that_drips_is_left_when_the_time_is_over(raw: Raw) -> None:
    def drip(taken: socket.socket) -> None:
        taken.sendall(b"HTTP/1.1 200 OK\r\n\r\n{")
        raw.over.wait(PATIENCE)

    raw.say = drip
    assert await called(raw.url, 0.5) == Outcome(True)


@pytest.mark.parametrize(
    ("say", "code"),
    [
        (answer(b"", b"301 Moved", b"Location: http://169.254.169.254/"), "http-301"),
        (answer(b"", b"307 Again", b"Location: /tasks"), "http-307"),
        (answer(b"", b"304 Not Modified"), "http-304"),
        (answer(b"", b"600 Who knows"), "http-600"),
        (answer(b"", b"20 OK"), "bad-answer"),
        (answer(b"", b"2000 OK"), "bad-answer"),
        (answer(b"{}", b"200 OK", b"Content-Length: 7"), "bad-answer"),
        (answer(b"{}", b"200 OK", b"no colon"), "bad-answer"),
        (for_ever(b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"x" * 1000 + b"\r\n"), "bad-answer"),
        (for_ever(b"HTTP/1.1 200 ", b"x" * 1000), "bad-answer"),
        (lambda taken: taken.sendall(b"\0" * 100 + b"\r\n\r\n"), "bad-answer"),
        (lambda taken: taken.sendall(b"HTTP/two 200 OK\r\n\r\n"), "bad-answer"),
        (lambda taken: taken.sendall(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"), "bad-answer"),
        (lambda taken: None, "bad-answer"),
    ],
    ids=range(14),
)
async def test_what_is_no_2xx_is_a_failed_attempt(raw: Raw, say: Say, code: str) -> None:
    raw.say = say
    outcome = await called(raw.url)
    assert (outcome.succeeded, outcome.code) == (False, code), outcome


async def test_informational_answers_without_end_are_a_time_out(raw: Raw) -> None:
    def say(taken: socket.socket) -> None:
        while not raw.over.wait(0.005):
            taken.sendall(b"HTTP/1.1 103 Early\r\n\r\n")

    raw.say = say
    assert (await called(raw.url, 0.5)).code == "timeout"


@pytest.mark.parametrize("body", UGLY_BODIES, ids=range(len(UGLY_BODIES)))
async def test_what_is_recorded_of_an_answer_is_a_command_that_is_taken(raw: Raw, body: bytes) -> None:
    for status in (b"200 OK", b"500 No"):
        raw.say = answer(body.replace(b'"id"', b'"message"' if status.startswith(b"5") else b'"id"'), status)
        outcome = await called(raw.url)
        report = {"id": "t", "attempt": 1, "succeeded": outcome.succeeded, "reference": outcome.reference}
        told = msgspec.json.encode({**report, "code": outcome.code, "message": outcome.message})
        wire.parse_data("task.report-dispatch", told)


async def test_calls_of_ugly_answers_leave_the_provider_usable(raw: Raw) -> None:
    """One client for all: what one answer did to its connection is nothing to the next."""
    given = settings("postgresql://localhost/none", "amqp://guest:guest@localhost/", dispatch_hosts=("127.0.0.1",))
    async with Providers(given) as calls:
        says = [answer(b"\xff"), chunked(b"zz\r\n"), for_ever(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 10_000), answer(b"{}")]
        for say in says:
            raw.say = say
            found = await calls.call(Call("acme", "SMS", "k", Provider("http", raw.url, None, 20.0), b'{"id":"t"}'))
            assert found == Outcome(True)
