"""Dead letters in the native API: listed, grouped, shown, sent again and discarded."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import psycopg
from starlette.responses import Response

from domain.errors import Refusal
from projections.support.query import demand_text, time_of
from services import dead_letters, letter_acts
from services.dead_letters import Edit, Json, NotDone, Rules, Seal
from services.http.core import dry_runs
from services.http.core.acts import act, by
from services.http.core.call import Call, as_json
from services.http.core.credentials import encrypted
from services.http.core.errors import ApiError
from services.http.core.middleware import CURRENT
from services.http.core.openapi import parameter
from services.http.core.operation import Link, Operation
from services.http.core.parameters import nothing_else, settled
from services.http.core.sending import send
from services.http.native import letter_models as models
from services.http.native.dialect import NATIVE
from services.http.native.lists import next_page
from services.store import dead_letters as stored
from services.store.dead_letters import Filter

_DIALECT = replace(NATIVE, tag="dead-letters")
_ONE = "/v1/dead-letters/{letter}"
_LETTER = (parameter("letter", "The id of a letter", place="path"),)
_CURSOR = re.compile(r"[0-9a-f-]{1,36}\Z")
_decode = msgspec.json.decode


def _filter(call: Call, query: models.Which) -> Filter:
    """Return the filter of a query, within the caller's tenant; raises `ApiError`."""
    texts = {name: getattr(query, name) for name in ("reason", "fingerprint", "type", "key", "state")}
    given = {name: demand_text(text, name) for name, text in texts.items() if text is not None}
    code = given.pop("reason", None)
    since = None if query.since is None else time_of(query.since, "since")
    return Filter(call.caller.tenant, code=code, since=since, **given)


async def _list(call: Call) -> Response:
    """Answer with a page of letters."""
    query = models.ListLetters.read(call)
    await settled(call, None)
    if query.cursor is not None and not _CURSOR.match(query.cursor):
        raise ApiError("bad-cursor", "a cursor is what `next` of the page before says", parameter="cursor")
    rows = await call.list_rows(stored.page(_filter(call, query), query.cursor or "", query.limit + 1))
    found = [stored.summary(row) for row in rows[: query.limit]]
    follow = next_page(call, found[-1]["arrived"]) if len(rows) > query.limit else None
    return as_json(models.DeadLetters.show({"data": [_shown(row) for row in found], "next": follow}))


async def _groups(call: Call) -> Response:
    """Answer with the groups of letters."""
    query = models.Which.read(call)
    await settled(call, None)
    rows = await call.list_rows(stored.groups(_filter(call, query), models.MAX_GROUPS))
    return as_json(models.DeadLetterGroups.show({"data": [_group(row) for row in rows]}))


async def _show(call: Call) -> Response:
    """Answer with a letter and what it holds."""
    nothing_else(call.parameters())
    await settled(call, None)
    row = await _row(call)
    data = dead_letters.data_of(row["body"])
    found = {
        **_shown(row),
        "headers": _decode(row["headers"]),
        "data": data,
        "body_base64": "" if data is not None else base64.b64encode(row["body"]).decode(),
        "edited": None if row["edited"] is None else _decode(row["edited"]),
    }
    return as_json(models.DeadLetterContent.show(found))


async def _retry(call: Call) -> Response:
    """Have a letter sent again, or try it."""
    dry_runs.asked(call)
    request = models.RetryLetter.read(await call.json() if call.has_body else {})
    if request.whole is not None and request.merge is not None:
        raise ApiError("invalid", "a letter is given other data, or a change of it", "/merge")
    edit, place = Edit(request.whole, request.merge), "/merge" if request.merge is not None else "/data"
    try:
        if CURRENT.get().dry_run:
            return await _try(call, edit)
        await _send_again(call, edit, request.out_of_order)
    except NotDone as error:
        refused = ApiError.of(error.refusal)
        raise (refused.at(f"{place}{refused.pointer}") if refused.pointer else refused) from None
    return as_json(models.DeadLetter.show(_shown(await _row(call))))


async def _send_again(call: Call, edit: Edit, out_of_order: bool) -> None:
    """Have a letter sent again; raises `NotDone`."""
    letter_id, tenant, rules = _letter(call), call.caller.tenant, _rules(call)

    def work(conn: psycopg.Connection[Any]) -> letter_acts.Done:
        return letter_acts.retry(
            conn, tenant, [letter_id], by(call), rules, edit=edit, seal=_sealed(call), out_of_order=out_of_order
        )

    done = await act(call, work)
    for refusal in done.refused.values():
        raise refusal
    CURRENT.get().position = done.position


