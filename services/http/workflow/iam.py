"""The log-in and the account of the caller: an API key is exchanged for the token of later requests."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from starlette.responses import Response

from projections import directory
from services.http.core.authenticator import Caller
from services.http.core.call import Call, as_json
from services.http.core.models import From, Json, View
from services.http.core.operation import Operation
from services.http.core.parameters import MinPosition, nothing_else, settled
from services.http.workflow.dialect import WORKFLOW
from services.http.workflow.errors import JSON_API, Body, LogInErrors, failed_log_in, failure

_IAM = "/api/v3/iam"
_MAX_KEY = 256


class LogIn(Body):
    """The key of an account."""

    key: Annotated[str, Field(min_length=1, max_length=_MAX_KEY)] = Field(
        description="An API key, as made by `foldwork keys create`", examples=["fw_0123456789abcdef_…"]
    )

    example: ClassVar[Json] = {"key": "fw_0123456789abcdef_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"}


class AccountAttributes(View):
    account_id: int | None = Field(examples=[42])
    name: str | None = Field(examples=["Ann"])
    email: str | None = Field(examples=["ann@example.com"])
    actor_roles: list[str] = Field(examples=[["driver"]])
    permissions: list[str] = Field(examples=[["read", "write"]])


class Account(View):
    """The account that a key speaks for: a member, or the service itself, which has no number."""

    type: Literal["iam/accounts"]
    id: str = Field(examples=["42"])
    attributes: Annotated[AccountAttributes, From("")]


class Me(View):
    """The account"""

    data: Annotated[Account, From("")]


class TokenMeta(View):
    token: str = Field(examples=["fw_0123456789abcdef_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"])


class LoggedIn(View):
    """The account, and the token for later requests"""

    data: Annotated[Account, From("")]
    meta: Annotated[TokenMeta, From("")]


def _failure(topic: str, status: int) -> tuple[str, Json] | None:
    """Return the codes of a status, and an example, with what clients of the log-in read."""
    said = failure(topic, status)
    return None if said is None else (said[0], {**said[1], "message": said[1]["errors"][0]["detail"]})


IAM = replace(WORKFLOW, envelope=failed_log_in, failure=_failure, failure_view=LogInErrors, paths=(f"{_IAM}/",))


async def _account(call: Call, caller: Caller) -> Json:
    """Return what an actor is in the directory; one that is not registered has its id alone."""
    rows = await call.service.pool.fetch(*directory.get(caller.tenant, "member", caller.actor))
    fields: Json = directory.resource(rows[0])["fields"] if rows else {}
    number = fields.get("account_id")
    return {
        "id": caller.actor if number is None else str(number),
        "account_id": number,
        "name": fields.get("name"),
        "email": fields.get("email"),
        "actor_roles": fields.get("actor_roles") or [],
        "permissions": sorted(caller.permissions),
    }


async def _log_in(call: Call) -> Response:
    """Answer a key that is known with itself: keys are checked with each request, so no other token is needed."""
    nothing_else(call.parameters())
    key = LogIn.read(await call.json()).key
    caller = await call.service.authenticator.caller(b"Bearer " + key.encode("utf-8", "replace"))
    account = await _account(call, caller)
    return as_json(LoggedIn.show({**account, "token": key.strip()}), media=JSON_API)


async def _me(call: Call) -> Response:
    await settled(call, MinPosition.read(call), directory.NAME)
    return as_json(Me.show(await _account(call, call.caller)), media=JSON_API)


OPERATIONS = (
    Operation(
        IAM, "POST", f"{_IAM}/auth/api/login", "", "workflow_log_in", "Exchange an API key for a token",
        description="The token is the key itself; it lives as long as the key.",
        request=LogIn, handler=_log_in, view=LoggedIn, refusals=(400, 408, 413, 415, 422),
    ),
    Operation(
        IAM, "GET", f"{_IAM}/accounts/me", "read", "workflow_get_account", "Read the account of the caller",
        query=MinPosition, handler=_me, view=Me, refusals=(400, 422),
    ),
)  # fmt: skip
