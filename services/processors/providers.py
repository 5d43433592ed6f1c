"""Whom a dispatched task is given to: a tenant's HTTP address, or the log. A call ends in an outcome, not in an error.

A tenant chooses the address, so it may lead nowhere that the tenant could not reach itself: what a name resolves to is
checked, and just that is connected to.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, Self

import httpx
import msgspec
import structlog

from domain.plan import Provider
from services.settings import Settings

MAX_ANSWER = 64 * 1024
MAX_SAID = 200
# A name may stand for many addresses; a call has time for a few.
_MOST_ADDRESSES = 4
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_RELAYS = ipaddress.ip_network("192.88.99.0/24")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a provider. `body` is JSON; `key` is the same each time that the same attempt is made again."""

    tenant: str
    key: str
    provider: Provider
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call."""

    succeeded: bool
    reference: str | None = None
    code: str | None = None
    message: str | None = None


class Calls(Protocol):
    """Whoever makes calls. Each ends within the provider's time-out."""

    async def call(self, call: Call) -> Outcome:
        """Give a task to its provider, and return what came of it."""


class _Refused(Exception):
    """The call is not to be made."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return what a provider checks a body by: `v1=` and the HMAC-SHA256 over the timestamp, a dot and the body."""
    return "v1=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def is_public(address: str) -> bool:
    """Tell whether an IP address lies in the open internet, also where it is one of IPv4 in the clothes of IPv6."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        # Python takes site-local addresses, which were private once, for global ones.
        if found.teredo is not None or found.is_site_local:
            return False
        if inner is not None:
            found = inner
    if found in _RELAYS:
        return False
    return found.is_global and not found.is_multicast and not found.is_reserved


class Providers:
    """Calls every kind of provider; an async context, which belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._secrets = settings.dispatch_secrets
        self._hosts = frozenset(host.lower() for host in settings.dispatch_hosts)
        self._allow_plaintext = settings.allow_plaintext
        self._log = structlog.get_logger("console")

    async def __aenter__(self) -> Self:
        # No proxy of the environment, which would be connected to instead of what was checked; no connection is kept,
        # since one address may serve several names.
        self._client = httpx.AsyncClient(
            verify=httpx.create_ssl_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113 - a call as a whole has one
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def call(self, call: Call) -> Outcome:
        """Give a task to its provider, and return what came of it."""
        if call.provider.kind == "console":
            self._log.info("dispatched", tenant=call.tenant, key=call.key, task=call.body.decode())
            return Outcome(True)
        deadline = asyncio.get_running_loop().time() + call.provider.timeout
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._answered(call)
            try:
                return _outcome(response.status_code, await _told(response, deadline))
            finally:
                with suppress(httpx.HTTPError, OSError):
                    await response.aclose()
        except _Refused as refused:
            return Outcome(False, None, refused.code, str(refused))
        except (TimeoutError, httpx.TimeoutException):
            return Outcome(False, None, "timeout", f"no answer within {call.provider.timeout:g} s")
        except httpx.TransportError as error:
            code = "unreachable" if isinstance(error, httpx.NetworkError) else "bad-answer"
            return Outcome(False, None, code, said(f"{type(error).__name__}: {error}"))

    async def _answered(self, call: Call) -> httpx.Response:
        """Return the head of the answer; the body is still to be read, and the answer to be closed."""
        headers = self._headers(call)
        url = _parsed(call.provider.url)
        host = url.raw_host.decode("ascii")
        addresses = await self._addresses(url, host)
        headers["Host"] = url.netloc.decode("ascii")
        for last, address in enumerate(addresses, 1 - len(addresses)):
            request = self._client.build_request(
                "POST", url.copy_with(host=address), content=call.body, headers=headers
            )
            # The certificate must be the name's, though the address is connected to.
            request.extensions["sni_hostname"] = host
            try:
                return await self._client.send(request, stream=True)
            except httpx.ConnectError:
                if last == 0:
                    raise
        raise AssertionError("there is at least one address")

    def _headers(self, call: Call) -> dict[str, str]:
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "foldwork",
            "Idempotency-Key": call.key,
            "X-Foldwork-Timestamp": timestamp,
        }
        if call.provider.secret is not None:
            secret = self._secrets.get(f"{call.tenant}/{call.provider.secret}")
            if secret is None:
                raise _Refused("no-secret", f"the service has no secret named {call.provider.secret}")
            headers["X-Foldwork-Signature"] = signature(secret.get_secret_value(), timestamp, call.body)
        return headers

    async def _addresses(self, url: httpx.URL, host: str) -> list[str]:
        """Return what to connect to, all of it checked; raises `_Refused`."""
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            addresses = await _resolved(host, port)
        except (OSError, UnicodeError):
            raise _Refused("unreachable", f"{said(host)} cannot be resolved") from None
        if host.lower() not in self._hosts and not all(is_public(address) for address in addresses):
            raise _Refused("not-allowed", f"{said(host)} is not a public address")
        local = all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)
        if url.scheme != "https" and not local and not self._allow_plaintext:
            raise _Refused("not-allowed", "off loopback a provider is called over https")
        return addresses[:_MOST_ADDRESSES]


