"""The addresses that the names of providers resolve to, and which of them are public."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_RELAYS = ipaddress.ip_network("192.88.99.0/24")


def is_public(address: str) -> bool:
    """Whether an IP address is globally routable; an IPv4 address embedded in an IPv6 one counts as itself."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        # Python treats the deprecated site-local addresses as global.
        if found.teredo is not None or found.is_site_local:
            return False
        if inner is not None:
            found = inner
    if found in _RELAYS:
        return False
    return found.is_global and not found.is_multicast and not found.is_reserved


async def resolved(host: str, port: int) -> list[str]:
    """Resolve a host in a thread of its own, which is abandoned when the caller gives up."""
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
