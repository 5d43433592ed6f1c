"""Dry runs of writes: the preference `dry-run` of a request (RFC 7240), and the answer.

A write for which it is preferred goes the same way, and whatever command it gives is only tried: `sending.outgoing`
makes it a dry run. What a handler makes of the answer is dropped; a refusal is the operation's own.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field
from starlette.responses import Response

from services.commands import wire
from services.http.core.call import Call
from services.http.core.components import PREFIX
from services.http.core.errors import ApiError
from services.http.core.middleware import CURRENT, header
from services.http.core.parameters import Query

Json = dict[str, Any]

PREFER, APPLIED, PREFERENCE = "Prefer", "Preference-Applied", "dry-run"
# Of the answer in every dialect: no client takes it for a resource of the dialect.
MEDIA = "application/vnd.foldwork.dry-run+json"
PARAMETER: Json = {
    "name": PREFER,
    "in": "header",
    "description": f"With `{PREFERENCE}` the command is decided on the present state, and nothing is recorded",
    "schema": {"type": "string"},
}
# The answer, in the OpenAPI document.
ANSWER: Json = {
    "schema": {"$ref": f"{PREFIX}Reply"},
    "example": {
        "command_id": "c-1",
        "outcome": "accepted",
        "duplicate": False,
        "position": None,
        "events": [],
        "error": None,
        "dry_run": True,
        "would_record": [],
    },
}
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_NO_LETTERS = re.compile(r"[^a-z]")


class MayBeDry(Query):
    """Whether a command is only tried"""

    dry_run: bool = Field(False, description="Decide the command on the present state, and record nothing")


def begin(call: Call, takes: bool) -> None:
    """Note that a request prefers a dry run; refuse that where the operation takes none, since it would be done."""
    if not _preferred():
        return
    if not takes:
        raise _no_dry_run(f"{call.scope['method']} of this path takes no dry run", PREFER)
    CURRENT.get().dry_run = True


def asked(call: Call) -> None:
    """Note that the query asks for a dry run, where it may; it and the header must not say different things."""
    query = MayBeDry.read(call)
    exchange = CURRENT.get()
    if exchange.dry_run and "dry_run" in query.model_fields_set and not query.dry_run:
        raise _no_dry_run("the header prefers a dry run, and the query wants none", "dry_run")
    exchange.dry_run = exchange.dry_run or query.dry_run


def demand_none() -> None:
    """Refuse a dry run of many commands; each of them would be tried as if the others were not there."""
    exchange = CURRENT.get()
    if exchange.dry_run:
        exchange.dry_run = False
        raise _no_dry_run("several commands at once take no dry run", PREFER)


def answer() -> Response:
    """Return the answer to the command that was tried."""
    reply = CURRENT.get().tried
    assert reply is not None  # noqa: S101
    return Response(wire.encode_reply(reply), 200, media_type=MEDIA)


def _preferred() -> bool:
    """Tell whether the request prefers a dry run; refuse what may be meant as one, since it would be done."""
    text = header(b"prefer")
    if text is None:
        return False
    found = False
    for each in _QUOTED.sub(lambda quoted: "x" if quoted[1] else "", text).split(","):
        name, _, value = each.partition(";")[0].partition("=")
        name = name.strip().lower()
        if name == PREFERENCE and not value.strip():
            found = True
        elif _NO_LETTERS.sub("", name) == "dryrun":
            raise _no_dry_run(f"a dry run is preferred as `{PREFERENCE}`, without a value", PREFER)
    return found


def _no_dry_run(detail: str, parameter: str) -> ApiError:
    return ApiError("bad-header" if parameter == PREFER else "bad-filter", detail, parameter=parameter)
