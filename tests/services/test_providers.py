"""One call of a provider: what is sent, what an answer means, and where no call may lead."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import threading
import time
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from domain.plan import Provider
from services.processors import addresses
from services.processors.outward import MAX_LOOKUPS_OF_TENANT, printable
from services.processors.providers import Call, Outcome, Providers, signature
from services.settings import ConfigurationError, Settings, load
from tests.eventually import PATIENCE
from tests.services.answering import Answering
from tests.services.harness import settings
from tests.services.processes import free_port

URL = "postgresql://localhost/none"
AMQP = "amqp://guest:guest@localhost/"
CANARY = "c4n4ry-of-the-secret"
SECRETS = {"acme/hook": SecretStr(CANARY)}


def given(**more: Any) -> Settings:
    return settings(URL, AMQP, **{"dispatch_hosts": ("127.0.0.1", "localhost"), "dispatch_secrets": SECRETS, **more})


async def called(url: str | None, *, timeout: float = 5.0, secret: str | None = None, **more: Any) -> Outcome:
    """Return what comes of one call."""
    async with Providers(given(**more)) as providers:
        return await providers.call(
            Call("acme", "SMS", "acme/t/1", Provider("http", url, secret, timeout), b'{"id":"t"}')
        )


# One call.


async def test_a_call_is_json_that_the_provider_can_check(provider: Answering) -> None:
    provider.answer = lambda _: (202, {}, b'{"id": 17}')
    assert await called(provider.url, secret="hook") == Outcome(True, "17")
    (received,) = provider.received
    assert (received.path, received.body) == ("/tasks", b'{"id":"t"}')
    assert received.headers["host"] == f"127.0.0.1:{provider.port}"
    assert received.headers["content-type"] == "application/json"
    assert received.key == "acme/t/1"
    timestamp = received.headers["x-foldwork-timestamp"]
    assert abs(int(timestamp) - time.time()) < 60
    signed = hmac.new(CANARY.encode(), f"{timestamp}.".encode() + received.body, hashlib.sha256).hexdigest()
    assert received.headers["x-foldwork-signature"] == f"v1={signed}"


async def test_without_a_secret_nothing_is_signed(provider: Answering) -> None:
    assert (await called(provider.url)).succeeded
    assert "x-foldwork-signature" not in provider.received[0].headers


def test_a_signature_covers_time_and_body() -> None:
    assert signature("s", "1", b"x") == signature("s", "1", b"x")
    assert len({signature("s", "1", b"x"), signature("s", "2", b"x"), signature("s", "1", b"y")}) == 3


async def test_a_secret_that_is_not_set_calls_nobody(provider: Answering) -> None:
    outcome = await called(provider.url, secret="other")
    assert (outcome.succeeded, outcome.code) == (False, "no-secret")
    assert provider.received == []


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((200, {}, b""), Outcome(True)),
        ((204, {}, b""), Outcome(True)),
        ((200, {}, b"not json"), Outcome(True)),
        ((200, {}, b"[1]"), Outcome(True)),
        ((200, {}, b'{"id": null, "reference": "r-1"}'), Outcome(True, "r-1")),
        ((200, {}, b'{"id": {"a": 1}}'), Outcome(True)),
        ((200, {}, b'{"id": true}'), Outcome(True)),
        ((200, {}, b'{"id": "a\\u0000b\\n"}'), Outcome(True)),
        ((200, {}, b'{"id": "' + b"x" * 1000 + b'"}'), Outcome(True)),
        ((200, {}, b'{"id": "' + b"x" * 70_000 + b'"}'), Outcome(True)),
        ((200, {}, b"[" * 60_000), Outcome(True)),
        ((200, {"Content-Encoding": "gzip"}, b'{"id": "no gzip"}'), Outcome(True, "no gzip")),
        ((500, {}, b""), Outcome(False, None, "http-500", "the provider answered 500")),
        ((503, {}, b'{"error": "busy"}'), Outcome(False, None, "http-503", "the provider answered 503: busy")),
        ((302, {"Location": "/elsewhere"}, b""), Outcome(False, None, "http-302", "the provider answered 302")),
        ((404, {"Content-Length": "9"}, b"short"), Outcome(False, None, "http-404", "the provider answered 404")),
    ],
)
async def test_an_answer_is_an_outcome(provider: Answering, answer: Any, outcome: Outcome) -> None:
    provider.answer = lambda _: answer
    assert await called(provider.url) == outcome
    assert len(provider.received) == 1


async def test_a_lone_surrogate_in_an_answer_is_no_trouble(provider: Answering) -> None:
    provider.answer = lambda _: (200, {}, b'{"id": "\\ud800"}')
    assert (await called(provider.url)).succeeded
    assert printable("a\ud800\0b") == "a  b"


async def test_a_provider_that_does_not_answer_in_time(provider: Answering) -> None:
    provider.hold.clear()
    outcome = await called(provider.url, timeout=0.2)  # and it never does
    assert (outcome.succeeded, outcome.code, outcome.message) == (False, "timeout", "no answer within 0.2 s")


async def test_a_status_counts_even_when_the_body_never_ends(provider: Answering) -> None:
    provider.answer = lambda _: (200, {"Content-Length": "100"}, b'{"id"')
    assert await called(provider.url, timeout=0.5) == Outcome(True)


async def test_nobody_there_and_no_such_name() -> None:
    assert (await called(f"http://127.0.0.1:{free_port()}/")).code == "unreachable"
    assert (await called("https://no-such-host.invalid/")).code == "unreachable"


async def test_what_speaks_no_http_is_an_outcome() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def babble() -> None:
            taken, _ = listening.accept()
            with taken:
                taken.sendall(b"220 mail ready\r\n\r\n")
                taken.recv(65536)

        thread = threading.Thread(target=babble, daemon=True)
        thread.start()
        outcome = await called(f"http://127.0.0.1:{listening.getsockname()[1]}/")
        thread.join(PATIENCE)
    assert (outcome.succeeded, outcome.code) == (False, "bad-answer")


async def test_a_plain_port_where_tls_is_wanted_is_unreachable(provider: Answering) -> None:
    assert (await called(provider.url.replace("http:", "https:"))).code == "unreachable"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::1]:{port}/",
        "http://0x7f.1:{port}/",
        "http://2130706433:{port}/",
        "http://0.0.0.0:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://192.168.1.1/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://100.64.0.1/",
        "ftp://example.org/",
        "http://",
        "",
        "http://user@127.0.0.1:{port}/",
    ],
)
async def test_no_address_inside_is_called_unless_it_is_listed(provider: Answering, url: str) -> None:
    outcome = await called(url.format(port=provider.port), dispatch_hosts=(), allow_plaintext=frozenset({"providers"}))
    assert (outcome.succeeded, outcome.code) == (False, "not-allowed")
    assert provider.received == []


async def test_what_is_connected_to_is_what_was_checked(provider: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that answers otherwise the second time is not asked a second time."""
    asked: list[str] = []
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers[len(asked) - 1]]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", look_up)
    outcome = await called(f"http://hook.example:{provider.port}/", dispatch_hosts=("Hook.example",))
    assert outcome.succeeded
    assert asked == ["hook.example"]
    assert provider.received[0].headers["host"] == f"hook.example:{provider.port}"


