"""The queries, requests and views of API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import Field

from domain.limits import Id, Number
from services import schemas
from services.http.core.models import Json, Request, View
from services.http.core.parameters import MOMENT, Query
from services.keys import MAX_DAYS, PERMISSIONS, ROLES, State

_ID = "0123456789abcdef"
_NAME = 200
_PERMISSION: Json = {"enum": list(PERMISSIONS)}


class ListKeys(Query):
    """The page of keys."""

    state: State | None = Field(None, description="Those in this state")
    limit: Annotated[int, Number(1, 500)] = Field(50, description="Keys of a page")
    cursor: str | None = Field(None, description="What `next` of the page before says")


class NewKey(Request):
    """A key to create; it can do no more than the key that makes it."""

    name: str | None = Field(None, min_length=1, max_length=_NAME, description="what the key is for")
    actor: Annotated[Id | None, Field(pattern=schemas.ID["pattern"])] = Field(
        None,
        description="a member's id, or `system`; without it, the caller's own. A member's key makes keys for that"
        " member alone",
    )
    permissions: list[Annotated[str, Field(json_schema_extra=_PERMISSION)]] | None = Field(
        None, min_length=1, max_length=len(PERMISSIONS), description="without these and roles, `read` and `write`"
    )
    roles: list[Annotated[str, Field(json_schema_extra={"enum": list(ROLES)})]] | None = Field(
        None, min_length=1, max_length=len(ROLES), description="the permissions of these, in addition"
    )
    days: int | None = Field(None, ge=1, le=MAX_DAYS, description="days until it expires")
    expires_at: str | None = Field(
        None,
        description="when it expires, instead of `days`; without either never, or when the key expires that makes it",
        json_schema_extra=MOMENT,
    )

    example: ClassVar[Json] = {"name": "reporting", "permissions": ["read"], "days": 30}


class Key(View):
    """The key, without its token"""

    id: str = Field(examples=[_ID])
    name: str | None
    actor: str
    permissions: list[Annotated[str, Field(json_schema_extra=_PERMISSION)]]
    state: State
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    current: bool = Field(description="whether the request was made with it")


class CreatedKey(Key):
    """Created; the token is not shown again"""

    token: str = Field(examples=[f"fw_{_ID}_{'x' * 43}"])
