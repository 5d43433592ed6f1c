"""What the dialect's requests say, as the data of commands; a value of the wrong shape is refused at its own place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from domain.limits import MAX_ACCOUNT
from services.commands import wire
from services.http.core.errors import ApiError
from services.http.core.middleware import header
from services.http.endpoints import Call


async def body_of(call: Call, known: Iterable[str], required: Iterable[str] = ()) -> dict[str, Any]:
    """Return a request's body; one that needs nothing said may be empty.

    An `id` may stand in it too, as the page's schemas have it there, if it is the one in the path.
    """
    if not tuple(required) and _is_empty():
        return {}
    body = await call.json()
    if not isinstance(body, dict):
        raise ApiError("wrong-shape", "the body is an object")
    known = ("id", *known)
    for key, value in body.items():
        if key not in known:
            raise ApiError("unknown-field", f"the body has {', '.join(known)}", wire.pointer_of((key,)))
        if key == "id" and value != call.scope["path_params"].get("id"):
            raise ApiError("invalid", "the id is the one in the path", "/id")
    for name in required:
        if name not in body:
            raise ApiError("wrong-shape", f"{name} is required", f"/{name}")
    return body


def _is_empty() -> bool:
    return header(b"transfer-encoding") is None and (header(b"content-length") or "0") == "0"


def data_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return the data to save or complete with."""
    data = body["data"]
    if not isinstance(data, dict):
        raise ApiError("wrong-shape", "data is an object", "/data")
    return data


def comment_of(body: dict[str, Any]) -> str | None:
    """Return the comment of an error, if there is one."""
    if "data" not in body:
        return None
    data = body["data"]
    if not isinstance(data, dict) or set(data) != {"comment"}:
        raise ApiError("wrong-shape", "data is an object with a comment", "/data")
    comment = data["comment"]
    if not isinstance(comment, str):
        raise ApiError("wrong-shape", "comment is a text", "/data/comment")
    return comment


def account_of(body: dict[str, Any]) -> int | None:
    """Return the account number, if one is given."""
    if "account_id" not in body:
        return None
    number = body["account_id"]
    # JSON has one kind of number, so 7.0 is as whole as 7.
    whole = isinstance(number, (int, float)) and not isinstance(number, bool) and number == int(number)
    if not whole or not 1 <= number <= MAX_ACCOUNT:
        raise ApiError("wrong-shape", f"account_id is a whole number from 1 to {MAX_ACCOUNT}", "/account_id")
    return int(number)


def flag_of(body: dict[str, Any], name: str) -> bool:
    """Return a flag, false when it is not given."""
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise ApiError("wrong-shape", f"{name} is true or false", f"/{name}")
    return value
