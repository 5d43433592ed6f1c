"""What the screens have to show: work that goes well, work that is stuck, and text that would like to be markup."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.services.http.api import Api

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>{{7*7}}&amp;'\""
LONG = "A title that goes on and on " * 6


def set_the_scene(api: Api) -> None:
    """Record work of the tenant acme, and what is hostile."""
    with_work(api)
    entry = {"kind": "member", "id": "eve", "fields": {"name": HOSTILE, "email": "eve@example.com"}}
    api.command("directory.register", entry)
    api.command("workflow.define", {"id": "w2", "name": HOSTILE, "steps": [{"name": HOSTILE}]})
    for kind in (HOSTILE, LONG):
        api.command("task.create", {"title": kind[:200], "fields": {"note": kind}, "assignees": ["eve"]})
    hostile = {"id": "hostile", "workflow_id": "w2", "title": HOSTILE, "tasks": [{"id": "hostile-t", "title": HOSTILE}]}
    api.command("activity.create", {**hostile, "fields": {"note": HOSTILE}})


def with_work(api: Api, pause: timedelta = timedelta(0)) -> None:
    """Record a workflow and eight activities, some begun, failed, late or cancelled, with a pause between commands."""

    def command(name: str, data: dict[str, Any]) -> None:
        api.command(name, data)
        api.sender.now += pause

    for member, name in (("ann", "Ann Archer"), ("ben", "Ben Baker")):
        fields = {"name": name, "email": f"{member}@example.com"}
        command("directory.register", {"kind": "member", "id": member, "fields": fields})
    steps = [{"name": "Pickup"}, {"name": "Transport"}, {"name": "Delivery"}]
    command("workflow.define", {"id": "w1", "name": "Pickup to Delivery", "steps": steps})
    for number in range(1, 9):
        tasks = [{"id": f"a{number}-t{step}", "assignees": [("ann", "ben")[step % 2]]} for step in range(3)]
        given = {"title": f"Order {4710 + number}", "fields": {"customer": f"Customer {number}", "priority": number}}
        command("activity.create", {"id": f"a{number}", "workflow_id": "w1", "tasks": tasks, **given})
    for task in ("a1-t0", "a2-t0", "a3-t0", "a3-t1"):
        command("task.process", {"id": task})
    command("task.process", {"id": "a1-t0"})
    command("task.complete", {"id": "a1-t0", "data": {"weight": 12.5}})
    command("task.error", {"id": "a2-t0", "comment": "The gate was closed."})
    command("task.change", {"id": "a3-t1", "title": "By truck", "end": "2025-10-30T12:00:00Z"})
    command("task.change", {"id": "a3-t1", "title": "By train"})
    command("task.unassign", {"id": "a4-t1"})
    command("activity.cancel", {"id": "a8", "reason": "The customer has left."})
