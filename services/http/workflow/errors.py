"""The workflow dialect's errors: what every body is refused with, the error document, and the statuses of its codes.

What is wrong in itself is always a 422.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response

from services.commands.wire import pointer_of
from services.http.core.call import as_json
from services.http.core.errors import OF_QUESTIONS, STATUS_OF_CODE, ApiError, phrase
from services.http.core.models import From, Request, To, View, names, refuse

JSON_API = "application/vnd.api+json"

# What is another status elsewhere: the dialect validates with 422 whatever is said in the query or the body.
_STATUS: Mapping[str, int] = {**dict.fromkeys(OF_QUESTIONS, 422), "already-processing": 422, "no-endpoint": 404}
# The code of a status' example, where it is not the first.
_TYPICAL = {401: "unauthorized", 404: "not-found", 422: "wrong-shape"}


def _status_of(refused: ApiError) -> int:
    """Return the dialect's HTTP status of a refusal; a person that is not there is a wrong value in the body."""
    if refused.code == "not-found" and refused.pointer not in ("", "/id"):
        return 422
    return _STATUS.get(refused.code, refused.status)


def failure(_: str, status: int) -> tuple[str, dict[str, Any]] | None:
    """Return the codes that an answer of a status may have, and an example."""
    codes = sorted(code for code, its in {**STATUS_OF_CODE, **_STATUS}.items() if its == status)
    if not codes:
        return None
    codes = sorted({*codes, "not-found"}) if status == 422 else codes
    described = f"One of {', '.join(f'`{code}`' for code in codes)}"
    return described, _document(status, _TYPICAL.get(status, codes[0]), phrase(status), {"pointer": ""})


def failed(refused: ApiError) -> Response:
    """Render a refusal as a JSON:API error document; `source` has the parameter at fault, or a place in the body."""
    return _rendered(refused)


def failed_log_in(refused: ApiError) -> Response:
    """Render a refusal for clients of the log-in, which read `message`."""
    return _rendered(refused, message=refused.message)


def _rendered(refused: ApiError, **more: str) -> Response:
    status = _status_of(refused)
    source = {"parameter": refused.parameter} if refused.parameter else {"pointer": refused.pointer}
    document = {**_document(status, refused.code, refused.detail, source), **more}
    return as_json(document, status, refused.headers, JSON_API)


def _document(status: int, code: str, detail: str, source: dict[str, str]) -> dict[str, Any]:
    return {"errors": [{"status": str(status), "title": code, "detail": detail, "source": source}]}


# Bodies.


def _of_path(value: Any, info: ValidationInfo) -> Any:
    if value != (info.context or {}).get("id"):
        refuse("invalid", "the id is the one in the path")
    return value


def only(kind: type, said: str) -> BeforeValidator:
    """Refuse what is not of a type, and null too."""

    def demand(value: Any) -> Any:
        if not isinstance(value, kind):
            refuse("wrong-shape", said)
        return value

    return BeforeValidator(demand)


class Body(Request):
    # The page has the path's id among what each body holds.
    id: Annotated[SkipJsonSchema[Any], BeforeValidator(_of_path), To(None)] = None

    @classmethod
    def unknown(cls, key: str, pointer: str) -> ApiError:
        """Return the refusal of a key."""
        return ApiError("unknown-field", f"the body has {', '.join(names(cls))}", f"{pointer}{pointer_of((key,))}")


# Answers that show no resource.


class Receipt(View):
    command_id: str = Field(examples=["c-1"])
    receipt: str = Field(examples=["/v1/commands/c-1"])


class Accepted(View):
    """No answer yet; look at the receipt"""

    meta: Annotated[Receipt, From("")]


class Source(View):
    """The parameter at fault, or a place in the body"""

    pointer: str = ""
    parameter: str = ""


class Error(View):
    status: str
    title: str
    detail: str
    source: Source


class Errors(View):
    """A refusal"""

    errors: list[Error] = Field(min_length=1)


class LogInErrors(Errors):
    """A refusal; clients of the log-in read `message`"""

    message: str
