"""HTTP requests to URLs that tenants choose.

They must not reach internal addresses (SSRF): the addresses that a name resolves to are checked, and the connection is
made to one of exactly these. No redirect is followed, and no proxy is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import httpx

from services.processors.addresses import Resolver, is_loopback, is_public
from services.settings import Settings

MAX_ANSWER = 64 * 1024
MAX_MESSAGE = 200
# Addresses that are tried for one name within the time-out.
_MAX_ADDRESSES = 4
# Names that are looked up at the same time, and those of one tenant.
MAX_LOOKUPS, MAX_LOOKUPS_OF_TENANT = 64, 4


class Refused(Exception):
    """The request must not be made."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Outward:
    """Sends requests; an async context manager, bound to one event loop. `noun` names the receiver, as "a provider"."""

    def __init__(self, settings: Settings, noun: str) -> None:
        self._hosts = frozenset(host.lower() for host in settings.dispatch_hosts)
        self._allow_plaintext = "providers" in settings.allow_plaintext
        self._noun = noun

    async def __aenter__(self) -> Self:
        self._resolver = Resolver(MAX_LOOKUPS, MAX_LOOKUPS_OF_TENANT)
        # No proxy from the environment, which would be used instead of the checked address, and no keep-alive, because
        # one address may serve several names.
        self._client = httpx.AsyncClient(
            verify=httpx.create_ssl_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113 - there is one around the whole call
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def post(self, tenant: str, text: str | None, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Send a request, and return the response, unread and open; raises `Refused`, and what httpx raises."""
        url = self._parsed(text)
        host = url.raw_host.decode("ascii")
        addresses = await self._addresses(tenant, url, host)
        sent = {
            "Accept-Encoding": "identity", "User-Agent": "foldwork", **headers, "Host": url.netloc.decode("ascii")
        }  # fmt: skip
        for last, address in enumerate(addresses, 1 - len(addresses)):
            request = self._client.build_request("POST", url.copy_with(host=address), content=body, headers=sent)
            # The certificate is checked for the name, although the connection is made to an address.
            request.extensions["sni_hostname"] = host
            try:
                return await self._client.send(request, stream=True)
            except httpx.ConnectError:
                if last == 0:
                    raise
        raise AssertionError("there is at least one address")

    async def _addresses(self, tenant: str, url: httpx.URL, host: str) -> list[str]:
        """Resolve and check the addresses; raises `Refused`."""
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            addresses = await self._resolver.resolve(tenant, host, port)
        except (OSError, UnicodeError):
            raise Refused("unreachable", f"{printable(host)} cannot be resolved") from None
        if host.lower() not in self._hosts and not all(is_public(address) for address in addresses):
            raise Refused("not-allowed", f"{printable(host)} is not a public address")
        local = all(is_loopback(address) for address in addresses)
        if url.scheme != "https" and not local and not self._allow_plaintext:
            raise Refused("not-allowed", f"{self._noun} outside loopback must use https")
        return addresses[:_MAX_ADDRESSES]

    def _parsed(self, text: str | None) -> httpx.URL:
        try:
            url = httpx.URL(text or "")
        except httpx.InvalidURL:
            raise Refused("not-allowed", f"the url of {self._noun} is not a valid URL") from None
        if url.scheme not in ("http", "https") or not url.raw_host or url.userinfo:
            raise Refused("not-allowed", f"the url of {self._noun} must be an http:// or https:// URL")
        return url


async def body_of(response: httpx.Response) -> bytes:
    """Return the body without decoding it, or nothing if it is too long.

    It is not decompressed: no encoding was requested, and a few bytes could expand to gigabytes.
    """
    body = await start_of(response, MAX_ANSWER + 1)
    return body if len(body) <= MAX_ANSWER else b""


async def start_of(response: httpx.Response, most: int) -> bytes:
    """Return the first bytes of the body, without decoding it."""
    body = bytearray()
    async for part in response.aiter_raw(most):
        body += part
        if len(body) >= most:
            break
    return bytes(body[:most])


def printable(text: str) -> str:
    """Return a text from outside in a form that can be recorded: printable and of limited length."""
    return "".join(mark if mark.isprintable() else " " for mark in text[:MAX_MESSAGE]).strip()
