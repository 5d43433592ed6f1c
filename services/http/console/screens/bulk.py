"""Bulks: a command for chosen rows, for what a filter finds, or for dead letters; previewed, run, and followed."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import RedirectResponse, Response

from domain import COMMANDS
from services.http.console.api import Refused, path_of
from services.http.console.forms import BadForm, Form, parsed
from services.http.console.rendering import place
from services.http.console.screen import ROOT, Menu, Screen, Visit
from services.http.console.screens.commands import required
from services.http.console.screens.lists import NOBODY

_LIST = f"{ROOT}/bulk"
_OF_LETTERS = {"dead-letter.retry": {}, "dead-letter.discard": {"reason": ""}}
_WHICH_LETTERS = ("reason", "fingerprint", "type", "key", "since")
# What a list's form says beside the filter of the list.
_ABOUT = ("command", "id", "all", "cursor", "limit", "sort")
RATES = ("ramp", "1", "2", "5", "10", "20", "50", "100", "200", "500", "1000", "all")
STATES = ("ready", "pending", "accepted", "refused", "skipped", "unknown")
ENDED = ("finished", "aborted", "expired")
LISTED = ("previewed", "running", "paused", *ENDED)
# What the API leaves out where there is no value.
_NONE = dict.fromkeys(("reason", "rate", "previewed_at", "started_at", "ended_at"))
_NONE_OF_ITEM = dict.fromkeys(
    ("reason", "would_record", "error", "command_id", "first_position", "last_position", "decided_at")
)
# While it is in these states the page is read again and again; after a pause once, with what was decided meanwhile.
MOVING = ("previewing", "running", "aborting")
_VERBS = ("run", "resume", "pause", "abort")


def commands() -> list[str]:
    """Return the commands that a bulk may be of; the API refuses those of the service itself."""
    many = (name for name in COMMANDS if name.startswith(("task.", "activity.")) and not name.endswith(".create"))
    return [*sorted(many), *_OF_LETTERS]


async def bulks(visit: Visit) -> Response:
    """List bulks, the newest first."""
    page = await visit.api.get(path_of("bulk"), visit.query)
    found = [{**_NONE, **bulk} for bulk in page["data"]]
    moving = any(bulk["state"] in MOVING for bulk in found)
    return visit.page("bulks.html", bulks=found, next=page["next"], states=LISTED, commands=commands(), moving=moving)


async def new(visit: Visit) -> Response:
    """Show the form of a bulk, for what the address names: ids, a filter of a list, or one of dead letters."""
    kind = visit.one("command")
    if kind not in commands():
        return RedirectResponse(_LIST, 303)
    given = parsed(visit.request.scope["query_string"])
    ids = [] if given.one("all") else [each for each in given.all("id") if each]
    filters = {name: values for name, values in given.fields.items() if name not in _ABOUT and any(values)}
    wanted = _OF_LETTERS.get(kind)
    data = dict.fromkeys(required(kind), "") if wanted is None else wanted
    data.pop("id", None)
    asked: dict[str, Any] = {"ids": ids} if ids else {"filter": _filter(filters)}
    if kind in _OF_LETTERS:
        asked = {"dead_letters": {name: given.one(name) for name in _WHICH_LETTERS if given.one(name)}}
    return visit.page("bulk_new.html", kind=kind, data=data, asked=asked)


def _filter(fields: dict[str, list[str]]) -> dict[str, Any]:
    """Return the parameters of a list's address as the filter of a bulk has them."""
    found: dict[str, Any] = {"assignee": None} if fields.get(NOBODY) == ["true"] else {}
    for name, values in fields.items():
        if name == NOBODY:
            continue
        texts = [value for value in values if value.strip()]
        one: Any = texts[0] if len(texts) == 1 else texts
        found[name] = {"true": True, "false": False}.get(one, one) if isinstance(one, str) else one
    return found


async def preview(visit: Visit) -> Response:
    """Have a bulk previewed, and go to it."""
    form = visit.form
    body: dict[str, Any] = {"command": form.one("command"), "on_change": form.one("on_change", "skip")}
    body |= {"data": _json(form, "data"), **_which(form)}
    made = await visit.api.send("POST", path_of("bulk"), body)
    return visit.go(place("bulk", made["id"]))


def _which(form: Form) -> dict[str, Any]:
    for name in ("filter", "dead_letters"):
        if name in form.fields:
            return {name: _json(form, name)}
    return {"ids": form.one("ids").split()}


def _json(form: Form, name: str) -> Any:
    try:
        return msgspec.json.decode(form.one(name) or "{}")
    except msgspec.DecodeError as error:
        raise Refused(400, {"code": "not-json", "detail": str(error), "pointer": f"/{name}"}) from None


async def bulk(visit: Visit) -> Response:
    """Show how far a bulk is, and a page of its items."""
    own = path_of("bulk", visit.parts["id"])
    found = {**_NONE, **await visit.api.get(own)}
    page = await visit.api.get(
        f"{own}/items", [each for each in visit.query if each[0] in ("state", "cursor", "limit")]
    )
    counts = found["counts"]
    return visit.page(
        "bulk.html",
        bulk=found,
        items=[{**_NONE_OF_ITEM, **item} for item in page["data"]],
        next=page["next"],
        states=STATES,
        rates=RATES,
        ended=found["state"] in ENDED,
        again="every 1s" if found["state"] in MOVING else "load delay:2s" if found["state"] == "paused" else "",
        kind=found["command"].partition(".")[0],
        left=counts["pending"] if found["state"] == "previewing" else counts["ready"],
    )


async def act(visit: Visit) -> Response:
    """Run a bulk, pause it, go on with it, or abort it."""
    bulk_id, verb, form = visit.parts["id"], visit.parts["verb"], visit.form
    if verb not in _VERBS:
        raise BadForm(f"a bulk can be told to {', '.join(_VERBS)}")
    if verb == "abort" and not form.one("sure"):
        return visit.page(
            "sure.html",
            ask="What was sent is decided, and the items that are left are skipped. It cannot be run again.",
            path=visit.path,
            values={},
            label="Abort it",
        )
    rate = form.one("rate")
    body = {"rate": int(rate) if rate.isascii() and rate.isdigit() else rate} if rate else {}
    reply = await visit.api.send("POST", path_of("bulk", bulk_id, verb), body if verb in ("run", "resume") else None)
    return visit.done(f"The bulk is {reply['state']}.")


SCREENS = (
    Screen("GET", _LIST, bulks, menu=Menu("Bulk", "boxes", "u", 8)),
    Screen("POST", _LIST, preview, permission="operate"),
    Screen("GET", f"{_LIST}/new", new, permission="operate"),
    Screen("GET", f"{_LIST}/{{id}}", bulk),
    Screen("POST", f"{_LIST}/{{id}}/{{verb}}", act, permission="operate"),
)