def _parsed(text: str | None) -> httpx.URL:
    try:
        url = httpx.URL(text or "")
    except httpx.InvalidURL:
        raise _Refused("not-allowed", "the provider's url is none") from None
    if url.scheme not in ("http", "https") or not url.raw_host or url.userinfo:
        raise _Refused("not-allowed", "the provider's url is no http:// or https:// address")
    return url


async def _resolved(host: str, port: int) -> list[str]:
    """Return the addresses of a host; each look-up has a thread that nobody waits for, however long it takes."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(found: list[str] | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found or [])

    def look_up() -> None:
        found: list[str] | None = None
        error: Exception | None = None
        try:
            every = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(str(each[4][0]) for each in every))
        except (OSError, UnicodeError) as failure:
            error = failure
        try:
            loop.call_soon_threadsafe(settle, found, error)
        except RuntimeError:
            return  # The loop has ended meanwhile.

    threading.Thread(target=look_up, name="resolve", daemon=True).start()
    addresses = await answer
    if not addresses:
        raise OSError("no address")
    return addresses


def _outcome(status: int, told: Mapping[str, Any]) -> Outcome:
    if 200 <= status <= 299:
        return Outcome(True, next((text for name in ("id", "reference") if (text := _reference(told.get(name)))), None))
    message = f"the provider answered {status}"
    more = next((text for name in ("message", "error", "detail") if (text := _text(told.get(name)))), None)
    return Outcome(False, None, f"http-{status}", message if more is None else f"{message}: {more}")


async def _told(response: httpx.Response, deadline: float) -> Mapping[str, Any]:
    """Return the JSON object in an answer's body; an empty one when it holds nothing of use, whatever the reason."""
    # The status alone says what became of the task, so nothing in the body, nor the way it ends, may raise.
    try:
        async with asyncio.timeout_at(deadline):
            value = msgspec.json.decode(await _body(response))
    except (httpx.HTTPError, TimeoutError, OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


async def _body(response: httpx.Response) -> bytes:
    """Return the answer's body as it was sent, nothing of one that is too long.

    It is not decompressed: no encoding was asked for, and a few bytes could become gigabytes.
    """
    body = bytearray()
    async for part in response.aiter_raw(MAX_ANSWER):
        body += part
        if len(body) > MAX_ANSWER:
            return b""
    return bytes(body)


def _text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return said(str(value)) or None


def _reference(value: Any) -> str | None:
    """Return the provider's own name of the task; a part of a longer one would name nothing."""
    text = _text(value)
    return text if text is not None and text == str(value).strip() else None


def said(text: str) -> str:
    """Return another's words as they can be recorded: printable, and not too many."""
    return "".join(mark if mark.isprintable() else " " for mark in text[:MAX_SAID]).strip()
