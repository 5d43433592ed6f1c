"""Credentials for the provider of a channel: given by name, encrypted by the core, and never shown."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from domain.limits import Text
from services.credentials import MAX_LENGTH
from services.http.core.models import From, Json
from services.http.dispatch.errors import DispatchRequest

_Text = Annotated[str, Text(1, MAX_LENGTH)]


class ProviderCredentials(DispatchRequest):
    """What a request to the provider is authenticated with; encrypted at once, and never shown."""

    apiKey: _Text | None = Field(None, description="Sent as x-api-key")  # noqa: N815
    token: _Text | None = Field(None, description="Sent as Authorization: Bearer")
    username: _Text | None = Field(None, description="Sent with the password as Authorization: Basic; without a colon")
    password: Annotated[str, Text(0, MAX_LENGTH)] | None = Field(None, description="Sent with the username")

    example: ClassVar[Json] = {"apiKey": "sk-xxx"}


def _are_set(found: Any, _: Any) -> bool:
    return found is not None


# How credentials are shown.
AreSet = Annotated[bool, From("fields/credentials", _are_set, default=None)]
