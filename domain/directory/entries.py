"""Whatever a command may refer to: hubs, projects, members, commerces, routes, operators, and what a tenant configures.

An entry is its own stream, `<tenant>/<kind>-<id>`, so what was registered a moment ago is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, assert_never

from domain.aggregate import Aggregate
from domain.checks import demand_fits
from domain.compare import same_json
from domain.decider import Context, Decision, UniqueKey, changes, merged, own_id
from domain.directory import settings
from domain.directory.eligibility import TENANT_ADMIN, actor_kind
from domain.directory.fields import demand_bounded
from domain.directory.lookup import Entry, fresh_number
from domain.directory.memberships import in_projects
from domain.directory.rights import permit_entry
from domain.errors import Rejected
from domain.lifecycle import SYSTEM, permit
from domain.limits import MAX_ACCOUNT, MAX_OPERATOR, Fields, Id
from domain.references import FIELDS, RETIRED_EMAIL, is_account, is_email, is_operator, key_of, unique_key_of

DIRECTORY = Aggregate("directory")
Kind = Literal[
    "hub",
    "project",
    "member",
    "commerce",
    "route",
    "operator",
    "policy",
    "attribute",
    "targeting",
    "dispatch",
    "outcome",
    "retention",
]


@DIRECTORY.command("directory.register")
@dataclass(frozen=True, slots=True)
class RegisterEntry:
    kind: Kind
    id: Id | None = None
    fields: Fields = field(default_factory=dict)


@DIRECTORY.command("directory.change")
@dataclass(frozen=True, slots=True)
class ChangeEntry:
    """`memberships` changes what a member is in single projects: null leaves one, and without `join` none is joined."""

    kind: Kind
    id: Id
    fields: Fields
    memberships: Fields = field(default_factory=dict)
    join: bool = True


@DIRECTORY.command("directory.put")
@dataclass(frozen=True, slots=True)
class PutEntry:
    """What `fields` leaves out is removed, but a member keeps the account number."""

    kind: Kind
    id: Id
    fields: Fields


@DIRECTORY.command("directory.retire")
@dataclass(frozen=True, slots=True)
class RetireEntry:
    kind: Kind
    id: Id


@DIRECTORY.event("directory.entry-registered")
@dataclass(frozen=True, slots=True)
class EntryRegistered:
    kind: str
    id: str
    fields: dict[str, Any]


@DIRECTORY.event("directory.entry-changed")
@dataclass(frozen=True, slots=True)
class EntryChanged:
    kind: str
    id: str
    old: dict[str, Any]
    new: dict[str, Any]


@DIRECTORY.event("directory.entry-retired")
@dataclass(frozen=True, slots=True)
class EntryRetired:
    kind: str
    id: str


Event = EntryRegistered | EntryChanged | EntryRetired


@DIRECTORY.decides(RegisterEntry)
def register(command: RegisterEntry, context: Context) -> Decision:
    """Decide `directory.register`."""
    permit("directory.register", actor_kind(context, (), None))
    entry_id = own_id(command.id, context)
    _check(command.kind, entry_id, command.fields)
    present: Entry | None = None if command.id is None else context.state(command.kind, entry_id)
    fields = merged({}, command.fields)
    if present is not None and not present.retired:
        known = {key: value for key, value in present.fields.items() if key != "account_id" or key in fields}
        if same_json(known, fields):
            return Decision()
        raise Rejected("taken", f"{command.kind} {entry_id} is registered with other fields", "/id")
    permit_entry(command.kind, entry_id, present, fields, context)
    unique_keys = _unique_keys(command.kind, entry_id, {}, fields, context)
    if present is not None:
        unique_keys |= {unique: None for unique in _kept(present) if context.holder(*unique) == entry_id}
    if command.kind == "member" and "account_id" not in fields:
        fields["account_id"] = fresh_number(context)
        unique_keys[UniqueKey("member-account", str(fields["account_id"]))] = entry_id
    if context.holder("registered", command.kind) is None:
        unique_keys[UniqueKey("registered", command.kind)] = entry_id
    event = EntryRegistered(command.kind, entry_id, fields)
    return Decision(((context.stream(command.kind, entry_id), event),), unique_keys)


@DIRECTORY.decides(ChangeEntry)
def change(command: ChangeEntry, context: Context) -> Decision:
    """Decide `directory.change`."""
    permit("directory.change", actor_kind(context, (), None))
    present = _present(command.kind, command.id, context)
    fields = command.fields
    if command.memberships:
        if command.kind != "member" or "projects" in fields:
            raise Rejected("invalid", "memberships are a member's, and stand in place of its projects", "/memberships")
        fields = {**fields, "projects": in_projects(command.id, present.fields, command.memberships, join=command.join)}
    _check(command.kind, command.id, {**present.fields, **fields})
    if command.kind == "member" and fields.get("account_id", 0) is None:
        raise Rejected("invalid", "a member keeps an account_id", "/fields/account_id")
    if command.kind == settings.DISPATCH:
        settings.demand_credentials(present.fields, command.fields)
    old, new = changes(present.fields, fields)
    permit_entry(command.kind, command.id, present, after := merged(present.fields, new), context)
    if not new:
        return Decision()
    demand_fits(after, f"{command.kind} {command.id}", "/fields")
    unique_keys = _unique_keys(command.kind, command.id, present.fields, after, context)
    stream = context.stream(command.kind, command.id)
    return Decision(((stream, EntryChanged(command.kind, command.id, old, new)),), unique_keys)


@DIRECTORY.decides(PutEntry)
def put(command: PutEntry, context: Context) -> Decision:
    """Decide `directory.put`, as one of the two commands that it stands for."""
    permit("directory.put", actor_kind(context, (), None))
    present: Entry | None = context.state(command.kind, command.id)
    if present is None or present.retired:
        return register(RegisterEntry(command.kind, command.id, command.fields), context)
    kept = "account_id" if command.kind == "member" else None
    left_out = {name: None for name in present.fields if name != kept}
    return change(ChangeEntry(command.kind, command.id, {**left_out, **command.fields}), context)


@DIRECTORY.decides(RetireEntry)
def retire(command: RetireEntry, context: Context) -> Decision:
    """Decide `directory.retire`."""
    permit("directory.retire", actor_kind(context, (), None))
    present = _present(command.kind, command.id, context)
    permit_entry(command.kind, command.id, present, None, context)
    kept = _kept(present)
    for unique in kept:
        # Read, because whoever had the address and was retired before may hold it.
        context.holder(*unique)
    unique_keys = {
        **_unique_keys(command.kind, command.id, present.fields, {}, context),
        **dict.fromkeys(kept, command.id),
    }
    return Decision(((context.stream(command.kind, command.id), EntryRetired(command.kind, command.id)),), unique_keys)


def _kept(entry: Entry) -> list[UniqueKey]:
    """Return the unique keys that an entry keeps while it is retired: a member's e-mail goes on naming the member."""
    email = entry.fields.get("email") if entry.kind == "member" else None
    return [] if email is None else [UniqueKey(RETIRED_EMAIL, key_of("email", email))]


