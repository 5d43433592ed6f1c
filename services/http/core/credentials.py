"""Encrypting credentials of providers before they become part of a command, whichever endpoint they come by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from domain.directory.settings import CREDENTIALS, DISPATCH
from domain.streams import ID
from services.commands.wire import pointer_of
from services.credentials import BadCredentials, demand_usable, place_of
from services.encryption import Keyring, NoKey
from services.http.core.errors import ApiError

# The same credentials are encrypted as the same text, whatever the order of their names.
_encode = msgspec.json.Encoder(order="deterministic").encode


def encrypted(keys: Keyring, tenant: str, command: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a command's data with the credentials in it encrypted; raises `ApiError`."""
    fields = data.get("fields")
    if not command.startswith("directory.") or data.get("kind") != DISPATCH or not isinstance(fields, Mapping):
        return data
    given = fields.get(CREDENTIALS)
    if given is None:
        return data
    entry_id = data.get("id")
    if not isinstance(entry_id, str) or not ID.match(entry_id):
        raise ApiError("invalid", "an entry with credentials is given its id, a channel", "/id")
    if isinstance(given, Mapping):
        # As everywhere, null is what is not given.
        given = {name: value for name, value in given.items() if value is not None}
    url = fields.get("url")
    if command == "directory.change" and "url" not in fields:
        raise ApiError("invalid", "credentials are given together with the url that they are for", "/fields/url")
    try:
        demand_usable(given)
        text = keys.encrypt(place_of(tenant, entry_id, url if isinstance(url, str) else None), _encode(given).decode())
    except (BadCredentials, NoKey) as error:
        name = pointer_of((error.name,)) if isinstance(error, BadCredentials) and error.name else ""
        raise ApiError("invalid", str(error), f"/fields/{CREDENTIALS}{name}") from None
    return {**data, "fields": {**fields, CREDENTIALS: text}}
