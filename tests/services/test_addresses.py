"""Which addresses a provider may have: those of the internet, and none of a block with a special purpose."""

from __future__ import annotations

import ipaddress

import pytest

from services.processors.addresses import is_loopback, is_public

PUBLIC = (
    "1.1.1.1",
    "93.184.215.14",
    "100.63.255.255",
    "100.128.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
    "2001:200::1",
    "2001:4860:4860::8888",
    "::ffff:93.184.215.14",
    "64:ff9b::5db8:d70e",
    "2002:5db8:d70e::1",
)
# The blocks of both registries of IANA; of each the first and the last address are asked for.
BLOCKS = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.0.0/29",
    "192.0.0.8/32",
    "192.0.0.9/32",
    "192.0.0.10/32",
    "192.0.0.170/31",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "::1/128",
    "::/128",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001::/32",
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:1::3/128",
    "2001:2::/48",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:30::/28",
    "2001:db8::/32",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "4000::/3",
    "::/96",
]
# Metadata of Azure, AWS and others, Oracle Cloud, Alibaba Cloud, AWS and Google Cloud over IPv6.
METADATA = ("168.63.129.16", "169.254.169.254", "192.0.0.192", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254")
INSIDE = ("127.0.0.1", "10.0.0.1", "169.254.169.254", "168.63.129.16", "192.0.0.192", "224.0.0.1", "0.0.0.0")


def embedded(text: str) -> list[str]:
    """Return the ways to write an IPv4 address as an IPv6 one."""
    number = int(ipaddress.IPv4Address(text))
    return [
        str(ipaddress.IPv6Address(wrapped))
        for wrapped in (
            0xFFFF << 32 | number,
            0x64FF9B << 96 | number,
            0x2002 << 112 | number << 80 | 1,
            # Teredo has the address of the client inverted.
            0x2001 << 112 | (number ^ 0xFFFFFFFF),
            number,
        )
    ]


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("block", BLOCKS)
def test_an_address_of_a_special_block_is_not(block: str) -> None:
    found = ipaddress.ip_network(block)
    for address in (found[0], found[-1]):
        assert not is_public(str(address)), address


@pytest.mark.parametrize("address", [*METADATA, "fe80::1%eth0", "::ffff:169.254.169.254%1"])
def test_nor_is_what_a_cloud_serves_to_its_machines(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", INSIDE)
def test_nor_is_one_that_is_embedded_in_another(address: str) -> None:
    assert len(set(embedded(address))) == 5
    for wrapped in embedded(address):
        assert not is_public(wrapped), wrapped


def test_loopback_is_found_in_every_form() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("10.0.0.1", "::", "::ffff:10.0.0.1", "fe80::1%lo")))