def _present(kind: str, entry_id: str, context: Context) -> Entry:
    entry: Entry | None = context.state(kind, entry_id)
    if entry is None or entry.retired:
        raise Rejected("not-found", f"there is no {kind} {entry_id}", "/id")
    return entry


def _unique_keys(
    kind: str, entry_id: str, before: Mapping[str, Any], after: Mapping[str, Any], context: Context
) -> dict[UniqueKey, str | None]:
    unique_keys: dict[UniqueKey, str | None] = {}
    if kind != "member":
        return unique_keys
    for form, (name, _) in FIELDS.items():
        old, new = before.get(name), after.get(name)
        if same_json(old, new):
            continue
        if old is not None:
            unique_keys[unique_key_of(form, old)] = None
        if new is not None:
            unique = unique_key_of(form, new)
            if context.holder(*unique) not in (None, entry_id):
                raise Rejected("taken", f"another member has this {name}", f"/fields/{name}")
            unique_keys[unique] = entry_id
    return unique_keys


def _are_roles(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(role, str) for role in value)


def _check(kind: str, entry_id: str, fields: Mapping[str, Any]) -> None:
    def demand(name: str, fits: bool, wanted: str) -> None:
        if fields.get(name) is not None and not fits:
            raise Rejected("invalid", f"{name} is {wanted}", f"/fields/{name}")

    name = fields.get("name")
    demand("name", isinstance(name, str), "a text")
    settings.check(kind, entry_id, fields)
    if kind == "member":
        if entry_id == SYSTEM:
            raise Rejected("invalid", "this id speaks for the system itself", "/id")
        roles, projects = fields.get("actor_roles"), fields.get("projects")
        demand("email", is_email(fields.get("email")), "an e-mail address")
        demand("account_id", is_account(fields.get("account_id")), f"a whole number from 1 to {MAX_ACCOUNT}")
        demand("operator_id", is_operator(fields.get("operator_id")), f"a text of 1 to {MAX_OPERATOR} characters")
        demand("actor_roles", _are_roles(roles), "a list of texts")
        demand(TENANT_ADMIN, isinstance(fields.get(TENANT_ADMIN), bool), "true or false")
        fits = isinstance(projects, dict) and all(
            isinstance(membership, dict)
            and isinstance(membership.get("is_manager", False), bool)
            and _are_roles(membership.get("actor_roles") or [])
            for membership in projects.values()
        )
        demand("projects", fits, "an object of project id to {is_manager, actor_roles}")
    demand_bounded(kind, fields)


@DIRECTORY.evolves(Event)
def evolve(state: Entry | None, event: Event) -> Entry | None:
    """Return the entry after one more event."""
    match event:
        case EntryRegistered():
            return Entry(event.kind, event.id, event.fields)
        case EntryChanged():
            return None if state is None else replace(state, fields=merged(state.fields, event.new))
        case EntryRetired():
            return None if state is None else replace(state, retired=True)
        case _:
            assert_never(event)


def reads(command: RegisterEntry | ChangeEntry | PutEntry | RetireEntry) -> Iterable[tuple[str, str]]:
    """Name the entry's own stream."""
    return () if command.id is None else ((command.kind, command.id),)


DECIDER = DIRECTORY.decider(evolve, reads)
