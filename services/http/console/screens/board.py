"""The board: the open work of each person, and giving it to another one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from domain.lifecycle import TERMINAL, Lifecycle
from services.http.console.api import Refused, path_of
from services.http.console.rendering import place
from services.http.console.screen import ROOT, Menu, Screen, Visit

OPEN = tuple(state.lower() for state in Lifecycle if state not in TERMINAL)
# People of a page, the tasks that are read of each, and those that are shown; and the tasks of a page of one person.
_PEOPLE, _READ, _SHOWN, _PAGE = 24, 20, 8, 50
# The requests that one page has under way, and the people that a field proposes.
_AT_ONCE, _PROPOSED = 4, 200
# How often a bulk is looked at before the page leaves it to itself.
_LOOKS, _SECONDS = 40, 0.1
_FILTERS = ("hub", "project")


@dataclass(frozen=True, slots=True)
class Column:
    """The open tasks of somebody, those due first; `more` tells whether there are others that were not read."""

    member: str
    name: str
    tasks: list[dict[str, Any]]
    more: bool

    @property
    def shown(self) -> list[dict[str, Any]]:
        """Return the tasks that stand on the board."""
        return self.tasks[:_SHOWN]

    @property
    def load(self) -> list[tuple[str, int]]:
        """Return how many tasks are overdue, at work, and still to begin."""
        overdue = sum(task["overdue"] for task in self.tasks)
        active = sum(task["status"] == "active" and not task["overdue"] for task in self.tasks)
        return [("failed", overdue), ("working", active), ("open", len(self.tasks) - overdue - active)]


async def board(visit: Visit) -> Response:
    """Show people with their open work, and the work that nobody has."""
    cursor = visit.one("cursor")
    page = await _members(visit, _PEOPLE, cursor)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def column(member: str, name: str) -> Column:
        async with turns:
            found = await _tasks(visit, member, _READ)
        return Column(member, name, found["data"], found["next"] is not None)

    # Who has nothing is told from everybody by the first page alone.
    nobody = [] if cursor else [column("", "Nobody")]
    columns = await asyncio.gather(*nobody, *(column(each["id"], _name(each)) for each in page["data"]))
    return visit.page(
        "board.html",
        columns=columns,
        next=visit.onward(page["next"]),
        most=max((len(each.tasks) for each in columns), default=0) or 1,
        filters=_FILTERS,
        read=_READ,
    )


async def member(visit: Visit) -> Response:
    """Show the open tasks of one person."""
    who = visit.parts["member"]
    tasks, people = await asyncio.gather(_tasks(visit, who, _PAGE, visit.one("cursor")), _members(visit, _PROPOSED))
    try:
        entry = await visit.api.get(path_of("directory", "member", who), {"retired": "true"})
    except Refused as error:
        # Tasks may be of somebody whom the directory does not have.
        if error.status != 404 or not tasks["data"]:
            raise
        entry = None
    return visit.page(
        "board_member.html",
        member=who,
        entry=entry,
        name=who if entry is None else _name(entry),
        column=Column(who, "", tasks["data"], tasks["next"] is not None),
        next=visit.onward(tasks["next"]),
        people=[(each["id"], _name(each)) for each in people["data"] if each["id"] != who],
    )


async def reassign(visit: Visit) -> Response:
    """Give one task to somebody else, in place of `from`; without `to` nobody has it in that place."""
    task_id, before, to = (visit.form.one(name) for name in ("task", "from", "to"))
    task = await visit.api.get(path_of("tasks", task_id))
    others = [each for each in task["assignees"] if each != before]
    people = [*others, to] if to and to not in others else others
    kind, data = ("task.reassign", {"assignees": people}) if people else ("task.unassign", {})
    # Nobody is taken away who was put there since the page was read.
    body = {"type": kind, "data": {"id": task_id, **data}, "expected_version": task["version"]}
    reply = await visit.api.send("POST", path_of("commands"), body)
    visit.api.position = reply.get("position") or visit.api.position
    if reply.get("outcome") == "undecided":
        return visit.done(f"{kind} of {task_id} is sent, and not decided yet.")
    return visit.done(f"{task_id} is now with {', '.join(people) or 'nobody'}.")


async def reassign_all(visit: Visit) -> Response:
    """Preview giving all open tasks of somebody to another one, then do it."""
    who, to, bulk_id = visit.parts["member"], visit.form.one("to"), visit.form.one("bulk")
    if not bulk_id:
        if not to:
            raise Refused(422, {"code": "wrong-shape", "detail": "say who is to have the tasks", "pointer": "/to"})
        chosen = {"assignee": who, "status": list(OPEN)}
        asked = {"command": "task.reassign", "data": {"assignees": [to]}, "filter": chosen}
        bulk = await visit.api.send("POST", path_of("bulk"), asked)
        refused = await visit.api.get(
            path_of("bulk", bulk["id"], "items"), {"state": ["refused", "skipped"], "limit": 5}
        )
        return visit.page("board_would.html", member=who, to=to, bulk=bulk, refused=refused)
    bulk = await visit.api.send("POST", path_of("bulk", bulk_id, "run"), {"rate": "all"})
    for _ in range(_LOOKS):
        if bulk["state"] != "running":
            break
        await asyncio.sleep(_SECONDS)
        bulk = await visit.api.get(path_of("bulk", bulk_id))
    counts = bulk["counts"]
    text = f"{counts['accepted']} of {bulk['total']} tasks reassigned, {counts['refused']} refused"
    return visit.done(
        f"{text}, {counts['skipped']} skipped." if bulk["state"] == "finished" else f"{text}; {bulk['state']}.",
        more=place("bulk", bulk_id),
    )


async def _members(visit: Visit, limit: int, cursor: str = "") -> Any:
    query = {"limit": limit, **({"cursor": cursor} if cursor else {})}
    return await visit.api.get(path_of("directory", "member"), query)


async def _tasks(visit: Visit, who: str, limit: int, cursor: str = "") -> Any:
    query = [("assignee", who), *(("status", state) for state in OPEN), ("sort", "end"), ("limit", str(limit))]
    query += [(name, visit.one(name)) for name in _FILTERS if visit.one(name)]
    return await visit.api.get(path_of("tasks"), [*query, ("cursor", cursor)] if cursor else query)


def _name(entry: dict[str, Any]) -> str:
    return str(entry["fields"].get("name") or entry["id"])


SCREENS = (
    Screen("GET", f"{ROOT}/board", board, menu=Menu("Board", "users", "b", 4)),
    Screen("POST", f"{ROOT}/board", reassign, permission="write"),
    Screen("GET", f"{ROOT}/board/{{member}}", member),
    Screen("POST", f"{ROOT}/board/{{member}}", reassign_all, permission="operate"),
)
