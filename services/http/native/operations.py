"""The native API's operations: commands, activities, tasks, events and the directory; and what is said of probes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from domain.lifecycle import Lifecycle
from domain.rollup import RULES
from projections.listing import PERSON, Filter, Listing
from services.http.core.errors import PROBLEM_JSON, problem
from services.http.core.models import View
from services.http.core.openapi import parameter
from services.http.core.operation import Dialect, Link, Operation
from services.http.core.parameters import MinPosition
from services.http.native import commands, directory, lists, receipts, requests, views
from services.http.native.derived import ref
from services.http.native.errors import failure
from services.http.native.lists import ACTIVITIES, TASKS, ListEvents, ListHistory, ListResources

COMMANDS = Dialect(
    "commands", problem, failure, views.Problem, receipts.Undecided, failure_media=PROBLEM_JSON,
    failures=(401, 403, 500, 503),
)  # fmt: skip
DIRECTORY, EVENTS = replace(COMMANDS, tag="directory"), replace(COMMANDS, tag="events")
_PROBES = replace(COMMANDS, tag="operations", failure=lambda topic, status: None)

_COMMANDS = (
    Operation(
        COMMANDS, "POST", "/v1/commands", "write", "post_command", "Give a command and wait for its answer",
        description="The body is checked here as the workers check it. A key of `system` with the permission"
        " `impersonate` may name another `actor`. Without an answer in time the command is still on its way: 202.",
        request=requests.Command, handler=commands.post_command, view=receipts.Reply, located=True,
        links={"receipt": Link("get_receipt", "/command_id")},
    ),
    Operation(
        COMMANDS, "GET", "/v1/commands/{id:path}", "read", "get_receipt", "Read a command's receipt",
        handler=commands.get_receipt, view=receipts.Receipt,
    ),
    Operation(
        COMMANDS, "GET", "/v1/bulks/{id}", "read", "get_bulk",
        "Read the receipt of a bulk that is carried out in the background",
        description="A bulk is `running` until each of its parts is accepted or rejected. A part that is `undecided` is"
        " still to be sent or decided, and has its `receipt` afterwards. Kept as long as the receipts of commands are.",
        handler=commands.get_bulk, view=receipts.Bulk,
    ),
)  # fmt: skip

# Activities and tasks.

_REFERENCES = "a member id, an e-mail, `account:<number>` or `operator:<id>`"
# A person in a query, as in a command; any text beyond ASCII may stand in an address or an operator's id as well.
_PERSON = (
    r"^[A-Za-z0-9_-]{1,64}$|^account:[1-9][0-9]{0,14}$|^operator:[!-+\--~]{1,200}$"
    r"|^[!-+\--9=?A-Z\[-~]{1,120}@[!-+\--9=?A-Z\[-~]{1,120}$"
)
_TEXT = {"type": "string", "maxLength": 1000, "pattern": "^[^\\u0000]*$"}
_CHOICES = {"status": [state.value.lower() for state in Lifecycle], "rule": list(RULES)}


def _filter(name: str, known: Filter) -> dict[str, Any]:
    if known.kind == "flag":
        return parameter(name, "Filter", "boolean")
    if known.kind == "time":
        way = "From this time on" if name.endswith("__gte") else "Until this time"
        return parameter(name, f"{way}; RFC 3339 with an offset", format="date-time")
    if not known.several:
        return parameter(name, "Part of the title, in any case of letters", minLength=1, **_shape(_TEXT))
    # Several values may hold one that nothing has; a choice is only told of.
    items: dict[str, Any] = dict(_TEXT) if name != PERSON else {"type": "string", "pattern": _PERSON}
    if name in _CHOICES:
        items["examples"] = _CHOICES[name]
    if not known.nullable:
        items["minLength"] = 1
    none = ", leave it empty for none" if known.nullable else ""
    what = f"Filter: {_REFERENCES}" if name == PERSON else "Filter"
    found = parameter(name, f"{what}; repeat it for several values{none}", "array", items=items)
    return {**found, "style": "form", "explode": True}


def _shape(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "type"}


def _parameters(listing: Listing) -> Iterator[dict[str, Any]]:
    for name, known in listing.filters.items():
        yield _filter(name, known)
    sorts = [way + name for name in listing.sorts for way in ("", "-")]
    yield parameter("sort", "Order; - means descending", enum=sorts, default=listing.default)


def _of_model(
    model: lists.Model, path: str, view: type[View], page: type[View]
) -> tuple[Operation, Operation, Operation]:
    noun, plural = model.noun, path.rpartition("/")[2]
    dialect = replace(COMMANDS, tag=plural)
    return (
        Operation(
            dialect, "GET", path, "read", f"list_{plural}", f"List {plural}",
            query=ListResources, parameters=tuple(_parameters(model.listing)), handler=model.page, view=page,
            links={
                "first": Link(f"get_{noun}", "/data/0/id"),
                "history": Link(f"get_{noun}_history", "/data/0/id"),
            },
        ),
        Operation(
            dialect, "GET", f"{path}/{{id}}", "read", f"get_{noun}", f"Read one {noun}",
            query=MinPosition, handler=model.get, view=view,
        ),
        Operation(
            dialect, "GET", f"{path}/{{id}}/history", "read", f"get_{noun}_history",
            f"Read what happened to one {noun}, oldest first",
            query=ListHistory, handler=model.history, view=views.HistoryPage,
        ),
    )  # fmt: skip


_QUERIES = (
    *_of_model(ACTIVITIES, "/v1/activities", views.Activity, views.ActivityPage),
    *_of_model(TASKS, "/v1/tasks", views.Task, views.TaskPage),
    Operation(
        replace(COMMANDS, tag="activities"), "GET", "/v1/activities/{id}/explain", "read", "explain_activity",
        "Say why an activity has its status",
        query=MinPosition, handler=lists.explain, view=views.Explanation,
    ),
    Operation(
        EVENTS, "GET", "/v1/events", "read", "get_events", "Read the tenant's events in order",
        description="Ask again with `after` = `next`. A stretch without events of this tenant moves `next` on as well;"
        " `next` = `head` means that there is nothing more for now.",
        query=ListEvents, handler=lists.events, view=views.Events,
    ),
)  # fmt: skip

_KIND = {**parameter("kind", "What kind of entry", place="path"), "schema": ref("Kind")}
_ENTRIES, _ENTRY = "/v1/directory/{kind}", "/v1/directory/{kind}/{id}"
_DIRECTORY = (
    Operation(
        DIRECTORY, "POST", _ENTRIES, "write", "register_directory_entries", "Register an entry, or up to 1000 at once",
        description="Whatever is registered may be referred to by the next command at once. Registering the same again"
        " is accepted and changes nothing. A list is no transaction: each entry is registered or refused by itself;"
        " with an `Idempotency-Key` each has a key of its own by its place in the list. Two entries of one id in a"
        " list: the second is refused. A list is waited for as its length demands; with `background` it is answered at"
        " once, and its `receipt` says how far it is.\n\nWhat a kind demands of its fields (a member's `email`, a"
        " `policy`'s `value`, …) is said in the documentation of the domain.",
        parameters=(_KIND,), request=requests.Registration, handler=directory.register, view=views.Entry, status=201,
        located=True, also={200: receipts.EntryOrRegistrations, 202: receipts.UndecidedEntries},
        links={
            name: Link(f"{name}_directory_entry", "/id", path=("kind",)) for name in ("get", "change", "retire")
        },
    ),
    Operation(
        DIRECTORY, "GET", _ENTRIES, "read", "list_directory_entries", "List the entries of a kind by id",
        parameters=(_KIND,), query=lists.ListEntries, handler=directory.page, view=views.EntryPage,
    ),
    Operation(
        DIRECTORY, "GET", _ENTRY, "read", "get_directory_entry", "Read one entry",
        parameters=(_KIND,), query=lists.GetEntry, handler=directory.get, view=views.Entry,
    ),
    Operation(
        DIRECTORY, "PATCH", _ENTRY, "write", "change_directory_entry", "Change fields of an entry",
        description="Fields that are left out stay as they are; null takes one away.",
        parameters=(_KIND,), request=requests.EntryChange, handler=directory.change, view=views.Entry,
    ),
    Operation(
        DIRECTORY, "DELETE", _ENTRY, "write", "retire_directory_entry", "Retire an entry",
        description="No command may refer to it any more; what refers to it keeps its id. It may be registered again."
        " A member who is retired can do nothing, and its API keys let nobody in, even when it is registered again;"
        " the answer says which open tasks it has.",
        parameters=(_KIND,), handler=directory.retire, view=views.RetiredEntry, refusals=(400, 404, 409, 422),
    ),
)  # fmt: skip

OPERATIONS = (*_COMMANDS, *_QUERIES, *_DIRECTORY)

# What every role serves beside its work (`core.health`), without a key.
PROBES = (
    Operation(_PROBES, "GET", "/livez", "", "livez", "Is the process alive", view=views.Live),
    Operation(
        _PROBES, "GET", "/readyz", "", "readyz", "Is the process ready, and if not, what is missing",
        view=views.Readiness, also={503: views.Readiness},
    ),
    Operation(
        replace(_PROBES, media="text/plain"), "GET", "/metrics", "", "metrics", "Figures for Prometheus",
        view=views.Figures,
    ),
)  # fmt: skip
