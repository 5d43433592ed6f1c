"""What a client may choose from: attributes, providers with their channels, and statuses of customers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field
from starlette.responses import Response

from domain.directory.fields import PROVIDERS, ProviderKind
from domain.directory.settings import CALLER_PROVIDED, CHANNELS, SOURCES
from domain.limits import Comment, Id, Label
from projections import directory
from services.credentials import LABELS, USERNAME
from services.http.core.call import Call, as_json
from services.http.core.entities import entry
from services.http.core.errors import ApiError
from services.http.core.list_view import ListView
from services.http.core.models import From, Json, To
from services.http.core.operation import Operation
from services.http.core.parameters import MinPosition, settled
from services.http.core.shown import CamelView, MaybeTime, Time
from services.http.dispatch.activity_config import AttributeKey, DispatchProvider, ProviderSettings
from services.http.dispatch.dialect import MANAGE, SPOKEN, VIEW
from services.http.dispatch.errors import Demanded, DispatchRequest
from services.http.dispatch.upserts import all_of

# Attributes.


class KnownAttribute(AttributeKey):
    """An attribute that activities may carry."""

    id: str = Field(..., examples=["commerce_info"])
    description: str | None = Field(..., examples=["Taken from commerce"])


class KnownAttributes(ListView):
    """The attributes, in order of their keys"""

    root: list[KnownAttribute]


def _attributes(entries: Iterable[Mapping[str, Any]]) -> list[Json]:
    """Return the tenant's attributes, and those that a policy needs no source for."""
    sources: dict[str, str | None] = {f"{source}_info": source for source in SOURCES}
    for found in entries:
        fields = found["fields"]
        sources[found["id"]] = None if fields["strategy"] == CALLER_PROVIDED else fields.get("source")
    return [
        {"id": key, "description": "Provided by the caller" if source is None else f"Taken from {source}"}
        for key, source in sorted(sources.items())
    ]


async def _attribute_keys(call: Call) -> Response:
    return as_json(KnownAttributes.show(_attributes(await all_of(call, "attribute"))))


# Providers: each takes what goes out over any channel of the tenant.


class SettingSchema(CamelView):
    """A setting of a provider."""

    key: str = Field(..., examples=["secret"])
    label: str = Field(..., examples=["Secret"])
    type: str = Field(..., examples=["text"])
    required: bool


class Channel(CamelView):
    """A channel of a provider."""

    channel: str = Field(..., examples=["SALESMAN"])
    credential_schema: list[SettingSchema] = Field(..., examples=[[]])
    settings_schema: list[SettingSchema]


class ChannelDefinition(Channel):
    """A channel of a provider."""

    id: str = Field(..., examples=["http-SALESMAN"])
    dispatch_provider_id: ProviderKind
    created_at: MaybeTime = Field(..., description="Null: it is part of the service")
    updated_at: MaybeTime = Field(..., description="Null: it is part of the service")


class ChannelDefinitions(ListView):
    """The channels"""

    root: list[ChannelDefinition]


class KnownProvider(DispatchProvider):
    """Who takes what is dispatched."""

    id: ProviderKind
    protocol_type: str = Field(..., examples=["REST"])
    is_active: bool
    channel_definitions: list[Channel]


class KnownProviders(ListView):
    """The providers"""

    root: list[KnownProvider]


_PROTOCOLS: Mapping[str, str] = {"http": "REST", "console": "LOG"}


def _settings(provider: str) -> list[Json]:
    if provider == "console":
        return []
    return [
        {
            "key": name,
            "label": name.replace("_", " ").capitalize(),
            "type": "text" if "str" in str(field.annotation) else "number",
            "required": field.is_required(),
        }
        for name, field in ProviderSettings.model_fields.items()
    ]


def _credentials(provider: str) -> list[Json]:
    if provider == "console":
        return []
    return [
        {"key": name, "label": label, "type": "text" if name == USERNAME else "password", "required": False}
        for name, label in LABELS.items()
    ]


