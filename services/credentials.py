"""Credentials that a tenant gives for its provider: which there are, how a request carries them, where they are kept.

They are in the clear in two places only: in the process that receives them, until they are encrypted, and in the one
that calls the provider.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from domain.directory.settings import CREDENTIALS, DISPATCH
from services.encryption import Place

API_KEY, TOKEN, USERNAME, PASSWORD = NAMES = ("apiKey", "token", "username", "password")
LABELS = dict(zip(NAMES, ("API key", "Token", "User name", "Password"), strict=True))
MAX_LENGTH = 1000
_HIDDEN = "***"
# What can stand in a header as it is.
_PRINTABLE = re.compile(r"[ -~]*\Z")


class BadCredentials(Exception):
    """Credentials that no request can carry; `name` is the one at fault."""

    def __init__(self, detail: str, name: str = "") -> None:
        super().__init__(detail)
        self.name = name


def place_of(tenant: str, channel: str, url: str | None) -> Place:
    """Return where the credentials for a channel belong: they are for one address, and decrypt for no other."""
    return Place(tenant, DISPATCH, channel, CREDENTIALS, url or "")


def demand_usable(credentials: Any) -> None:
    """Raise `BadCredentials`, which never quotes a value, for what a request cannot carry."""
    if not isinstance(credentials, dict) or not credentials:
        raise BadCredentials(f"credentials are an object of {', '.join(NAMES)}")
    for name, value in credentials.items():
        if name not in NAMES:
            raise BadCredentials(f"the credentials are {', '.join(NAMES)}", str(name))
        fits = isinstance(value, str) and len(value) <= MAX_LENGTH and _PRINTABLE.match(value)
        if not fits or value != value.strip() or (not value and name != PASSWORD):
            raise BadCredentials(f"{name} is a text of up to {MAX_LENGTH} printable ASCII characters", name)
    if ":" in credentials.get(USERNAME, ""):
        raise BadCredentials("a username has no colon", USERNAME)
    if (USERNAME in credentials) != (PASSWORD in credentials):
        raise BadCredentials("username and password belong together", USERNAME)
    if TOKEN in credentials and USERNAME in credentials:
        raise BadCredentials("a request carries a token, or a username with its password", TOKEN)


def headers_of(credentials: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that carry credentials."""
    headers = {}
    if API_KEY in credentials:
        headers["x-api-key"] = credentials[API_KEY]
    if TOKEN in credentials:
        headers["Authorization"] = f"Bearer {credentials[TOKEN]}"
    if USERNAME in credentials:
        headers["Authorization"] = f"Basic {_basic(credentials)}"
    return headers


def without(credentials: Mapping[str, str], text: str) -> str:
    """Return a text of a provider without the credentials, which it may repeat."""
    secrets = [credentials[name] for name in (API_KEY, TOKEN, PASSWORD) if credentials.get(name)]
    if USERNAME in credentials:
        secrets.append(_basic(credentials))
    # The longest first, since one may be part of another.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def _basic(credentials: Mapping[str, str]) -> str:
    return base64.b64encode(f"{credentials[USERNAME]}:{credentials[PASSWORD]}".encode()).decode()
