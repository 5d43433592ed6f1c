"""Whatever a command may refer to: hubs, projects, members, commerces, routes, operators, and what a tenant configures.

An entry is its own stream, `<tenant>/<kind>-<id>`, so what was registered a moment ago is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from domain import configuration
from domain.decider import Claim, Context, Decider, Decision, changes, checked_id, merged, own_id
from domain.errors import Rejected
from domain.lifecycle import ASSIGNEE, ENTRY_RIGHTS, MANAGER, OTHER, SYSTEM, permit
from domain.streams import ID

Kind = Literal[
    "hub", "project", "member", "commerce", "route", "operator", "policy", "attribute", "targeting", "dispatch"
]
# Fields of a member that name one person, and the claim that keeps each unique in the tenant.
_MEMBER_CLAIMS = {"email": "member-email", "account_id": "member-account", "operator_id": "member-operator"}
# How a reference names a person by one of these.
_OTHER_NAMES = {"account:": "member-account", "operator:": "member-operator"}


@dataclass(frozen=True, slots=True)
class RegisterEntry:
    kind: Kind
    id: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChangeEntry:
    kind: Kind
    id: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RetireEntry:
    kind: Kind
    id: str


@dataclass(frozen=True, slots=True)
class EntryRegistered:
    kind: str
    id: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EntryChanged:
    kind: str
    id: str
    old: dict[str, Any]
    new: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EntryRetired:
    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A directory entry's state."""

    kind: str
    id: str
    fields: dict[str, Any]
    retired: bool = False


def decide(command: RegisterEntry | ChangeEntry | RetireEntry, context: Context) -> Decision:
    """Decide a directory command."""
    match command:
        case RegisterEntry():
            permit("directory.register", actor_kind(context, (), None))
            return _register(command, context)
        case ChangeEntry():
            permit("directory.change", actor_kind(context, (), None))
            return _change(command, context)
        case RetireEntry():
            permit("directory.retire", actor_kind(context, (), None))
            return _retire(command, context)


def _register(command: RegisterEntry, context: Context) -> Decision:
    entry_id = own_id(command.id, context)
    _check(command.kind, entry_id, command.fields)
    present: Entry | None = None if command.id is None else context.state(command.kind, entry_id)
    fields = merged({}, command.fields)
    if present is not None and not present.retired:
        known = {key: value for key, value in present.fields.items() if key != "account_id" or key in fields}
        if known == fields:
            return Decision()
        raise Rejected("taken", f"{command.kind} {entry_id} is registered with other fields", "/id")
    _permit_entry(command.kind, entry_id, present.fields if present is not None else {}, fields, context)
    claims = _claims(command.kind, entry_id, {}, fields, context)
    if command.kind == "member" and "account_id" not in fields:
        fields["account_id"] = fresh_number(context)
        claims[Claim("member-account", str(fields["account_id"]))] = entry_id
    if context.holder("registered", command.kind) is None:
        claims[Claim("registered", command.kind)] = entry_id
    event = EntryRegistered(command.kind, entry_id, fields)
    return Decision(((context.stream(command.kind, entry_id), event),), claims)


def _change(command: ChangeEntry, context: Context) -> Decision:
    present = _present(command.kind, command.id, context)
    _check(command.kind, command.id, {**present.fields, **command.fields})
    if command.kind == "member" and command.fields.get("account_id", 0) is None:
        raise Rejected("invalid", "a member keeps an account_id", "/fields/account_id")
    old, new = changes(present.fields, command.fields)
    after = merged(present.fields, new)
    _permit_entry(command.kind, command.id, present.fields, after, context)
    if not new:
        return Decision()
    claims = _claims(command.kind, command.id, present.fields, after, context)
    event = EntryChanged(command.kind, command.id, old, new)
    return Decision(((context.stream(command.kind, command.id), event),), claims)


