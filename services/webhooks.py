"""Webhooks as the Standard Webhooks specification has them: secrets, and the headers that a delivery is signed with."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from urllib.parse import urlsplit

from services.encryption import Place

_PREFIX = "whsec_"
# The bytes of a secret, by the specification, and of one that is made here.
_LEAST, _MOST, _MADE = 24, 64, 32
# Webhooks of a tenant, and characters of a URL.
MAX_WEBHOOKS, MAX_URL = 100, 2000
# Seconds for which the secret before signs too, unless others are given, and the most.
OVERLAP, MAX_OVERLAP = 86_400, 604_800
ACTIVE, PAUSED, DISABLED = "active", "paused", "disabled"
PENDING, DELIVERED, PARKED = DELIVERY_STATES = ("pending", "delivered", "parked")


class BadSecret(ValueError):
    """A text that is no secret; the message does not quote it."""


class BadUrl(ValueError):
    """A text that is no URL of a receiver."""


def new_secret() -> str:
    """Return a new secret of 32 random bytes."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_MADE)).decode()


def key_of(secret: str) -> bytes:
    """Return the bytes of a secret; raises `BadSecret`."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX).encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        key = b""
    if not secret.startswith(_PREFIX) or not _LEAST <= len(key) <= _MOST:
        raise BadSecret(f"a secret is {_PREFIX} and {_LEAST} to {_MOST} bytes in base64")
    return key


def demand_url(url: str) -> None:
    """Raise `BadUrl` for what is no address that a webhook may have."""
    if len(url) > MAX_URL:
        raise BadUrl(f"a url has at most {MAX_URL} characters")
    try:
        parts = urlsplit(url)
        found = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        found = False
    if not found or not url.isascii() or not url.isprintable() or " " in url:
        raise BadUrl("a url is an https:// URL in ASCII, or http:// for a receiver on loopback")
    if "@" in parts.netloc or parts.fragment:
        raise BadUrl("a url has no user, no password and no fragment")


def host_of(url: str) -> str:
    """Return the host of a URL, whose other parts may be confidential."""
    return urlsplit(url).hostname or ""


def place_of(tenant: str, webhook: str) -> Place:
    """Return where the secret of a webhook belongs, which decrypts nowhere else."""
    return Place(tenant, "webhook", webhook, "secret", "")


def signed(event_id: str, timestamp: int, body: bytes, secrets: Iterable[str]) -> dict[str, str]:
    """Return the headers of a delivery, signed with each of the secrets; `timestamp` is in seconds."""
    text = f"{event_id}.{timestamp}.".encode() + body
    found = (base64.b64encode(hmac.new(key_of(secret), text, hashlib.sha256).digest()) for secret in secrets)
    signature = " ".join(f"v1,{each.decode()}" for each in found)
    return {"webhook-id": event_id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}
