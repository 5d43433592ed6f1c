"""What the dispatch dialect's requests and answers have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, create_model
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from domain.limits import Role, Whole
from domain.plan import CriterionType
from services.http.core.errors import ApiError
from services.http.core.models import From, Request, View, names, refuse
from services.http.core.pages import Page
from services.http.dispatch.errors import KEYED, MEANINGS, refusal

Count = Annotated[int, Field(ge=0)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
TimeOrNull = Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]


# Requests.


def _demand_text(value: Any, info: ValidationInfo) -> Any:
    if value is None:
        refuse("wrong-shape", f"{info.field_name} is required")
    if not isinstance(value, str) or not value:
        refuse("wrong-shape", f"{info.field_name} is a text that is not empty")
    return value


# A text that the dialect demands, whatever the command does without.
Demanded = BeforeValidator(_demand_text)


class DispatchRequest(Request):
    """A request whose faults are told in the words that a worker has for them."""

    _MESSAGES: ClassVar[Mapping[str, str]] = {
        "list_type": "Input should be a valid array",
        "dict_type": "Input should be an object",
        "model_type": "Input should be an object",
    }

    @classmethod
    def unknown(cls, key: str, pointer: str) -> ApiError:
        """Return the refusal of a key; one of the body itself is named as a parameter is."""
        if pointer:
            return ApiError("unknown-field", "Unexpected keyword argument", f"{pointer}/{key}")
        shown = "".join(mark if mark.isprintable() else "?" for mark in key[:100])
        return ApiError("unknown-field", f"the fields are {', '.join(names(cls))}", parameter=shown)

    @classmethod
    def message(cls, error: ErrorDetails) -> str:
        """Return the words for a value of another type than its own."""
        kind, place = error["type"], error["loc"]
        own = not place or (kind == "missing" and len(place) == 1)
        return super().message(error) if own else cls._MESSAGES.get(kind, error["msg"])


class NewCriterion(DispatchRequest):
    """How a user of the commerce is found."""

    type: CriterionType
    priority: Whole = Field(0, description="The lowest is tried first")
    role: Role | None = Field(None, description="Required by ROLE_MATCH")


# What is shown.


class DispatchView(View):
    """What the dialect shows, with names in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel)


class Criterion(DispatchView):
    """How a user of the commerce is found."""

    type: CriterionType
    priority: Annotated[int, From("priority", default=0)]
    role: Annotated[str | None, From("role", default=None)]


class Meta(DispatchView):
    """Where a page lies among all."""

    page: Annotated[Count, From("", lambda page, _: page.number)] = Field(..., examples=[1])
    limit: Annotated[Count, From("", lambda page, _: page.limit)] = Field(..., examples=[25])
    total: Annotated[Count, From("", lambda page, _: page.total)] = Field(..., examples=[1])
    total_pages: Annotated[Count, From("", lambda page, _: -(-page.total // page.limit))] = Field(..., examples=[1])


def page_of(view: type[View]) -> type[View]:
    """Return the answer that is a page of views."""

    def rows(page: Page, context: Any) -> list[Any]:
        return [view.show(row, context) for row in page.rows]

    fields: Any = {"data": Annotated[list[view], From("", rows)], "meta": Annotated[Meta, From("")]}  # type: ignore[valid-type]
    name, module = f"{view.__name__}Page", view.__module__
    return create_model(name, __base__=DispatchView, __module__=module, __doc__="A page", **fields)


class Accepted(DispatchView):
    """No answer yet; look at the receipt"""

    status_code: Literal[202]
    message: Literal["Accepted, its outcome is not known yet"]
    command_id: str = Field(..., examples=["0199a1f0"])
    receipt: str = Field(..., examples=["/v1/commands/0199a1f0"])


class Failure(DispatchView):
    """A refusal."""

    status_code: int = Field(json_schema_extra={"enum": list(MEANINGS)})
    message: str
    error: str = Field(description="The status in words")
    existing_id: str | None = Field(None, description="With a key that was used before: of what it made, if anything")
    same_payload: bool = Field(False, description="With a key that was used before: whether for the same request")

    example: ClassVar[Any] = refusal(409, KEYED)