def _retire(command: RetireEntry, context: Context) -> Decision:
    present = _present(command.kind, command.id, context)
    _permit_entry(command.kind, command.id, present.fields, {}, context)
    claims = _claims(command.kind, command.id, present.fields, {}, context)
    return Decision(((context.stream(command.kind, command.id), EntryRetired(command.kind, command.id)),), claims)


def _permit_entry(
    kind: str, entry_id: str, before: Mapping[str, Any], after: Mapping[str, Any], context: Context
) -> None:
    """Refuse an actor who may not make this of an entry; `before` and `after` are its fields, empty ones for none."""
    asked: dict[str | None, str] = {}
    if kind == "project":
        asked[entry_id] = "/id"
    if kind == "member":
        old, new = before.get("projects") or {}, after.get("projects") or {}
        of_person = changes(before, {**dict.fromkeys(before), **after})[1].keys() - {"projects"}
        moved = changes(old, {**dict.fromkeys(old), **new})[1]
        # Who changes, retires or brings back a person needs all projects that the person is in.
        asked = {**dict.fromkeys(moved, "/fields/projects"), **dict.fromkeys(old if of_person else (), "/id")}
    for project, pointer in (asked or {None: ""}).items():
        if actor_kind(context, (), project) not in ENTRY_RIGHTS[kind]:
            whose = "the system" if MANAGER not in ENTRY_RIGHTS[kind] else f"a manager of project {project}"
            raise Rejected("forbidden", f"only {whose} may do this", pointer)


def _present(kind: str, entry_id: str, context: Context) -> Entry:
    entry: Entry | None = context.state(kind, checked_id(entry_id, "/id"))
    if entry is None or entry.retired:
        raise Rejected("not-found", f"there is no {kind} {entry_id}", "/id")
    return entry


def _claims(
    kind: str, entry_id: str, before: Mapping[str, Any], after: Mapping[str, Any], context: Context
) -> dict[Claim, str | None]:
    claims: dict[Claim, str | None] = {}
    if kind != "member":
        return claims
    for name, claim in _MEMBER_CLAIMS.items():
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if new is not None:
            key = _person_key(new)
            if context.holder(claim, key) not in (None, entry_id):
                raise Rejected("taken", f"another member has this {name}", f"/fields/{name}")
            claims[Claim(claim, key)] = entry_id
        if old is not None and (new is None or _person_key(old) != _person_key(new)):
            claims[Claim(claim, _person_key(old))] = None
    return claims


def _person_key(value: Any) -> str:
    return str(value).casefold()


def _check(kind: str, entry_id: str, fields: Mapping[str, Any]) -> None:
    def demand(name: str, fits: bool, wanted: str) -> None:
        if fields.get(name) is not None and not fits:
            raise Rejected("invalid", f"{name} is {wanted}", f"/fields/{name}")

    name = fields.get("name")
    demand("name", isinstance(name, str) and 0 < len(name) <= 200, "a text of 1 to 200 characters")
    configuration.check(kind, entry_id, fields)
    if kind == "member":
        if entry_id == SYSTEM:
            raise Rejected("invalid", "this id speaks for the system itself", "/id")
        email, account = fields.get("email"), fields.get("account_id")
        roles, projects = fields.get("actor_roles"), fields.get("projects")
        demand("email", isinstance(email, str) and is_email(email), "an e-mail address")
        whole = isinstance(account, int) and not isinstance(account, bool) and 0 < account < 2**53
        demand("account_id", whole, "a whole number from 1 to 2^53")
        operator = fields.get("operator_id")
        # It is the key of a claim, and an index takes only so much.
        demand("operator_id", isinstance(operator, str) and 0 < len(operator) <= 200, "a text of 1 to 200 characters")
        demand(
            "actor_roles", isinstance(roles, list) and all(isinstance(role, str) for role in roles), "a list of texts"
        )
        fits = isinstance(projects, dict) and all(
            isinstance(membership, dict) and isinstance(membership.get("is_manager", False), bool)
            for membership in projects.values()
        )
        demand("projects", fits, "an object of project id to {is_manager}")