async def _channels(call: Call, provider: str) -> list[Json]:
    """Return the channels of a provider, which are those of the tenant."""
    rows = await call.service.pool.fetch(*directory.get(call.caller.tenant, "policy", "channels"))
    own = [found["fields"]["value"] for found in map(directory.resource, rows) if not found["retired"]]
    return [
        {
            "id": f"{provider}-{channel}",
            "dispatch_provider_id": provider,
            "channel": channel,
            "credential_schema": _credentials(provider),
            "settings_schema": _settings(provider),
            "created_at": None,
            "updated_at": None,
        }
        for channel in (own[0] if own else CHANNELS)
    ]


async def _providers(call: Call) -> Response:
    await settled(call, MinPosition.read(call), directory.NAME)
    found = [
        {
            "id": provider,
            "fields": {"provider": provider},
            "protocol_type": _PROTOCOLS[provider],
            "is_active": True,
            "channel_definitions": await _channels(call, provider),
        }
        for provider in PROVIDERS
    ]
    return as_json(KnownProviders.show(found))


async def _channel_definitions(call: Call) -> Response:
    await settled(call, MinPosition.read(call), directory.NAME)
    if call.id not in PROVIDERS:
        raise ApiError("not-found", "there is no provider of this id")
    return as_json(ChannelDefinitions.show(await _channels(call, call.id)))


# Statuses of customers.


class NewRetentionStatus(DispatchRequest):
    """A status that a customer may have."""

    code: Annotated[Id, Demanded, To("id")]
    label: Annotated[Label, Demanded, To("fields/label")] = Field(..., min_length=1)
    description: Annotated[Comment | None, To("fields/description")] = None

    example: ClassVar[Json] = {"code": "churned", "label": "Churned", "description": "Customer has left"}


class RetentionStatus(CamelView):
    """A status that a customer may have"""

    id: str = Field(..., examples=["churned"])
    code: Annotated[str, From("id")] = Field(..., examples=["churned"])
    label: Annotated[str, From("fields/label")] = Field(..., examples=["Churned"])
    description: Annotated[str | None, From("fields/description", default=None)]
    is_active: Annotated[bool, From("retired", lambda retired, _: not retired)]
    created_at: Time
    updated_at: Time


class RetentionStatuses(ListView):
    """The statuses, in order of their codes"""

    root: list[RetentionStatus]


class ListStatuses(MinPosition):
    """Which statuses are asked for."""

    active_only: bool = Field(False, description="Without those that were retired")


async def _statuses(call: Call) -> Response:
    query = ListStatuses.read(call)
    return as_json(RetentionStatuses.show(await all_of(call, "retention", query, retired=not query.active_only)))


_PROVIDERS, _STATUSES = "/api/dispatch-providers", "/api/user-retention-statuses"
OPERATIONS = (
    Operation(
        SPOKEN, "GET", "/api/activity-config/attribute-keys", VIEW, "dispatch_list_attribute_keys",
        "List the attributes that activities may carry",
        description="The tenant's own, and those that are called after where they come from.",
        query=MinPosition, handler=_attribute_keys, view=KnownAttributes,
    ),
    Operation(
        SPOKEN, "GET", _PROVIDERS, VIEW, "dispatch_list_providers", "List the providers, with the tenant's channels",
        query=MinPosition, handler=_providers, view=KnownProviders,
    ),
    Operation(
        SPOKEN, "GET", f"{_PROVIDERS}/{{id}}/channel-definitions", VIEW, "dispatch_list_channel_definitions",
        "List the channels of a provider",
        query=MinPosition, handler=_channel_definitions, view=ChannelDefinitions,
    ),
    Operation(
        SPOKEN, "GET", _STATUSES, VIEW, "dispatch_list_retention_statuses",
        "List the statuses that a customer may have",
        query=ListStatuses, handler=_statuses, view=RetentionStatuses,
    ),
    Operation(
        SPOKEN, "POST", _STATUSES, MANAGE, "dispatch_create_retention_status",
        "Create a status that a customer may have",
        description="The same again is accepted and changes nothing.",
        request=NewRetentionStatus, command="directory.register", entity=entry("retention"), view=RetentionStatus,
        status=201, extra_data=lambda _: {"kind": "retention"},
    ),
)  # fmt: skip
