"""Providers, which dispatched tasks are sent to: an HTTP URL of the tenant, or, in development, the log."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, Self

import httpx
import msgspec
import structlog

from domain.plan import Provider
from services.credentials import headers_of, place_of, without
from services.encryption import Keyring, NoKey, NotGenuine
from services.processors.outward import Outward, Refused, body_of, printable
from services.settings import Settings

_Hide = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a provider. `body` is JSON; `key` is the same for every repetition of an attempt.

    `channel` is that of the task, which the credentials belong to.
    """

    tenant: str
    channel: str
    key: str
    provider: Provider
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a call."""

    succeeded: bool
    reference: str | None = None
    code: str | None = None
    message: str | None = None


class Calls(Protocol):
    """Makes calls, each within the time-out of its provider."""

    async def call(self, call: Call) -> Outcome:
        """Send a task to its provider."""


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a body: `v1=` and the HMAC-SHA256 of the timestamp, a dot and the body."""
    return "v1=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Providers:
    """Calls every kind of provider; an async context manager, bound to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._secrets = settings.dispatch_secrets
        self._keys = Keyring(settings.secret_key)
        self._outward = Outward(settings, "a provider")
        self._allow_console = settings.dispatch_console
        self._log = structlog.get_logger("console")

    async def __aenter__(self) -> Self:
        await self._outward.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._outward.__aexit__()

    async def call(self, call: Call) -> Outcome:
        """Send a task to its provider."""
        if call.provider.kind == "console":
            if not self._allow_console:
                detail = "the provider console is for development: it writes the task to the log of the service"
                return Outcome(False, None, "not-allowed", detail)
            self._log.info("dispatched", tenant=call.tenant, key=call.key, task=call.body.decode())
            return Outcome(True)
        deadline = asyncio.get_running_loop().time() + call.provider.timeout
        hide: _Hide = str
        try:
            credentials = self._credentials(call)
            hide = partial(without, credentials)
            async with asyncio.timeout_at(deadline):
                response = await self._respond(call, credentials)
            try:
                return _outcome(response.status_code, await _json_object(response, deadline), hide)
            finally:
                with suppress(httpx.HTTPError, OSError):
                    await response.aclose()
        except Refused as refused:
            return Outcome(False, None, refused.code, str(refused))
        except (TimeoutError, httpx.TimeoutException):
            return Outcome(False, None, "timeout", f"no answer within {call.provider.timeout:g} s")
        except httpx.TransportError as error:
            code = "unreachable" if isinstance(error, httpx.NetworkError) else "bad-answer"
            return Outcome(False, None, code, printable(hide(f"{type(error).__name__}: {error}")))

    def _credentials(self, call: Call) -> Mapping[str, str]:
        """Decrypt the credentials for a call; raises `Refused`."""
        if call.provider.credentials is None:
            return {}
        try:
            text = self._keys.decrypt(place_of(call.tenant, call.channel, call.provider.url), call.provider.credentials)
            found: Mapping[str, str] = msgspec.json.decode(text, type=dict[str, str])
        except NoKey as error:
            raise Refused("no-key", str(error)) from None
        except (NotGenuine, msgspec.MsgspecError):
            raise Refused("bad-credentials", "the credentials cannot be decrypted for this channel") from None
        return found

    async def _respond(self, call: Call, credentials: Mapping[str, str]) -> httpx.Response:
        """Send the request and return the response, unread and open."""
        headers = {**self._headers(call), **headers_of(credentials)}
        return await self._outward.post(call.tenant, call.provider.url, call.body, headers)

    def _headers(self, call: Call) -> dict[str, str]:
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Idempotency-Key": call.key,
            "X-Foldwork-Timestamp": timestamp,
        }
        if call.provider.secret is not None:
            secret = self._secrets.get(f"{call.tenant}/{call.provider.secret}")
            if secret is None:
                raise Refused("no-secret", f"the service has no secret named {call.provider.secret}")
            headers["X-Foldwork-Signature"] = signature(secret.get_secret_value(), timestamp, call.body)
        return headers


def _outcome(status: int, answer: Mapping[str, Any], hide: _Hide) -> Outcome:
    if 200 <= status <= 299:
        return Outcome(
            True, next((text for name in ("id", "reference") if (text := _reference(answer.get(name), hide))), None)
        )
    message = f"the provider answered {status}"
    more = next((text for name in ("message", "error", "detail") if (text := _text(answer.get(name), hide))), None)
    return Outcome(False, None, f"http-{status}", message if more is None else f"{message}: {more}")


async def _json_object(response: httpx.Response, deadline: float) -> Mapping[str, Any]:
    """Return the JSON object in the body, an empty one if there is none or it cannot be read."""
    # The status alone decides the outcome, so no error in the body may be raised.
    try:
        async with asyncio.timeout_at(deadline):
            value = msgspec.json.decode(await body_of(response))
    except (httpx.HTTPError, TimeoutError, OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: Any, hide: _Hide) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return printable(hide(str(value))) or None


def _reference(value: Any, hide: _Hide) -> str | None:
    """Return the provider's reference for the task, or None: one that had to be changed would be useless."""
    text = _text(value, hide)
    return text if text is not None and text == str(value).strip() else None
