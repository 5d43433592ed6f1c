"""What a tenant configures of dispatch, as entries of the directory: attribute policies, targeting, providers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, SkipValidation
from starlette.responses import Response

from domain.directory.fields import MAX_CRITERIA, MAX_URL, ProviderKind, Strategy
from domain.directory.settings import MAX_SECONDS, MAX_TIMEOUT, MIN_TIMEOUT, SOURCES
from domain.limits import Flow, Id, Items, Text
from domain.plan import ON_CREATION, TargetStrategy
from services.http.core.call import Call, as_json
from services.http.core.deriving import change_of, view_of
from services.http.core.entities import entry
from services.http.core.models import LEFT_OUT, From, Json, Request, To
from services.http.core.operation import Link, Operation
from services.http.core.pages import page_of_entries
from services.http.core.parameters import MinPosition
from services.http.core.shown import CamelView, Time
from services.http.dispatch import lists
from services.http.dispatch.credentials import AreSet, ProviderCredentials
from services.http.dispatch.dialect import MANAGE, SPOKEN, VIEW
from services.http.dispatch.errors import Demanded, DispatchRequest
from services.http.dispatch.models import Criterion, NewCriterion

# What a tenant configures: directory entries, each with its key or its channel as its id. What may stand in one is the
# domain's to say, so these values are described here and passed on as they came.

_Source = Annotated[Flow, Field(json_schema_extra={"pattern": f"^({'|'.join(SOURCES)})(\\..*)?$"})]


class _Entry(DispatchRequest):
    def data(self) -> Json:
        """Return the command's data, which has fields even if they are none."""
        return {"fields": {}, **super().data()}

    @classmethod
    def pointer(cls, place: str) -> str:
        """Return a place in the request; an id that is taken is told without one, as the answer names it."""
        return "" if place == "/id" else super().pointer(place)


class NewAttributePolicy(_Entry):
    """A policy for an attribute."""

    model_config = ConfigDict(json_schema_extra={"required": ["key", "strategy"]})

    key: Annotated[Id, Demanded, To("id")]
    strategy: Annotated[SkipValidation[Strategy], To("fields/strategy")] = LEFT_OUT
    source: Annotated[SkipValidation[_Source | None], To("fields/source")] = Field(
        None, description="Where the value comes from, such as commerce.name; CALLER_PROVIDED does without"
    )
    fallback: Annotated[Any, To("fields/fallback")] = Field(None, description="The value when there is no other")

    example: ClassVar[Json] = {"key": "commerce_info", "strategy": "UPFRONT", "source": "commerce", "fallback": {}}


class NewTargetResolutionPolicy(_Entry):
    """A policy for target resolution."""

    model_config = ConfigDict(json_schema_extra={"required": ["channel"]})

    channel: Annotated[Id, Demanded, To("id")]
    resolution_strategy: Annotated[SkipValidation[TargetStrategy | None], To("fields/strategy")] = Field(
        None, description="When targets are found; ON_CREATION by default"
    )
    criteria: Annotated[SkipValidation[list[NewCriterion]], Items(MAX_CRITERIA), To("fields/criteria")] = Field(
        LEFT_OUT, description="At least one, unless the strategy is MANUAL"
    )
    fallbacks: Annotated[SkipValidation[list[NewCriterion] | None], Items(MAX_CRITERIA), To("fields/fallbacks")] = (
        Field(None, description="Tried when no criterion fits anybody")
    )

    example: ClassVar[Json] = {
        "channel": "SALESMAN",
        "criteria": [{"type": "LAST_CONTACTED_SAME_CHANNEL", "priority": 1, "role": None}],
        "fallbacks": [{"type": "ROLE_MATCH", "priority": 0, "role": "OWNER"}],
    }