async def test_one_address_inside_among_others_is_enough_to_refuse(
    provider: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        found = ("93.184.215.14", "127.0.0.1")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", look_up)
    assert (await called("https://hook.example/", dispatch_hosts=())).code == "not-allowed"


async def test_the_next_address_is_tried_when_one_does_not_answer(
    provider: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("127.0.0.9", "127.0.0.1")]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", look_up)
    assert (await called(f"http://hook.example:{provider.port}/", dispatch_hosts=("hook.example",))).succeeded


async def test_off_loopback_only_https_unless_plaintext_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", look_up)
    outcome = await called("http://hook.example/", dispatch_hosts=("hook.example",))
    assert (outcome.code, outcome.message) == ("not-allowed", "a provider outside loopback must use https")
    outcome = await called(
        "http://hook.example/", dispatch_hosts=("hook.example",), allow_plaintext=frozenset({"providers"}), timeout=0.2
    )
    assert outcome.code in ("timeout", "unreachable")


async def test_names_that_take_for_ever_occupy_so_many_threads_and_no_other_tenant(
    provider: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = threading.Event()
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: str, port: int, **rest: Any) -> list[Any]:
        asked.append(host)
        if host == "slow.example":
            slow.wait(PATIENCE)
        return real("127.0.0.1", port, **rest)

    monkeypatch.setattr(addresses.socket, "getaddrinfo", look_up)
    body = b'{"id":"t"}'
    try:
        async with Providers(given(dispatch_hosts=("quick.example",))) as providers:
            # The calls end long before the look-ups do.
            hasty = Provider("http", "https://slow.example/", None, 0.01)
            calls = (providers.call(Call("acme", "SMS", f"acme/t/{number}", hasty, body)) for number in range(60))
            assert {outcome.code for outcome in await asyncio.gather(*calls)} == {"timeout"}
            assert asked == ["slow.example"] * MAX_LOOKUPS_OF_TENANT
            quick = Provider("http", f"http://quick.example:{provider.port}/", None, 5.0)
            assert (await providers.call(Call("other", "SMS", "other/t/1", quick, body))).succeeded
            slow.set()
            # The places are free again.
            assert (await providers.call(Call("acme", "SMS", "acme/t/99", quick, body))).succeeded
    finally:
        slow.set()


async def test_a_name_that_takes_for_ever_to_resolve_is_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = threading.Event()

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        slow.wait(PATIENCE)
        return []

    monkeypatch.setattr(addresses.socket, "getaddrinfo", look_up)
    try:
        assert (await called("https://hook.example/", timeout=0.2)).code == "timeout"
    finally:
        slow.set()


async def test_the_console_takes_nothing_unless_it_is_allowed() -> None:
    with structlog.testing.capture_logs() as told:
        async with Providers(given()) as providers:
            outcome = await providers.call(Call("acme", "SMS", "acme/t/1", Provider("console"), b'{"id":"t"}'))
    assert (outcome.succeeded, outcome.code) == (False, "not-allowed")
    assert told == []


async def test_the_console_takes_everything_where_it_is_allowed() -> None:
    with structlog.testing.capture_logs() as told:
        async with Providers(given(dispatch_console=True)) as providers:
            outcome = await providers.call(Call("acme", "SMS", "acme/t/1", Provider("console"), b'{"id":"t"}'))
    assert outcome == Outcome(True)
    assert [(line["event"], line["key"], line["task"]) for line in told] == [("dispatched", "acme/t/1", '{"id":"t"}')]


@pytest.mark.parametrize(
    "value", ["{", "[]", '"x"', '{"acme": "x"}', '{"acme/": "x"}', '{"ACME/a": "x"}', '{"a/b": ""}']
)
def test_secrets_that_cannot_be_used_are_named_and_not_shown(value: str) -> None:
    with pytest.raises(ConfigurationError, match="FOLDWORK_DISPATCH_SECRETS") as refused:
        load(database_url=URL, amqp_url=AMQP, dispatch_secrets=value)
    assert '"x"' not in str(refused.value).replace('{"tenant/name": "secret"}', "")


def test_hosts_and_secrets_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDWORK_DISPATCH_SECRETS", json.dumps({"acme/hook": CANARY}))
    for text in ("a.example, b.example,", '["a.example", "b.example"]'):
        monkeypatch.setenv("FOLDWORK_DISPATCH_HOSTS", text)
        loaded = load(database_url=URL, amqp_url=AMQP)
        assert loaded.dispatch_hosts == ("a.example", "b.example")
    assert loaded.dispatch_secrets["acme/hook"].get_secret_value() == CANARY
    assert CANARY not in repr(loaded)
    assert CANARY not in str(loaded.model_dump())
