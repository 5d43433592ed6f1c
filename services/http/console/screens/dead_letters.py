"""Dead letters: their groups and lists, and one of them, which is edited, tried, sent again or discarded."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from starlette.responses import Response

from services.http.console.api import Refused, path_of
from services.http.console.screen import ROOT, Menu, Screen, Visit

STATES = ("parked", "retrying", "retried", "discarded")
# The state of the address that asks for all of them; the list shows what nobody has decided on by itself.
ANY = "any"
_FIELDS = ("reason", "type", "key", "fingerprint")
_LIST = f"{ROOT}/dead-letters"


async def letters(visit: Visit) -> Response:
    """Show the groups of letters with their counts, and a page of the letters."""
    state = visit.one("state") or STATES[0]
    query = [(name, value) for name, value in visit.query if name != "state"]
    query += [("state", state)] if state != ANY else []
    which = [(name, value) for name, value in query if name not in ("cursor", "limit")]
    groups = (await visit.api.get(path_of("dead-letters", "groups"), which))["data"]
    page = await visit.api.get(path_of("dead-letters"), query)
    following = page["next"]
    return visit.page(
        "letters.html",
        state=state,
        states=(*STATES, ANY),
        fields=_FIELDS,
        groups=groups,
        page=page["data"],
        next=f"{following}&state={ANY}" if following and state == ANY else following,
    )


async def letter(visit: Visit) -> Response:
    """Show a letter with what it holds, and the receipt of its command."""
    found = await _found(visit)
    receipt = None
    if found["message_id"] and visit.may("read"):
        try:
            receipt = await visit.api.get(path_of("commands", found["message_id"]))
        except Refused as error:
            # An id that no command may have is refused, and has no receipt either.
            if error.status not in (400, 404):
                raise
    body = base64.b64decode(found["body_base64"])
    return visit.page(
        "letter.html",
        letter=found,
        receipt=receipt,
        data=_sent(found),
        body=body.decode("utf-8", "backslashreplace"),
        cut=found["data"] is None and len(body) < found["bytes"],
    )


async def retry(visit: Visit) -> Response:
    """Try a letter with its data as edited, and send it again once that was seen."""
    letter_id, form = visit.parts["id"], visit.form
    body: dict[str, Any] = {"out_of_order": True} if form.one("out_of_order") else {}
    if text := form.one("data"):
        try:
            given = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise Refused(400, {"code": "not-json", "detail": str(error), "pointer": "/data"}) from None
        # Data that nobody has edited is not recorded as edited.
        if given != _sent(await _found(visit)):
            body["data"] = given
    path = path_of("dead-letters", letter_id, "retry")
    if not form.one("sure"):
        reply = await visit.api.send("POST", path, body, {"dry_run": "true"})
        return visit.page(
            "sure.html",
            ask="Sent again, the command would record:",
            records=reply["would_record"],
            path=visit.path,
            values={"data": text, "out_of_order": form.one("out_of_order")},
            label="Send it again",
        )
    await visit.api.send("POST", path, body)
    return visit.done("The letter is being sent again; its state says what becomes of it.")


async def discard(visit: Visit) -> Response:
    """Discard a letter for a reason."""
    letter_id, reason = visit.parts["id"], visit.form.one("reason")
    if not visit.form.one("sure") and reason:
        return visit.page(
            "sure.html",
            ask=f"The command is never decided, and the letter is deleted after a while. The reason: {reason}",
            path=visit.path,
            values={"reason": reason},
            label="Discard it",
        )
    await visit.api.send("POST", path_of("dead-letters", letter_id, "discard"), {"reason": reason})
    return visit.done("The letter is discarded.")


async def _found(visit: Visit) -> dict[str, Any]:
    """Return the letter, with the values that the API leaves out where there are none."""
    none: dict[str, Any] = {"error": None, "data": None, "body_base64": "", "edited": None, "headers": {}}
    return {**none, **await visit.api.get(path_of("dead-letters", visit.parts["id"]))}


def _sent(letter: dict[str, Any]) -> Any:
    """Return the data that is sent again unless it is edited; None where the body is no object."""
    return letter["data"] if letter["edited"] is None else letter["edited"]


SCREENS = (
    Screen("GET", _LIST, letters, menu=Menu("Dead letters", "mail-warning", "l", 7)),
    Screen("GET", f"{_LIST}/{{id}}", letter, permission="operate"),
    Screen("POST", f"{_LIST}/{{id}}/retry", retry, permission="operate"),
    Screen("POST", f"{_LIST}/{{id}}/discard", discard, permission="operate"),
)