class NewDispatchConfiguration(_Entry):
    """A dispatch configuration."""

    model_config = ConfigDict(json_schema_extra={"required": ["channel", "provider"]})

    channel: Annotated[Id, Demanded, To("id")]
    provider: Annotated[SkipValidation[ProviderKind], To("fields/provider")] = LEFT_OUT
    url: Annotated[SkipValidation[Annotated[str, Text(1, MAX_URL)] | None], To("fields/url")] = Field(
        None, description="Required by http; no user, query or fragment"
    )
    secret: Annotated[SkipValidation[Id | None], To("fields/secret")] = Field(
        None, description="The name of a secret of the service, never a secret itself"
    )
    credentials: Annotated[SkipValidation[ProviderCredentials | None], To("fields/credentials")] = Field(
        None, description="Encrypted at rest; an answer shows only whether there are any"
    )
    timeout_seconds: Annotated[
        SkipValidation[Annotated[float, Field(ge=MIN_TIMEOUT, le=MAX_TIMEOUT)] | None], To("fields/timeout_seconds")
    ] = Field(None, description="5 by default")
    backoff_seconds: Annotated[
        SkipValidation[Annotated[float, Field(gt=0, le=MAX_SECONDS)] | None], To("fields/backoff_seconds")
    ] = Field(None, description="30 by default")

    example: ClassVar[Json] = {
        "channel": "SALESMAN",
        "provider": "http",
        "url": "https://dispatch.example.com/tasks",
        "secret": "main",
        "timeout_seconds": 5,
        "backoff_seconds": 30,
    }


# What a tenant configures.


def _criteria(name: str) -> Any:
    shown = From(f"fields/{name}", lambda found, _: [Criterion.show(each) for each in found or ()], default=None)
    return Annotated[list[Criterion], shown]


# What is shown of an entry otherwise than it is given.
_SHOWN = {
    "resolution_strategy": Annotated[TargetStrategy, From("fields/strategy", default=ON_CREATION)],
    **{name: _criteria(name) for name in ("criteria", "fallbacks")},
    "credentials": AreSet,
}


def _configured(kind: str, path: str, name: str, new: type[Request]) -> tuple[Operation, ...]:
    """Return the operations on entries of a kind."""
    view = view_of(new, CamelView, (new.__doc__ or "").rstrip("."), _SHOWN, created_at=Time, updated_at=Time)
    what, pages, key = name.replace("_", " "), lists.page_of(view), next(iter(view.model_fields))
    article = "an" if what[0] in "aeiou" else "a"
    entries = entry(kind)
    one, every = f"{path}/{{id}}", path.rpartition("/")[2].replace("-", "_")

    async def page(call: Call) -> Response:
        found = await page_of_entries(call, lists.ListEntries.read(call), kind)
        return await call.worked(lambda: as_json(pages.show(found)))

    def write(method: str, path: str, verb: str, command: str, **rest: Any) -> Operation:
        return Operation(
            SPOKEN, method, path, MANAGE, f"dispatch_{verb}_{name}", f"{verb.capitalize()} {article} {what}",
            command=command, entity=entries, extra_data=lambda _: {"kind": kind}, **rest,
        )  # fmt: skip

    return (
        write(
            "POST", path, "create", "directory.register", request=new, view=view, status=201,
            description="The same again is accepted and changes nothing.",
            links={verb: Link(f"dispatch_{verb}_{name}", f"/{key}") for verb in ("get", "change", "delete")},
        ),
        Operation(
            SPOKEN, "GET", path, VIEW, f"dispatch_list_{every}", f"List every {what}, in order of {key}",
            query=lists.ListEntries, handler=page, view=pages,
        ),
        Operation(
            SPOKEN, "GET", one, VIEW, f"dispatch_get_{name}", f"Read one {what}",
            query=MinPosition, entity=entries, view=view,
        ),
        write(
            "PATCH", one, "change", "directory.change", request=change_of(new, key), view=view,
            description="What is left out stays as it is; a null takes a field away.",
        ),
        write(
            "DELETE", one, "delete", "directory.retire", status=204,
            description="What was created before keeps what it took from it.",
        ),
    )  # fmt: skip


OPERATIONS = (
    *_configured("attribute", "/api/attribute-policies", "attribute_policy", NewAttributePolicy),
    *_configured("targeting", "/api/target-resolution-policies", "target_resolution_policy", NewTargetResolutionPolicy),
    *_configured("dispatch", "/api/dispatch-configurations", "dispatch_configuration", NewDispatchConfiguration),
)
