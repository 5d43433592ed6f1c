"""Read models and the other followers of the log: how far they are, what they hold back, rebuilding one."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from domain.decider import SYSTEM
from services.http.console.api import Refused, path_of
from services.http.console.screen import ROOT, Menu, Screen, Visit

_UNDER_WAY = ("waiting", "running")


async def projections(visit: Visit) -> Response:
    """Show all of them."""
    found = (await visit.api.get(path_of("projections")))["data"]
    return visit.page("projections.html", projections=found)


async def projection(visit: Visit) -> Response:
    """Show one of them, with its rebuild."""
    found = await visit.api.get(path_of("projections", visit.parts["name"]))
    rebuild = found["rebuild"]
    busy = rebuild is not None and rebuild["state"] in _UNDER_WAY
    # Tables are of all tenants, so only a key of the system may have them built again.
    may = visit.may("operate") and visit.caller.actor == SYSTEM and found["kind"] == "read-model"
    return visit.page("projection.html", model=found, busy=busy, may=may, same=_same(rebuild))


def _same(rebuild: Any) -> bool | None:
    """Tell whether a rebuild that was compared differs in no row; None if nothing was compared."""
    if rebuild is None or rebuild["result"] is None or not rebuild["result"]["tables"]:
        return None
    tables = rebuild["result"]["tables"].values()
    return not any(table[what] for table in tables for what in ("missing", "extra", "different"))


async def act(visit: Visit) -> Response:
    """Have a read model built again, or try again what it holds back."""
    name, what = visit.parts["name"], visit.form.one("act")
    if what == "retry":
        done = await visit.api.send("POST", path_of("projections", name, "retry"))
        return visit.done(
            f"{done['entities']} held-back {'entity is' if done['entities'] == 1 else 'entities are'} tried again."
        )
    if what == "rebuild":
        diff = visit.form.one("diff", "false")
        if not visit.form.one("sure"):
            return visit.page("projection_would.html", name=name, diff=diff)
        await visit.api.send("POST", path_of("projections", name, "rebuild"), None, {"diff": diff})
        return visit.done(f"{name} is being built again beside the tables that serve.")
    raise Refused(400, {"code": "bad-form", "detail": "act is rebuild or retry", "pointer": "/act"})


SCREENS = (
    Screen("GET", f"{ROOT}/projections", projections, menu=Menu("Read models", "database", "r", 10)),
    Screen("GET", f"{ROOT}/projections/{{name}}", projection),
    Screen("POST", f"{ROOT}/projections/{{name}}", act, permission="operate"),
)
