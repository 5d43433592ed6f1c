"""What a tenant configures of dispatch: attribute policies, target resolution and dispatch providers.

Each is a directory entry whose id is its key or its channel. What may stand in one is the domain's to say, so these
values are described here and passed on as they came.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, SkipValidation

from domain.directory.fields import MAX_CRITERIA, MAX_URL, ProviderKind, Strategy
from domain.directory.settings import MAX_SECONDS, MAX_TIMEOUT, SOURCES
from domain.limits import Flow, Id, Items, Text
from services.http.core.models import LEFT_OUT, From, Json, To
from services.http.dispatch.models import (
    Criterion,
    Demanded,
    DispatchRequest,
    DispatchView,
    NewCriterion,
    Time,
)

_Source = Annotated[Flow, Field(json_schema_extra={"pattern": f"^({'|'.join(SOURCES)})(\\..*)?$"})]
_Timeout = Annotated[float, Field(gt=0, le=MAX_TIMEOUT)]
_Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS)]


class _Entry(DispatchRequest):
    """What stands in an entry."""

    outside_body = frozenset({"id", "kind"})

    def data(self) -> Json:
        """Return the command's data, which has fields even if they are none."""
        return {"fields": {}, **super().data()}


class _New(DispatchRequest):
    @classmethod
    def pointer(cls, place: str) -> str:
        """Return a place in the request; an id that is taken is told without one, as the answer names it."""
        return "" if place == "/id" else super().pointer(place)


class _Key(_New):
    key: Annotated[Id, Demanded, To("id")]


class _Channel(_New):
    channel: Annotated[Id, Demanded, To("id")]


class _Policy(_Entry):
    strategy: Annotated[SkipValidation[Strategy | None], To("fields/strategy")] = None
    source: Annotated[SkipValidation[_Source | None], To("fields/source")] = Field(
        None, description="Where the value comes from, such as commerce.name; CALLER_PROVIDED does without"
    )
    fallback: Annotated[Any, To("fields/fallback")] = Field(None, description="The value when there is no other")


class NewAttributePolicy(_Policy, _Key):
    """A policy for an attribute."""

    model_config = ConfigDict(json_schema_extra={"required": ["key", "strategy"]})

    strategy: Annotated[SkipValidation[Strategy], To("fields/strategy")] = LEFT_OUT

    example: ClassVar[Json] = {"key": "commerce_info", "strategy": "UPFRONT", "source": "commerce", "fallback": {}}


class AttributePolicyChange(_Policy):
    """What is left out stays as it is; null takes a field away."""

    changes = True

    example: ClassVar[Json] = {"strategy": "UPFRONT", "source": "commerce", "fallback": {}}


_CRITERIA: Json = {
    "criteria": [{"type": "LAST_CONTACTED_SAME_CHANNEL", "priority": 1, "role": None}],
    "fallbacks": [{"type": "ROLE_MATCH", "priority": 0, "role": "OWNER"}],
}


class _Resolution(_Entry):
    criteria: Annotated[SkipValidation[list[NewCriterion] | None], Items(MAX_CRITERIA, 1), To("fields/criteria")] = None
    fallbacks: Annotated[SkipValidation[list[NewCriterion] | None], Items(MAX_CRITERIA), To("fields/fallbacks")] = (
        Field(None, description="Tried when no criterion fits anybody")
    )


class NewTargetResolutionPolicy(_Resolution, _Channel):
    """A policy for target resolution."""

    model_config = ConfigDict(json_schema_extra={"required": ["channel", "criteria"]})

    criteria: Annotated[SkipValidation[list[NewCriterion]], Items(MAX_CRITERIA, 1), To("fields/criteria")] = LEFT_OUT

    example: ClassVar[Json] = {"channel": "SALESMAN", **_CRITERIA}


class TargetResolutionPolicyChange(_Resolution):
    """What is left out stays as it is; null takes a field away."""

    changes = True

    example: ClassVar[Json] = _CRITERIA


_PROVIDER: Json = {"provider": "http", "url": "https://dispatch.example.com/tasks", "secret": "main"}


class _Provider(_Entry):
    provider: Annotated[SkipValidation[ProviderKind | None], To("fields/provider")] = None
    url: Annotated[SkipValidation[Annotated[str, Text(1, MAX_URL)] | None], To("fields/url")] = Field(
        None, description="Required by http; no user, query or fragment"
    )
    secret: Annotated[SkipValidation[Id | None], To("fields/secret")] = Field(
        None, description="The name of a secret of the service, never a secret itself"
    )
    timeout_seconds: Annotated[SkipValidation[_Timeout | None], To("fields/timeout_seconds")] = Field(
        None, description="5 by default"
    )
    backoff_seconds: Annotated[SkipValidation[_Seconds | None], To("fields/backoff_seconds")] = Field(
        None, description="30 by default"
    )


class NewDispatchConfiguration(_Provider, _Channel):
    """A dispatch configuration."""

    model_config = ConfigDict(json_schema_extra={"required": ["channel", "provider"]})

    provider: Annotated[SkipValidation[ProviderKind], To("fields/provider")] = LEFT_OUT

    example: ClassVar[Json] = {"channel": "SALESMAN", **_PROVIDER, "timeout_seconds": 5, "backoff_seconds": 30}


class DispatchConfigurationChange(_Provider):
    """What is left out stays as it is; null takes a field away."""

    changes = True

    example: ClassVar[Json] = {**_PROVIDER, "timeout_seconds": 5, "backoff_seconds": 30}


# What is shown. Fields that others gave an entry are theirs alone.

_STAMPS = {"createdAt": "2025-01-15T08:00:00.000Z", "updatedAt": "2025-01-15T08:00:00.000Z"}


def _field(name: str) -> From:
    return From(f"fields/{name}", default=None)


def _criteria(name: str) -> From:
    return From(f"fields/{name}", lambda found, _: [Criterion.show(each) for each in found or ()], default=None)


class AttributePolicy(DispatchView):
    """The policy for an attribute"""

    key: Annotated[str, From("id")]
    strategy: Annotated[Strategy, _field("strategy")]
    source: Annotated[str | None, _field("source")]
    fallback: Annotated[Any, _field("fallback")]
    created_at: Time
    updated_at: Time

    example: ClassVar[Json] = {**NewAttributePolicy.example, **_STAMPS}


class TargetResolutionPolicy(DispatchView):
    """The policy for target resolution"""

    channel: Annotated[str, From("id")]
    criteria: Annotated[list[Criterion], _criteria("criteria")]
    fallbacks: Annotated[list[Criterion], _criteria("fallbacks")]
    created_at: Time
    updated_at: Time

    example: ClassVar[Json] = {**NewTargetResolutionPolicy.example, **_STAMPS}


class DispatchConfiguration(DispatchView):
    """The dispatch configuration"""

    channel: Annotated[str, From("id")]
    provider: Annotated[ProviderKind, _field("provider")]
    url: Annotated[str | None, _field("url")]
    secret: Annotated[str | None, _field("secret")]
    timeout_seconds: Annotated[float | None, _field("timeout_seconds")]
    backoff_seconds: Annotated[float | None, _field("backoff_seconds")]
    created_at: Time
    updated_at: Time

    example: ClassVar[Json] = {"channel": "SALESMAN", **_PROVIDER, "timeoutSeconds": 5, "backoffSeconds": 30, **_STAMPS}
