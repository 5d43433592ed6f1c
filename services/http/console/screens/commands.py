"""Commands: what the buttons of the other screens send, a form for any command, and what became of one."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
from starlette.responses import Response

from domain import COMMANDS
from domain.lifecycle import ROWS, TERMINAL
from services.http.console.api import Refused, path_of
from services.http.console.screen import ROOT, Screen, Visit

# What cannot be taken back is shown before it is done: commands that end something, or take something away.
HARMFUL = frozenset(
    name
    for name, row in ROWS.items()
    if (row.cells is not None and set(row.cells.values()) & TERMINAL) or name.endswith((".cancel", ".retire"))
)


def required(kind: str) -> list[str]:
    """Return the fields that a command must have."""
    return [
        each.name
        for each in dataclasses.fields(COMMANDS[kind])
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    ]


def at_once(kind: str) -> bool:
    """Tell whether a command needs nothing but the id of what it is for."""
    return kind in COMMANDS and required(kind) == ["id"]


async def give(visit: Visit) -> Response:
    """Send a command; try it first if it is harmful, or if that is asked for."""
    kind, form = visit.form.one("type"), visit.form
    try:
        data = msgspec.json.decode(form.one("data", "{}"))
    except msgspec.DecodeError as error:
        raise Refused(400, {"code": "not-json", "detail": str(error), "pointer": "/data"}) from None
    if form.one("try") or (kind in HARMFUL and not form.one("sure")):
        reply = await visit.api.command(kind, data, dry_run=True)
        return visit.page("would.html", kind=kind, data=data, reply=reply)
    reply = await visit.api.command(kind, data)
    visit.api.position = reply.get("position") or visit.api.position
    return visit.done(_said(kind, reply))


def _said(kind: str, reply: Any) -> str:
    if reply.get("outcome") == "undecided":
        return f"{kind} is sent, and not decided yet."
    recorded = [event["type"] for event in reply.get("events", ())]
    return f"{kind}: " + (f"recorded {', '.join(recorded)}." if recorded else "all is so already, nothing recorded.")


async def form(visit: Visit) -> Response:
    """Show a form for a command, with the fields that it must have."""
    kind = visit.one("type")
    if kind not in COMMANDS:
        return visit.page("send.html", kind="", data={}, commands=sorted(COMMANDS), summary="", optional=[])
    wanted = {name: visit.one(name) for name in required(kind)}
    known = [each.name for each in dataclasses.fields(COMMANDS[kind])]
    given = {name: value for name, value in visit.query if name in known}
    return visit.page(
        "send.html",
        kind=kind,
        data={**wanted, **given},
        commands=sorted(COMMANDS),
        summary=ROWS[kind].summary,
        optional=[name for name in known if name not in wanted],
    )


async def receipt(visit: Visit) -> Response:
    """Show what came of a command: its events, and what these have caused."""
    command_id = visit.parts["id"]
    found = await visit.api.get(path_of("effects", command_id), visit.query)
    return visit.page("receipt.html", found=found, command_id=command_id)


async def effects(visit: Visit) -> Response:
    """Show in a history what came of a command, or why that is not known."""
    command_id, found, refused = visit.parts["id"], None, None
    try:
        found = await visit.api.get(path_of("effects", command_id))
    except Refused as error:
        refused = error
    return visit.page("effects_of.html", found=found, error=refused, command_id=command_id)


SCREENS = (
    Screen("GET", f"{ROOT}/commands", form, permission="write"),
    Screen("POST", f"{ROOT}/commands", give, permission="write"),
    Screen("GET", f"{ROOT}/commands/{{id:path}}", receipt),
    Screen("GET", f"{ROOT}/effects/{{id:path}}", effects),
)
