"""What the screens have to show: work that goes well, work that is stuck, and text that would like to be markup."""

from __future__ import annotations

from tests.services.http.api import Api

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>{{7*7}}&amp;'\""
LONG = "A title that goes on and on " * 6


def set_the_scene(api: Api) -> None:
    """Record three workflows' worth of work of the tenant acme."""
    for member, name in (("ann", "Ann Archer"), ("ben", "Ben Baker"), ("eve", HOSTILE)):
        api.command(
            "directory.register",
            {"kind": "member", "id": member, "fields": {"name": name, "email": f"{member}@example.com"}},
        )
    steps = [{"name": "Pickup"}, {"name": "Transport"}, {"name": "Delivery"}]
    api.command("workflow.define", {"id": "w1", "name": "Pickup to Delivery", "steps": steps})
    api.command("workflow.define", {"id": "w2", "name": HOSTILE, "steps": [{"name": HOSTILE}]})
    for number in range(1, 9):
        tasks = [{"id": f"a{number}-t{step}", "assignees": [("ann", "ben")[step % 2]]} for step in range(3)]
        fields = {"customer": f"Customer {number}", "priority": number}
        api.command(
            "activity.create",
            {
                "id": f"a{number}",
                "workflow_id": "w1",
                "title": f"Order {4710 + number}",
                "tasks": tasks,
                "fields": fields,
            },
        )
    for task in ("a1-t0", "a2-t0", "a3-t0", "a3-t1"):
        api.command("task.process", {"id": task})
    api.command("task.process", {"id": "a1-t0"})
    api.command("task.complete", {"id": "a1-t0", "data": {"weight": 12.5}})
    api.command("task.error", {"id": "a2-t0", "comment": "The gate was closed."})
    api.command("task.change", {"id": "a3-t1", "title": "By truck", "end": "2025-10-30T12:00:00Z"})
    api.command("task.change", {"id": "a3-t1", "title": "By train"})
    api.command("task.unassign", {"id": "a4-t1"})
    api.command("activity.cancel", {"id": "a8", "reason": "The customer has left."})
    for kind in (HOSTILE, LONG):
        api.command("task.create", {"title": kind[:200], "fields": {"note": kind}, "assignees": ["eve"]})
    hostile = {"id": "hostile", "workflow_id": "w2", "title": HOSTILE, "tasks": [{"id": "hostile-t", "title": HOSTILE}]}
    api.command("activity.create", {**hostile, "fields": {"note": HOSTILE}})
