"""Encryption of what the service keeps for a tenant and must be able to read again: AES-256-GCM with its own keys.

Every text belongs to a place, and only decrypts there. The nonce is a keyed digest of the place and the text, so the
same text at the same place encrypts to the same result: a request that is sent again is still the same command.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

_VERSION, _NONCE = "v1", 12


class NoKey(Exception):
    """The key that a text was encrypted with is not among the keys."""


class NotGenuine(Exception):
    """A text was changed since it was encrypted, or belongs to another place."""


class Place(NamedTuple):
    """Where an encrypted text belongs: a field of a directory entry of a tenant, and what it may be used for."""

    tenant: str
    kind: str
    id: str
    field: str
    use: str


class _Key:
    """A key of the service: the keys for texts and nonces that are derived from it, and its id."""

    def __init__(self, key: bytes) -> None:
        self.id = _digest(key, b"id")[:4].hex()
        self._texts = AESGCM(_digest(key, b"texts"))
        self._nonces = _digest(key, b"nonces")

    def encrypt(self, place: bytes, text: bytes) -> bytes:
        # No part can be taken for another: a place is as long as it says.
        nonce = _digest(self._nonces, b"%d\0%b%b" % (len(place), place, text))[:_NONCE]
        return nonce + self._texts.encrypt(nonce, text, place)

    def decrypt(self, place: bytes, found: bytes) -> bytes:
        return self._texts.decrypt(found[:_NONCE], found[_NONCE:], place)


class Keyring:
    """The keys of the service. The first one encrypts, all decrypt, so that a key can be replaced."""

    def __init__(self, keys: Iterable[SecretStr]) -> None:
        found = [_Key(base64.b64decode(key.get_secret_value(), validate=True)) for key in keys]
        self._first = found[0] if found else None
        self._by_id = {key.id: key for key in found}

    def encrypt(self, place: Place, text: str) -> str:
        """Return a text encrypted, with the id of the key; raises `NoKey` if there is none."""
        if self._first is None:
            raise NoKey("the service has no key to encrypt with")
        found = base64.urlsafe_b64encode(self._first.encrypt(_bytes(place), text.encode()))
        return f"{_VERSION}.{self._first.id}.{found.decode().rstrip('=')}"

    def decrypt(self, place: Place, encrypted: str) -> str:
        """Return the text that was encrypted for this place; raises `NoKey` or `NotGenuine`."""
        version, key_id, found = [*encrypted.split("."), "", ""][:3]
        key = self._by_id.get(key_id)
        if version != _VERSION:
            raise NotGenuine
        if key is None:
            raise NoKey(f"the service has no key with the id {key_id}")
        try:
            return key.decrypt(_bytes(place), base64.urlsafe_b64decode(found + "=" * (-len(found) % 4))).decode()
        except (InvalidTag, ValueError, binascii.Error):
            raise NotGenuine from None


def _digest(key: bytes, what: bytes) -> bytes:
    return hmac.new(key, b"foldwork " + what, hashlib.sha256).digest()


def _bytes(place: Place) -> bytes:
    # None of the parts can contain a NUL.
    return "\0".join(place).encode()