async def _try(call: Call, edit: Edit) -> Response:
    """Have a letter decided as a dry run; raises `NotDone`."""
    row = await _row(call)
    command, _ = dead_letters.renewed(row, edit, _rules(call), dry_run=True)
    if edit != dead_letters.UNCHANGED:
        sealed = _sealed(call)(row["tenant"], row["type"], _decode(command.body))
        command = replace(command, body=msgspec.json.encode(sealed))
    call.service.rates.commands.spend(call.caller.tenant, 1)
    await send(call.service, command)
    return Response()


def _rules(call: Call) -> Rules:
    return Rules(call.service.settings.may_send, call.service.settings.command_limit)


def _sealed(call: Call) -> Seal:
    """Return what encrypts the credentials in a command's data, unless they are already."""

    def seal(tenant: str, command: str, data: Json) -> Json:
        fields = data.get("fields")
        plain = isinstance(fields, dict) and isinstance(fields.get("credentials"), dict)
        return dict(encrypted(call.service.keys, tenant, command, data)) if plain else data

    return seal


async def _discard(call: Call) -> Response:
    """Discard a letter."""
    nothing_else(call.parameters())
    request, letter_id = models.DiscardLetter.read(await call.json()), _letter(call)
    CURRENT.get().position = await act(
        call, lambda conn: letter_acts.discard(conn, call.caller.tenant, letter_id, by(call), request.reason)
    )
    return as_json(models.DeadLetter.show(_shown(await _row(call))))


def _letter(call: Call) -> str:
    """Return the id of the letter that the path names; raises `ApiError` for what is none."""
    letter_id = call.parts["letter"]
    if "\0" in letter_id:
        raise _unknown()
    return letter_id


def _unknown() -> ApiError:
    return ApiError("not-found", "there is no dead letter of this id")


async def _row(call: Call) -> Json:
    """Return the letter that the path names; those of other tenants do not exist."""
    rows = await call.service.pool.fetch(*stored.one(call.caller.tenant, _letter(call)))
    if not rows:
        raise _unknown()
    return stored.whole(rows[0])


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a letter for its view."""
    found = {**row, "reason": Refusal(row["code"], row["detail"], row["pointer"]), "error": None}
    if row["outcome_code"] is not None:
        found["error"] = Refusal(row["outcome_code"], row["outcome_detail"] or "", row["outcome_pointer"] or "")
    return {name: found[name] for name in models.DeadLetter.model_fields}


def _group(row: Any) -> dict[str, Any]:
    fingerprint, code, kind, pointer, detail, letters, messages, first_at, last_at = row
    found = {"fingerprint": fingerprint, "reason": Refusal(code, detail, pointer), "type": kind, "letters": letters}
    return {**found, "messages": messages, "first_at": first_at, "last_at": last_at}


_FOUND = {"letter": Link("get_dead_letter", "/data/0/id", "letter")}
OPERATIONS = (
    Operation(
        _DIALECT, "GET", "/v1/dead-letters", "read", "list_dead_letters", "List dead letters, the oldest first",
        query=models.ListLetters, handler=_list, view=models.DeadLetters, links=_FOUND,
    ),
    Operation(
        _DIALECT, "GET", "/v1/dead-letters/groups", "read", "group_dead_letters", "Group dead letters by their cause",
        query=models.Which, handler=_groups, view=models.DeadLetterGroups,
    ),
    Operation(
        _DIALECT, "GET", _ONE, "operate", "get_dead_letter", "Read a dead letter with what it holds",
        handler=_show, view=models.DeadLetterContent, parameters=_LETTER,
    ),
    Operation(
        _DIALECT, "POST", f"{_ONE}/retry", "operate", "retry_dead_letter", "Have a dead letter sent again",
        description="The command keeps its id, its actor and its type; its data may be edited, and is checked before it"
        " is sent. The rights of its actor are checked when it is decided. What becomes of it is in the letter's"
        " `state` and `outcome`.",
        query=dry_runs.MayBeDry, request=models.RetryLetter, body_optional=True, handler=_retry, view=models.DeadLetter,
        parameters=_LETTER, act=True,
    ),
    Operation(
        _DIALECT, "POST", f"{_ONE}/discard", "operate", "discard_dead_letter", "Discard a dead letter",
        request=models.DiscardLetter, handler=_discard, view=models.DeadLetter, parameters=_LETTER, act=True,
    ),
)  # fmt: skip