def is_email(text: str) -> bool:
    """Tell whether a reference to a person is an e-mail; ids never hold an at sign."""
    local, _, host = text.partition("@")
    fits = bool(local) and bool(host) and "@" not in host and len(text) <= 254
    return fits and text.isprintable() and not any(mark in text for mark in " <>,;")


def evolve(state: Entry | None, event: EntryRegistered | EntryChanged | EntryRetired) -> Entry | None:
    """Return the entry after one more event."""
    match event:
        case EntryRegistered():
            return Entry(event.kind, event.id, event.fields)
        case EntryChanged():
            return None if state is None else replace(state, fields=merged(state.fields, event.new))
        case EntryRetired():
            return None if state is None else replace(state, retired=True)


def reads(command: RegisterEntry | ChangeEntry | RetireEntry) -> Iterable[tuple[str, str]]:
    """Name the entry's own stream."""
    return () if command.id is None else ((command.kind, command.id),)


DECIDER = Decider(
    category="directory",
    commands={"directory.register": RegisterEntry, "directory.change": ChangeEntry, "directory.retire": RetireEntry},
    events={
        "directory.entry-registered": EntryRegistered,
        "directory.entry-changed": EntryChanged,
        "directory.entry-retired": EntryRetired,
    },
    decide=decide,
    evolve=evolve,
    reads=reads,
)


# What the other aggregates ask the directory.


def known(context: Context, kind: str, entry_id: str, pointer: str) -> Entry:
    """Return an entry that is registered, or refuse `not-found`."""
    entry: Entry | None = context.state(kind, checked_id(entry_id, pointer))
    if entry is None or entry.retired:
        raise Rejected("not-found", f"there is no {kind} {entry_id}", pointer)
    return entry


def known_person(context: Context, reference: str, pointer: str) -> str:
    """Return the member that a reference names; unlike `People` alone, it registers nobody."""
    people = People(context)
    try:
        (member,) = people.resolve((reference,), pointer)
    except Rejected as refusal:
        # The command names one person, not a list of them.
        raise Rejected(refusal.code, refusal.detail, pointer) from None
    if people.is_new(member):
        raise Rejected("not-found", f"no member has the e-mail {reference}", pointer)
    return member


def known_hub(context: Context, hub: str, pointer: str) -> None:
    """Refuse an unknown hub, but only in a tenant that has registered hubs."""
    checked_id(hub, pointer)
    if context.holder("registered", "hub") is not None:
        known(context, "hub", hub, pointer)


def fresh_number(context: Context) -> int:
    """Draw an account number that nobody is known to have; members may bring their own, so a drawn one can be taken.

    Whether it is free is for the store to say: it lets a claim that was not read be taken only when nobody holds it.
    """
    number = context.new_number()
    while context.holders.get(Claim("member-account", str(number))) is not None:
        number = context.new_number()
    return number


