"""Credentials in a call: how they are sent, what stops them, and that nothing which is kept repeats them."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from domain.plan import Provider
from services.credentials import MAX_LENGTH, BadCredentials, demand_usable, place_of
from services.encryption import Keyring
from services.processors.outward import MAX_MESSAGE
from services.processors.providers import Call, Outcome, Providers
from tests.services.answering import Answering
from tests.services.harness import settings

OLD, NEW, OTHER = (SecretStr(base64.b64encode(mark * 32).decode()) for mark in (b"o", b"n", b"x"))
CANARY = "c4n4ry-of-the-key"


def sealed(given: Any, url: str, key: SecretStr = NEW, tenant: str = "acme", channel: str = "SMS") -> str:
    return Keyring([key]).encrypt(place_of(tenant, channel, url), json.dumps(given))


async def called(url: str, credentials: str | None, *keys: SecretStr) -> Outcome:
    given: Sequence[SecretStr] = keys or (NEW,)
    used = settings("postgresql://localhost/none", "amqp://localhost/", dispatch_hosts=("127.0.0.1",), secret_key=given)
    async with Providers(used) as providers:
        provider = Provider("http", url, credentials=credentials)
        return await providers.call(Call("acme", "SMS", "acme/t/1", provider, b'{"id":"t"}'))


@pytest.mark.parametrize(
    ("credentials", "sent"),
    [
        ({"apiKey": CANARY}, {"x-api-key": CANARY}),
        ({"token": CANARY}, {"authorization": f"Bearer {CANARY}"}),
        (
            {"username": "us er", "password": "pa:ss"},
            {"authorization": f"Basic {base64.b64encode(b'us er:pa:ss').decode()}"},
        ),
        ({"username": "u", "password": ""}, {"authorization": f"Basic {base64.b64encode(b'u:').decode()}"}),
        ({"apiKey": "a b", "token": "t"}, {"x-api-key": "a b", "authorization": "Bearer t"}),
        ({"apiKey": "~" * MAX_LENGTH}, {"x-api-key": "~" * MAX_LENGTH}),
    ],
)
async def test_a_request_carries_them(provider: Answering, credentials: Any, sent: dict[str, str]) -> None:
    demand_usable(credentials)
    assert (await called(provider.url, sealed(credentials, provider.url))).succeeded
    headers = provider.received[0].headers
    assert {name: headers[name] for name in ("x-api-key", "authorization") if name in headers} == sent


async def test_without_credentials_none_are_sent(provider: Answering) -> None:
    assert (await called(provider.url, None)).succeeded
    assert {"x-api-key", "authorization"}.isdisjoint(provider.received[0].headers)


@pytest.mark.parametrize(
    "credentials",
    [
        None, [], {}, "sk-xxx", {"apikey": "a"}, {"apiKey": None}, {"apiKey": 7}, {"apiKey": ""}, {"apiKey": " a"},
        {"apiKey": "a\r\nx-evil: 1"}, {"apiKey": "a\n"}, {"apiKey": "é"}, {"apiKey": "a\0"}, {"apiKey": ["a"]},
        {"apiKey": "a" * (MAX_LENGTH + 1)}, {"username": "u"}, {"password": "p"}, {"username": "u:v", "password": "p"},
        {"token": "t", "username": "u", "password": "p"}, {"apiKey": "a", "": "b"},
    ],
)  # fmt: skip
def test_what_no_request_can_carry(credentials: Any) -> None:
    with pytest.raises(BadCredentials):
        demand_usable(credentials)


async def test_a_new_key_still_reads_what_the_old_one_encrypted(provider: Answering) -> None:
    assert (await called(provider.url, sealed({"apiKey": CANARY}, provider.url, OLD), NEW, OLD)).succeeded
    assert provider.received[0].headers["x-api-key"] == CANARY


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (lambda url: sealed({"apiKey": CANARY}, url, OTHER), "no-key"),
        (lambda url: sealed({"apiKey": CANARY}, url, tenant="other"), "bad-credentials"),
        (lambda url: sealed({"apiKey": CANARY}, url, channel="EMAIL"), "bad-credentials"),
        (lambda url: sealed({"apiKey": CANARY}, f"{url}/"), "bad-credentials"),
        (lambda url: sealed({"apiKey": CANARY}, url)[:-2], "bad-credentials"),
        (lambda url: sealed({"apiKey": CANARY}, url).replace("v1.", "v2."), "bad-credentials"),
        (lambda url: sealed(["a"], url), "bad-credentials"),
        (lambda _: "nonsense", "bad-credentials"),
    ],
)
async def test_what_cannot_be_decrypted_calls_nobody(
    provider: Answering, made: Callable[[str], str], code: str
) -> None:
    credentials = made(provider.url)
    outcome = await called(provider.url, credentials)
    assert (outcome.succeeded, outcome.code) == (False, code)
    assert provider.received == []
    assert outcome.message
    assert credentials not in outcome.message


@pytest.mark.parametrize(
    "answer",
    [
        (401, {"message": f"unknown key {CANARY}, {CANARY}"}),
        # What is cut off must not begin with it.
        (401, {"error": "x" * (MAX_MESSAGE - len(CANARY) // 2) + CANARY}),
        (200, {"id": CANARY}),
        (200, {"reference": f"r-{CANARY}"}),
        (503, {"detail": base64.b64encode(f"user:{CANARY}".encode()).decode()}),
    ],
)
@pytest.mark.parametrize("credentials", [{"apiKey": CANARY}, {"username": "user", "password": CANARY}])
async def test_a_provider_that_repeats_them(provider: Answering, answer: tuple[int, Any], credentials: Any) -> None:
    status, body = answer
    provider.answer = lambda _: (status, {}, json.dumps(body).encode())
    outcome = await called(provider.url, sealed(credentials, provider.url))
    told = repr(outcome)
    assert outcome.succeeded is (status == 200)
    assert outcome.reference is None
    assert CANARY[: len(CANARY) // 2] not in told
    if "password" in credentials:
        assert base64.b64encode(f"user:{CANARY}".encode()).decode() not in told


async def test_no_log_has_them(provider: Answering, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as logs:
        provider.answer = lambda _: (500, {}, b"{}")
        await called(provider.url, sealed({"apiKey": CANARY}, provider.url))
        await called("http://127.0.0.1:9/", sealed({"token": CANARY}, "http://127.0.0.1:9/"))
    assert provider.received[0].headers["x-api-key"] == CANARY
    assert CANARY not in caplog.text
    assert CANARY not in repr(logs)
