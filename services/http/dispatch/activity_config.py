"""What a tenant configures of dispatch in the original's words: plain arrays, and a POST that creates or changes.

The entries are those of `configuration`, one for each attribute and for each channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from domain.directory.fields import MAX_CRITERIA, MAX_URL, ProviderKind, Strategy
from domain.directory.settings import CALLER_PROVIDED, MAX_SECONDS, MAX_TIMEOUT, MIN_TIMEOUT, SOURCES
from domain.limits import Flow, Id, Items, Text, Whole
from domain.plan import ON_CREATION, CriterionType, TargetStrategy
from services.http.core.list_view import ListView
from services.http.core.models import From, Json, To, refuse
from services.http.core.shown import CamelView
from services.http.dispatch.credentials import AreSet, ProviderCredentials
from services.http.dispatch.errors import Demanded, DispatchRequest
from services.http.dispatch.models import NewTargetCriterion

_DEFAULT = "default"
COMMERCE_REP, OWNER = "COMMERCE_REP", "OWNER"
ResolverType = Literal["INTERNAL_SERVICE", "CALLER_PROVIDED"]


class Upsert(DispatchRequest):
    """A body that creates an entry, or changes the one that is there."""

    def data(self) -> Json:
        """Return the command's data, which has fields even if they are none."""
        return {"fields": {}, **super().data()}


# Attributes.


class AttributePolicyUpsert(Upsert):
    """How an attribute gets its value."""

    renamed = {  # noqa: RUF012
        "attributeKeyId": "attribute_key_id",
        "strategy": "resolution_strategy",
        "resolverType": "resolver_type",
    }
    attribute_key_id: Annotated[Id, Demanded, To("id")]
    resolution_strategy: Annotated[Strategy, To("fields/strategy")]
    resolver_type: Annotated[ResolverType, To(None)] = Field(..., description="No hook of a client is called")
    source: Annotated[Flow | None, To("fields/source")] = Field(
        None, description="Where the value comes from, such as commerce.name; commerce_info comes from commerce"
    )
    fallback: Annotated[Any, To("fields/fallback")] = Field(None, description="The value when there is no other")

    example: ClassVar[Json] = {
        "attribute_key_id": "commerce_info",
        "resolution_strategy": "UPFRONT",
        "resolver_type": "INTERNAL_SERVICE",
    }

    @model_validator(mode="after")
    def _demand_one_resolver(self) -> Self:
        if self.resolver_type == CALLER_PROVIDED and self.resolution_strategy != CALLER_PROVIDED:
            refuse("invalid", "what the caller provides has the strategy CALLER_PROVIDED", "/resolution_strategy")
        return self

    def data(self) -> Json:
        """Return the command's data; what is called after a source comes from it."""
        found = super().data()
        source = self.attribute_key_id.removesuffix("_info")
        if source in SOURCES and source != self.attribute_key_id and self.resolution_strategy != CALLER_PROVIDED:
            found["fields"].setdefault("source", source)
        return found


class AttributeKey(CamelView):
    """What an attribute is called."""

    key: Annotated[str, From("id")] = Field(..., examples=["commerce_info"])
    label: Annotated[str, From("id", lambda key, _: key.replace("_", " ").title())] = Field(
        ..., examples=["Commerce Info"]
    )


class AttributeStrategy(CamelView):
    """How an attribute gets its value"""

    id: str = Field(..., examples=["commerce_info"])
    attribute_key_id: Annotated[str, From("id")] = Field(..., examples=["commerce_info"])
    strategy: Annotated[Strategy, From("fields/strategy")]
    resolution_strategy: Annotated[Strategy, From("fields/strategy")]
    resolver_type: Annotated[
        ResolverType,
        From("fields/strategy", lambda found, _: CALLER_PROVIDED if found == CALLER_PROVIDED else "INTERNAL_SERVICE"),
    ]
    attribute_key: Annotated[AttributeKey, From("")]
    source: Annotated[str | None, From("fields/source", default=None)] = Field(..., examples=["commerce"])
    fallback: Annotated[Any, From("fields/fallback", default=None)] = Field(..., examples=[None])


class AttributeStrategies(ListView):
    """The policies, in order of their keys"""

    root: list[AttributeStrategy]


# Targets.


class TargetResolutionUpsert(Upsert):
    """How the targets of activities are found."""

    renamed = {  # noqa: RUF012
        "resolutionStrategy": "resolution_strategy",
        "fallbackToCommerceRep": "fallback_to_commerce_rep",
        "fallbackToOwner": "fallback_to_owner",
    }
    resolution_strategy: Annotated[TargetStrategy, To("fields/strategy")] = Field(
        ..., description="When targets are found: at the creation, at the dispatch, or not before somebody names them"
    )
    criteria: Annotated[list[NewTargetCriterion] | None, Items(MAX_CRITERIA), To("fields/criteria")] = Field(
        None, description="At least one, unless the strategy is MANUAL"
    )
    fallback_to_commerce_rep: Annotated[bool | None, To(None)] = Field(True, description="When no criterion fits")
    fallback_to_owner: Annotated[bool | None, To(None)] = Field(True, description="When nobody else fits")
    priority: Annotated[Whole | None, To("fields/priority")] = Field(None, description="Place in the list")
    channel: Annotated[Id | None, To("id")] = Field(None, description="Of this channel; else of all without their own")

    example: ClassVar[Json] = {
        "resolution_strategy": "ON_CREATION",
        "criteria": [
            {"type": "ROLE_MATCH", "config": {"role": COMMERCE_REP}, "priority": 0},
            {"type": "LAST_CONTACTED_SAME_CHANNEL", "config": {}, "priority": 1},
        ],
    }

    def data(self) -> Json:
        """Return the command's data: whom to fall back on are criteria by role."""
        found = {"id": _DEFAULT, **super().data()}
        wanted = {COMMERCE_REP: self.fallback_to_commerce_rep, OWNER: self.fallback_to_owner}
        roles = [role for role, chosen in wanted.items() if chosen is not False]
        found["fields"]["fallbacks"] = [
            {"type": "ROLE_MATCH", "priority": place, "role": role} for place, role in enumerate(roles)
        ]
        return found