@dataclass(slots=True)
class People:
    """The members that one command refers to; e-mails not known yet become members in the same transaction."""

    context: Context
    events: list[tuple[str, Any]] = field(default_factory=list)
    claims: dict[Claim, str | None] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    _new: dict[str, str] = field(default_factory=dict)

    def load(self, references: Iterable[str]) -> None:
        """Look at all that the references need at once, so that a long list costs as few rounds as a short one."""
        references = tuple(references)
        self.context.all_holders("member-email", [text.casefold() for text in references if is_email(text)])
        self.context.all_states("member", [text for text in references if ID.match(text)])
        for form, claim in _OTHER_NAMES.items():
            named = [text.removeprefix(form).casefold() for text in references if text.startswith(form)]
            if named:
                self.context.all_holders(claim, named)

    def resolve(self, references: Iterable[str], pointer: str) -> tuple[str, ...]:
        """Return member ids for ids and e-mails, in order and each once; `places` says where each was named first."""
        references = tuple(references)
        self.load(references)
        self.places = {}
        for index, reference in enumerate(references):
            at = f"{pointer}/{index}"
            if "@" in reference:
                self.places.setdefault(self._by_email(reference, at), at)
            elif ":" in reference:
                self.places.setdefault(self._by_other_name(reference, at), at)
            else:
                self.places.setdefault(known(self.context, "member", reference, at).id, at)
        return tuple(self.places)

    def _by_email(self, email: str, pointer: str) -> str:
        if not is_email(email):
            raise Rejected("invalid", "this is no e-mail address", pointer)
        key = email.casefold()
        member = self.context.holder("member-email", key) or self._new.get(key)
        if member is not None:
            return member
        member, account = self.context.new_id(), fresh_number(self.context)
        self._new[key] = member
        event = EntryRegistered("member", member, {"email": email, "account_id": account})
        self.events.append((self.context.stream("member", member), event))
        self.claims |= {Claim("member-email", key): member, Claim("member-account", str(account)): member}
        if self.context.holder("registered", "member") is None:
            self.claims[Claim("registered", "member")] = member
        return member

    def _by_other_name(self, reference: str, pointer: str) -> str:
        form, _, name = reference.partition(":")
        claim = _OTHER_NAMES.get(f"{form}:")
        if claim is None:
            raise Rejected("invalid", "a person is a member id, an e-mail, account:<number> or operator:<id>", pointer)
        member = self.context.holder(claim, name.casefold())
        if member is None:
            raise Rejected("not-found", f"no member has the {form} {name}", pointer)
        return known(self.context, "member", member, pointer).id

    def is_new(self, member: str) -> bool:
        """Tell whether this command itself registers the member."""
        return member in self._new.values()


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Who may have a task: members of its project, with a role, on the whitelist, and never on the blacklist."""

    project: str | None = None
    roles: tuple[str, ...] = ()
    whitelist: tuple[str, ...] = ()
    blacklist: tuple[str, ...] = ()

    def refuses(self, member: str, entry: Entry | None) -> str | None:
        """Return why the member is not eligible, or None. `entry` is None for one registered by the same command."""
        fields: Mapping[str, Any] = entry.fields if entry is not None else {}
        if member in self.blacklist:
            return "is on the blacklist"
        if self.whitelist and member not in self.whitelist:
            return "is not on the whitelist"
        if self.roles and not set(self.roles) & set(fields.get("actor_roles") or ()):
            return f"has none of the roles {', '.join(self.roles)}"
        if self.project is not None and self.project not in (fields.get("projects") or {}):
            return f"is no member of project {self.project}"
        return None


def demand_eligible(context: Context, people: People, members: Iterable[str], rule: Eligibility, pointer: str) -> None:
    """Refuse `not-eligible` for the first member that the rule excludes."""
    if rule == Eligibility():
        return
    for member in members:
        reason = rule.refuses(member, None if people.is_new(member) else context.state("member", member))
        if reason is not None:
            raise Rejected("not-eligible", f"member {member} {reason}", people.places.get(member, pointer))


def is_manager(fields: Mapping[str, Any], project: str | None) -> bool:
    """Tell whether a member manages the project; of a thing without one, whether it manages any."""
    projects = fields.get("projects") or {}
    asked = [projects.get(project) or {}] if project is not None else list(projects.values())
    return any(membership.get("is_manager") is True for membership in asked)


def actor_kind(context: Context, assignees: Iterable[str], project: str | None) -> str:
    """Return what the command's actor is to a thing with these assignees: assignee, manager, system or other."""
    if context.actor == SYSTEM:
        return SYSTEM
    if context.actor in assignees:
        return ASSIGNEE
    entry: Entry | None = context.state("member", context.actor)
    if entry is not None and not entry.retired and is_manager(entry.fields, project):
        return MANAGER
    return OTHER
