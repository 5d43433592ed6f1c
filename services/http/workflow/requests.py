"""The workflow dialect's requests as the data of commands; a value of the wrong shape is refused at its own place."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from pydantic.json_schema import SkipJsonSchema

from domain.limits import MAX_ACCOUNT, Comment, Fields, Number
from domain.references import is_account
from services.commands.wire import pointer_of
from services.http.core.errors import ApiError
from services.http.core.models import LEFT_OUT, Json, Request, To, names, refuse


def _of_path(value: Any, info: ValidationInfo) -> Any:
    if value != (info.context or {}).get("id"):
        refuse("invalid", "the id is the one in the path")
    return value


def _whole(value: Any) -> Any:
    # JSON has one kind of number, so 7.0 is as whole as 7.
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if not is_account(number):
        refuse("wrong-shape", f"account_id is a whole number from 1 to {MAX_ACCOUNT}")
    return number


def _only(kind: type, said: str) -> BeforeValidator:
    """Refuse what is not of a type, and null too."""

    def demand(value: Any) -> Any:
        if not isinstance(value, kind):
            refuse("wrong-shape", said)
        return value

    return BeforeValidator(demand)


def _with_comment(value: Any) -> Any:
    if not isinstance(value, dict) or set(value) != {"comment"}:
        refuse("wrong-shape", "data is an object with a comment")
    return value


Account = Annotated[int, Number(1, MAX_ACCOUNT), BeforeValidator(_whole)]


class _Body(Request):
    # The page has the path's id among what each body holds.
    id: Annotated[SkipJsonSchema[Any], BeforeValidator(_of_path), To(None)] = None

    @classmethod
    def unknown(cls, key: str, pointer: str) -> ApiError:
        """Return the refusal of a key."""
        return ApiError("unknown-field", f"the body has {', '.join(names(cls))}", f"{pointer}{pointer_of((key,))}")


class Nothing(_Body):
    """Nothing needs to be said."""

    example: ClassVar[Json] = {}


class _WithData(_Body):
    values: Annotated[Fields, _only(dict, "data is an object"), To("data")] = Field(
        alias="data", description="Any object; its keys are the activity's own"
    )


class Save(_WithData):
    """A draft."""

    example: ClassVar[Json] = {"data": {"customerName": "Jane"}}


class Complete(_WithData):
    """What the activity is completed with."""

    example: ClassVar[Json] = {"data": {"signed": True}}


class Assign(_Body):
    """Who is to have the activity."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["self_assigning"], "properties": {"self_assigning": {"const": True}}},
            "else": {"required": ["account_id"]},
        }
    )

    account_id: Annotated[Account, To("assignees", lambda number: [f"account:{number}"])] = Field(
        0, description="A member's number"
    )
    start_working: Annotated[bool, _only(bool, "start_working is true or false"), To("start")] = Field(
        description="Whether work begins at once"
    )
    self_assigning: Annotated[bool, _only(bool, "self_assigning is true or false"), To(None)] = Field(
        False, description="Whether the caller takes it"
    )

    example: ClassVar[Json] = {"account_id": 42, "start_working": True}

    @model_validator(mode="after")
    def _demand_somebody(self) -> Self:
        if not self.self_assigning and "account_id" not in self.model_fields_set:
            refuse("wrong-shape", "name an account_id, unless you are self_assigning", "/account_id")
        return self


class Claim(Assign):
    """The caller takes the activity; who one is need not be said, and who says it is held to it."""

    account_id: Annotated[Account, To("member", lambda number: f"account:{number}")] = 0


class Reassign(_Body):
    """Who is to have the activity."""

    account_id: Annotated[Account, To("assignees", lambda number: [f"account:{number}"])] = Field(
        description="A member's number"
    )

    example: ClassVar[Json] = {"account_id": 43}


class ErrorData(Request):
    """What went wrong."""

    comment: Annotated[Comment, _only(str, "comment is a text")]


class MarkErrored(_Body):
    """What went wrong, if anything is said of it."""

    error: Annotated[ErrorData, BeforeValidator(_with_comment), To(None)] = Field(LEFT_OUT, alias="data")

    example: ClassVar[Json] = {"data": {"comment": "nobody at home"}}

    def data(self) -> Json:
        """Return the command's data."""
        return self.error.data() if self.error else {}

    @classmethod
    def pointer(cls, place: str) -> str:
        """Return a place in the command's data as one in the request."""
        return f"/data{place}" if place.startswith("/comment") else super().pointer(place)


class Track(_Body):
    """Whose tracker it is."""

    account_id: Annotated[Account, To("member", lambda number: f"account:{number}")] = Field(
        0, description="Whose tracker, when the system speaks for somebody"
    )

    example: ClassVar[Json] = {"account_id": 42}
