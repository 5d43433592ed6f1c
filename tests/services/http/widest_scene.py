"""A tenant in which every command can be given with the widest value of each of its fields, and what leads up to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from domain import COMMANDS
from domain.directory.fields import ENTRY_FIELDS, MAX_URL, NAME
from domain.limits import MAX_ASSIGNEES, MAX_KEYS, MAX_LISTED, MAX_MAPPINGS, MAX_PROJECTS, MAX_STEPS, Items, Text
from domain.steps import Step
from tests.widest import Place, built, identifier, places, wide, widest

Command = tuple[str, dict[str, Any]]

# What others refer to.
PROJECT, COMMERCE, ROUTE, OPERATOR, CHANNEL = map(identifier, ("project", "commerce", "route", "operator", "channel"))
USER = identifier("user")
MEMBERS = [identifier(f"member-{number}") for number in range(MAX_LISTED)]
PERSON = wide(248, "person") + "@x.vn"[:5] + "n"
ENTRIES: list[Command] = [
    ("directory.register", {"kind": "project", "id": PROJECT, "fields": {}}),
    ("directory.register", {"kind": "commerce", "id": COMMERCE, "fields": {"users": [{"id": USER, "role": "clerk"}]}}),
    ("directory.register", {"kind": "route", "id": ROUTE, "fields": {}}),
    ("directory.register", {"kind": "operator", "id": OPERATOR, "fields": {}}),
    ("directory.register", {"kind": "policy", "id": "channels", "fields": {"value": ["SMS", CHANNEL]}}),
    ("directory.register", {"kind": "dispatch", "id": "SMS", "fields": {"provider": "console"}}),
    *(
        ("directory.register", {"kind": "member", "id": member, "fields": {"email": PERSON} if not number else {}})
        for number, member in enumerate(MEMBERS)
    ),
]
# Values that must be known, or fit others; every other value may be any of its type.
KNOWN: dict[str, Any] = {
    "project": PROJECT,
    "commerce": COMMERCE,
    "route": ROUTE,
    "operator": OPERATOR,
    "channel": CHANNEL,
    "assignees": PERSON,
    "whitelist": PERSON,
    "blacklist": PERSON,
    "member": PERSON,
    "user": USER,
}


def workflow(own: str, steps: int = 1) -> Command:
    made = [{"name": f"S{number}"} for number in range(steps)]
    return "workflow.define", {"id": own, "name": f"Name of {own}", "steps": made}


def task(own: str, **rest: Any) -> Command:
    return "task.create", {"id": own, **rest}


def running(own: str) -> list[Command]:
    """A person of its own who is at work on a task."""
    member = {"kind": "member", "id": own, "fields": {"email": email(own)}}
    start = ("task.process", {"id": own})
    return [("directory.register", member), task(own, assignees=[own]), start]


def email(own: str) -> str:
    return wide(248, own) + "@x.vnn"


def unresolved(own: str) -> Command:
    return task(own, commerce=COMMERCE, plan={"channel": "SMS", "criteria": [{"type": "ROLE_MATCH", "role": "cook"}]})


def out(own: str) -> list[Command]:
    return [task(own, plan={"channel": "SMS"}), ("task.dispatch", {"id": own})]


# What leads up to a command on what has this id, and the command's own data.
SCENES: dict[str, Callable[[str], tuple[list[Command], dict[str, Any]]]] = {
    "workflow.define": lambda own: ([], workflow(own)[1]),
    "workflow.change": lambda own: ([workflow(own)], {"id": own, "steps": [{"name": "S"}]}),
    "workflow.retire": lambda own: ([workflow(own)], {"id": own}),
    "activity.create": lambda own: ([workflow(own)], {"id": own, "workflow_id": own, "tasks": [{}]}),
    "activity.change": lambda own: ([*run(own)], {"id": own}),
    "activity.cancel": lambda own: ([*run(own)], {"id": own}),
    "task.create": lambda own: ([], {"id": own}),
    "task.assign": lambda own: ([task(own)], {"id": own, "assignees": [PERSON]}),
    "task.claim": lambda own: ([task(own)], {"id": own, "member": PERSON}),
    "task.reassign": lambda own: ([task(own, assignees=[MEMBERS[1]])], {"id": own, "assignees": [PERSON]}),
    "task.unassign": lambda own: ([task(own, assignees=[PERSON])], {"id": own}),
    "task.process": lambda own: ([task(own)], {"id": own}),
    "task.pause": lambda own: ([task(own), ("task.process", {"id": own})], {"id": own}),
    "task.save": lambda own: ([task(own)], {"id": own, "data": {}}),
    "task.change": lambda own: ([task(own)], {"id": own}),
    "task.complete": lambda own: ([task(own, assignees=[PERSON])], {"id": own}),
    "task.error": lambda own: ([task(own)], {"id": own}),
    "task.cancel": lambda own: ([task(own)], {"id": own}),
    "task.retry": lambda own: ([task(own), ("task.error", {"id": own})], {"id": own}),
    "task.dispatch": lambda own: ([task(own, plan={"channel": "SMS"})], {"id": own}),
    "task.report-dispatch": lambda own: (out(own), {"id": own, "attempt": 1, "succeeded": False}),
    "task.submit-result": lambda own: ([task(own, commerce=COMMERCE)], {"id": own, "result": "COMPLETED"}),
    "task.retry-resolution": lambda own: ([unresolved(own)], {"id": own}),
    "task.resolve-target": lambda own: ([unresolved(own)], {"id": own, "target": "t1", "user": USER}),
    "task.wake": lambda own: ([task(own)], {"id": own, "kind": "overdue", "due": "x"}),
    "tracker.pause": lambda own: (running(own), {"member": email(own)}),
    "tracker.resume": lambda own: ([*running(own), ("tracker.pause", {"member": own})], {"member": email(own)}),
    "directory.register": lambda own: ([], {"kind": "route", "id": own}),
    "directory.put": lambda own: ([], {"kind": "route", "id": own, "fields": {}}),
    "directory.change": lambda own: (
        [("directory.register", {"kind": "route", "id": own})],
        {"kind": "route", "id": own, "fields": {}},
    ),
    "directory.retire": lambda own: (
        [("directory.register", {"kind": "route", "id": own})],
        {"kind": "route", "id": own},
    ),
}


def run(own: str) -> list[Command]:
    return [
        workflow(own),
        ("activity.create", {"id": own, "workflow_id": own, "tasks": [{"id": identifier(f"c{own}")}]}),
    ]


# What no command can be accepted with at its widest: nothing has a name of that length.
NOT_THERE = {("task.resolve-target", "/target")}


def cases() -> list[tuple[str, list[Command], Command]]:
    """Return every field of every command at its widest: what it is, what leads up to it, and the command."""
    found = []
    for name, kind in COMMANDS.items():
        for place in places(kind):
            if (name, place.pointer) not in NOT_THERE:
                own = identifier(f"{len(found)}-")
                setup, data = SCENES[name](own)
                found.append((f"{name}{place.pointer}", *_with(setup, name, data, place, own)))
    for kind_of_entry, hints in ENTRY_FIELDS.items():
        for field, hint in {**NAME, **hints}.items():
            for place in places(hint):
                own = identifier(f"{len(found)}-")
                fields = {**_FIELDS.get(kind_of_entry, {}), field: _of_entry(field, hint, place, own)}
                command = ("directory.register", {"kind": kind_of_entry, "id": own, "fields": fields})
                found.append((f"{kind_of_entry}.{field}{place.pointer}", [], command))
    return found


def _with(
    setup: list[Command], name: str, data: dict[str, Any], place: Place, own: str
) -> tuple[list[Command], Command]:
    path = place.path
    if path in (("id",), ("workflow_id",)) or (name.startswith("tracker.") and path == ("member",)):
        return setup, (name, data)
    if path[0] == "memberships":
        member = ("directory.register", {"kind": "member", "id": own, "fields": {"email": email(own)}})
        many = {identifier(f"p{own[:8]}-{number}"): {"is_manager": True} for number in range(MAX_PROJECTS)}
        return [member], (name, {"kind": "member", "id": own, "fields": {}, "memberships": many})
    if path == ("tasks",):
        setup, value = [workflow(own, MAX_STEPS)], [{} for _ in range(MAX_STEPS)]
        return setup, (name, {**data, "tasks": value})
    if path == ("steps",) or "field_mapping" in path:
        return [workflow(own, MAX_STEPS)] if setup else [], (name, {**data, "steps": _steps(path, place)})
    value = _value(path, place, own)
    if "criteria" in path:
        data = {**data, **_around_criteria(path)}
    elif "plan" in path:
        plan = {"plan": {"channel": "SMS"}}
        data = {**data, "tasks": [plan]} if path[0] == "tasks" else {**data, **plan}
    if path[-2:] in (("attributes", 0), (0, "value"), (0, "fallback")) and "attributes" in path:
        attributes = {"attributes": [{"key": "k"}]}
        data = {**data, "tasks": [attributes]} if path[0] == "tasks" else {**data, **attributes}
    return setup, (name, built(COMMANDS[name], path, value, data))


def _value(path: tuple[str | int, ...], place: Place, own: str) -> Any:
    field = [part for part in path if isinstance(part, str)][-1]
    if isinstance(place.limit, Items):
        lists = {
            "assignees": MEMBERS[:MAX_ASSIGNEES],
            "whitelist": MEMBERS,
            "blacklist": MEMBERS,
            "criteria": [{"type": "ANY", "priority": number} for number in range(MAX_KEYS)],
            "attribute_keys": [identifier(f"a{number}") for number in range(MAX_KEYS)],
            "attributes": [{"key": f"{number:03}" + wide(197, number), "value": number} for number in range(MAX_KEYS)],
        }
        return lists.get(field) or widest(place, own)
    if field == "id":
        # The step's, which is not the activity's.
        return identifier(f"c{own}")
    return KNOWN[field] if field in KNOWN else widest(place, own)


def _around_criteria(path: tuple[str | int, ...]) -> dict[str, Any]:
    plan = {"plan": {"channel": "SMS", "criteria": [{"type": "ANY"}]}, "commerce": COMMERCE}
    return {"tasks": [plan]} if path[0] == "tasks" else plan


def _steps(path: tuple[str | int, ...], place: Place) -> list[dict[str, Any]]:
    last: dict[str, Any] = {"name": "Last"}
    if path[2:] == ("field_mapping",):
        last["field_mapping"] = [
            {"step": number % 9, "from_field": f"{number:03}" + wide(97), "to_field": f"{number:03}" + wide(97)}
            for number in range(MAX_MAPPINGS)
        ]
    elif len(path) > 2:
        mapping = [{"step": 0, "from_field": "a", "to_field": "b"}]
        last = built(Step, path[2:], widest(place), {**last, "field_mapping": mapping})
    return [*({"name": f"S{number}"} for number in range(MAX_STEPS - 1)), last]


# What an entry of a kind must have.
_FIELDS: dict[str, dict[str, Any]] = {
    "attribute": {"strategy": "UPFRONT", "source": "commerce"},
    "targeting": {"criteria": [{"type": "ANY"}]},
    "dispatch": {"provider": "http", "url": "http://x"},
    "outcome": {"label": "Sold"},
    "retention": {"label": "Active"},
}


def _of_entry(field: str, hint: Any, place: Place, own: str) -> Any:
    if field == "email":
        return email(own)
    if field == "source":
        return "commerce." + wide(191, own)
    if field == "url":
        return "http://x/" + "y" * (MAX_URL - 9)
    if field == "projects":
        return {identifier(f"p{own[:8]}-{number}"): {"is_manager": True} for number in range(place.limit.most)}
    if field == "users":
        many = range(place.limit.most if isinstance(place.limit, Items) else 1)
        users = [{"id": identifier(f"u{number}"), "role": "clerk"} for number in many]
        return users if isinstance(place.limit, Items) else built(hint, place.path, widest(place, own), users)
    if field in ("criteria", "fallbacks") and not isinstance(place.limit, Items):
        return built(hint, place.path, widest(place, own), [{"type": "ROLE_MATCH", "role": "r"}])
    if field in ("criteria", "fallbacks"):
        return [{"type": "ROLE_MATCH", "role": wide(100, number)} for number in range(place.limit.most)]
    if isinstance(place.limit, Text) or not isinstance(place.limit, Items):
        return built(hint, place.path, widest(place, own))
    return [wide(100, number) for number in range(place.limit.most)]
