"""The request for a bulk of dead letters: which ones, and what is done with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from projections.support.query import BadQuery, demand_text, time_of
from services.dead_letters import MAX_REASON
from services.http.core.bulk_states import DISCARD, RETRY
from services.http.core.errors import ApiError
from services.http.core.models import Json, Request
from services.http.core.parameters import MOMENT
from services.store.dead_letters import Filter


class WhichLetters(Request):
    """Filters of `GET /v1/dead-letters`; only parked letters are chosen, and at least one filter is needed."""

    reason: str | None = Field(None, description="the code of the reason, such as `wrong-shape`")
    fingerprint: str | None = Field(None, description="the fingerprint of a group")
    type: str | None = Field(None, description="the type of the command")
    key: str | None = Field(None, description="the routing key: the activity's id, or that of a task of its own")
    since: str | None = Field(
        None, description="they came, or came again, at this time or later", json_schema_extra=MOMENT
    )

    example: ClassVar[Json] = {"reason": "wrong-shape"}

    def of(self, tenant: str) -> Filter:
        """Return the filter for the parked letters of a tenant; raises `ApiError`."""
        given = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        if not given:
            detail = "an empty filter would choose everything; name what is to be chosen"
            raise ApiError("invalid", detail, "/dead_letters")
        try:
            texts = {name: demand_text(text, name) for name, text in given.items()}
            since = time_of(texts.pop("since"), "since") if "since" in texts else None
        except BadQuery as error:
            raise ApiError(error.code, error.detail, f"/dead_letters/{error.parameter}") from None
        return Filter(tenant, code=texts.pop("reason", None), since=since, state="parked", **texts)


class _Retry(Request):
    """How letters are sent again."""

    merge: Json | None = None

    example: ClassVar[Json] = {"merge": {"title": "Water the plants"}}


class _Discard(Request):
    """Why letters are discarded."""

    reason: str = Field(min_length=1, max_length=MAX_REASON)

    example: ClassVar[Json] = {"reason": "sent by a test"}


_DATA: Mapping[str, type[Request]] = {RETRY: _Retry, DISCARD: _Discard}


def check(command: str, data: Json) -> None:
    """Refuse data that is not that of a command on letters; raises `ApiError` with a place in the body."""
    try:
        found: Any = _DATA[command].read(data)
    except ApiError as error:
        raise error.at(f"/data{error.pointer}") from None
    if isinstance(found, _Discard) and (not found.reason.strip() or "\0" in found.reason):
        raise ApiError("invalid", "a reason has a character that is no space, and no NUL", "/data/reason")
    if isinstance(found, _Retry) and found.merge is not None:
        fields = found.merge.get("fields")
        if isinstance(fields, dict) and fields.get("credentials") is not None:
            detail = "credentials are not the same for many; edit one letter at a time"
            raise ApiError("invalid", detail, "/data/merge/fields/credentials")
