"""The addresses that the names of providers resolve to, and which of them are public."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections import Counter
from ipaddress import IPv4Address, IPv6Address, ip_network

# Every block of the registries at https://www.iana.org/assignments/iana-ipv4-special-registry and, for IPv6,
# iana-ipv6-special-registry, as of October 2025, also the few that are globally reachable: no provider is in them. Not
# `ipaddress.is_global`, which differs between patch releases of Python. Blocks outside 2000::/3 are left out, since no
# global unicast address is outside.
_SPECIAL_4 = (
    "0.0.0.0/8",  # this network
    "10.0.0.0/8",  # private
    "100.64.0.0/10",  # shared by carriers; metadata of Alibaba Cloud
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link-local; metadata of most clouds
    "172.16.0.0/12",  # private
    "192.0.0.0/24",  # IETF protocols; metadata of Oracle Cloud
    "192.0.2.0/24",  # documentation
    "192.31.196.0/24",  # AS112
    "192.52.193.0/24",  # AMT
    "192.88.99.0/24",  # relays of 6to4
    "192.168.0.0/16",  # private
    "192.175.48.0/24",  # AS112
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, and broadcast
)
_SPECIAL_6 = (
    "2001::/23",  # IETF protocols, among them Teredo, benchmarks and ORCHID
    "2001:db8::/32",  # documentation
    "2620:4f:8000::/48",  # AS112
    "3fff::/20",  # documentation
)
# What clouds serve to their machines at addresses that look public.
_CLOUDS = ("168.63.129.16/32",)  # Azure
_BLOCKS_4 = tuple(ipaddress.IPv4Network(block) for block in (*_SPECIAL_4, *_CLOUDS))
_BLOCKS_6 = tuple(ipaddress.IPv6Network(block) for block in _SPECIAL_6)
_GLOBAL_UNICAST = ip_network("2000::/3")
_MAPPED, _NAT64, _6TO4 = ip_network("::ffff:0:0/96"), ip_network("64:ff9b::/96"), ip_network("2002::/16")


def is_public(address: str) -> bool:
    """Whether a provider may have this address; an IPv4 address embedded in an IPv6 one counts as itself."""
    found = _unwrapped(address)
    if isinstance(found, IPv4Address):
        return not any(found in block for block in _BLOCKS_4)
    return found in _GLOBAL_UNICAST and not any(found in block for block in _BLOCKS_6)


def is_loopback(address: str) -> bool:
    """Whether an address is of this machine."""
    return _unwrapped(address).is_loopback


def _unwrapped(address: str) -> IPv4Address | IPv6Address:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        if found in _MAPPED or found in _NAT64:
            return IPv4Address(int(found) & 0xFFFFFFFF)
        if found in _6TO4:
            return IPv4Address(int(found) >> 80 & 0xFFFFFFFF)
    return found


class Resolver:
    """Resolves hosts in threads; one that takes long goes on when its caller gives up, and counts until it ends.

    Bound to one event loop.
    """

    def __init__(self, most: int, most_of_tenant: int) -> None:
        self._most = most
        self._most_of_tenant = most_of_tenant
        self._running: Counter[str] = Counter()
        self._ended = asyncio.Event()

    async def resolve(self, tenant: str, host: str, port: int) -> list[str]:
        """Return the addresses of a host; raises `OSError` or `UnicodeError`."""
        while self._running[tenant] >= self._most_of_tenant or self._running.total() >= self._most:
            self._ended.clear()
            await self._ended.wait()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def settle(found: list[str], error: Exception | None) -> None:
            self._running[tenant] -= 1
            self._running += Counter()  # drops zeros
            self._ended.set()
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(found)

        def look_up() -> None:
            found: list[str] = []
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

        self._running[tenant] += 1
        threading.Thread(target=look_up, name="resolve", daemon=True).start()
        addresses = await answer
        if not addresses:
            raise OSError("no address")
        return addresses