class ResolutionCriterion(CamelView):
    """How a user of the commerce is found."""

    id: str = Field(..., examples=["default-0"])
    criteria_type: Annotated[CriterionType, From("type")]
    criteria_config: dict[str, Any] = Field(..., examples=[{"role": COMMERCE_REP}])
    priority: int


def _criteria(found: Mapping[str, Any], _: Any) -> list[Json]:
    return [
        ResolutionCriterion.show(
            {
                "id": f"{found['id']}-{place}",
                "type": each["type"],
                "criteria_config": {"role": each["role"]} if each.get("role") else {},
                "priority": each.get("priority", 0),
            }
        )
        for place, each in enumerate(found["fields"].get("criteria") or ())
    ]


def _falls_back_to(role: str) -> Any:
    return From("fields", lambda fields, _: any(each.get("role") == role for each in fields.get("fallbacks") or ()))


class TargetResolution(CamelView):
    """How the targets of activities are found"""

    id: str = Field(..., examples=[_DEFAULT])
    channel: Annotated[str | None, From("id", lambda found, _: None if found == _DEFAULT else found)]
    resolution_strategy: Annotated[TargetStrategy, From("fields/strategy", default=ON_CREATION)]
    fallback_to_commerce_rep: Annotated[bool, _falls_back_to(COMMERCE_REP)]
    fallback_to_owner: Annotated[bool, _falls_back_to(OWNER)]
    priority: Annotated[int, From("fields/priority", default=0)]
    is_active: Annotated[bool, From("retired", lambda retired, _: not retired)]
    criteria: Annotated[list[ResolutionCriterion], From("", _criteria)]


class TargetResolutions(ListView):
    """The configurations, in order of their priorities"""

    root: list[TargetResolution]


# Providers.


class ProviderSettings(DispatchRequest):
    """How a provider is called."""

    secret: Id | None = Field(None, description="The name of a secret of the service, which signs what is sent")
    timeout_seconds: Annotated[float | None, Field(ge=MIN_TIMEOUT, le=MAX_TIMEOUT)] = Field(
        None, description="5 by default"
    )
    backoff_seconds: Annotated[float | None, Field(gt=0, le=MAX_SECONDS)] = Field(None, description="30 by default")


class DispatchConfigUpsert(Upsert):
    """The provider of a channel."""

    renamed = {"dispatchProviderId": "dispatch_provider_id", "baseUrl": "base_url"}  # noqa: RUF012
    settings: Annotated[ProviderSettings | None, To("fields")] = None
    dispatch_provider_id: Annotated[ProviderKind, To("fields/provider")]
    channel: Annotated[Id, Demanded, To("id")]
    base_url: Annotated[Annotated[str, Text(1, MAX_URL)] | None, To("fields/url")] = Field(
        None, description="Required by http; no user, query or fragment"
    )
    credentials: Annotated[ProviderCredentials | None, To("fields/credentials")] = Field(
        None, description="Encrypted at rest, and never shown"
    )

    example: ClassVar[Json] = {
        "dispatch_provider_id": "http",
        "channel": "SALESMAN",
        "base_url": "https://provider.example.com",
        "settings": {"secret": "main"},
    }


class DispatchProvider(CamelView):
    """Who takes what is dispatched."""

    code: Annotated[str, From("fields/provider", lambda kind, _: kind.upper())] = Field(..., examples=["HTTP"])
    name: Annotated[str, From("fields/provider", lambda kind, _: f"{kind.upper()} Provider")] = Field(
        ..., examples=["HTTP Provider"]
    )


class DispatchConfig(CamelView):
    """The provider of a channel"""

    id: str = Field(..., examples=["SALESMAN"])
    dispatch_provider_id: Annotated[ProviderKind, From("fields/provider")]
    channel: Annotated[str, From("id")] = Field(..., examples=["SALESMAN"])
    base_url: Annotated[str | None, From("fields/url", default=None)]
    settings: Annotated[
        dict[str, Any],
        From(
            "fields",
            lambda fields, _: {name: fields[name] for name in ProviderSettings.model_fields if name in fields},
        ),
    ] = Field(..., examples=[{"secret": "main"}])
    credentials: AreSet = Field(..., description="Whether there are any")
    is_active: Annotated[bool, From("retired", lambda retired, _: not retired)]
    dispatch_provider: Annotated[DispatchProvider, From("")]


class DispatchConfigs(ListView):
    """The configurations, in order of their channels"""

    root: list[DispatchConfig]
