"""The people whom a command refers to: the one place where a reference becomes a member id."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from domain.decider import Claim, Context
from domain.directory import Eligibility, EntryRegistered, fresh_number, known
from domain.errors import Rejected
from domain.references import FIELDS, Form, Reference, reference


def known_person(context: Context, text: str, pointer: str) -> str:
    """Return the member that a reference names, or refuse `not-found`."""
    return People(context).known(text, pointer)


@dataclass(slots=True)
class People:
    """The members that one command refers to.

    An e-mail that nobody has yet names somebody new where people are given work: the member is registered in the same
    transaction. Everywhere else what names nobody is refused.
    """

    context: Context
    events: list[tuple[str, Any]] = field(default_factory=list)
    claims: dict[Claim, str | None] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    _new: dict[str, str] = field(default_factory=dict)

    def load(self, texts: Iterable[str]) -> None:
        """Look at all that the references need at once, so that a long list costs as few rounds as a short one."""
        keys: dict[Form, list[str]] = {}
        for text in texts:
            try:
                named = reference(text, "")
            except Rejected:
                continue  # refused with its own place when it is resolved
            keys.setdefault(named.form, []).append(named.key)
        for form, wanted in keys.items():
            if form == "id":
                self.context.all_states("member", wanted)
            else:
                self.context.all_holders(FIELDS[form][1], wanted)

    def resolve(self, texts: Iterable[str], pointer: str) -> tuple[str, ...]:
        """Return the member ids of people who are given work, in order and each once, registering e-mails not known.

        `places` says where each was named first.
        """
        texts = tuple(texts)
        self.load(texts)
        self.places = {}
        for index, text in enumerate(texts):
            at = f"{pointer}/{index}"
            named = reference(text, at)
            member = self._holder(named) if named.form == "email" else self._known(named, text, at)
            self.places.setdefault(member if member is not None else self._register(named.key, text), at)
        return tuple(self.places)

    def listed(self, texts: Iterable[str], pointer: str) -> tuple[str, ...]:
        """Return the member ids of people who are listed, in order and each once; refuses what names nobody."""
        texts = tuple(texts)
        self.load(texts)
        return tuple(dict.fromkeys(self.known(text, f"{pointer}/{index}") for index, text in enumerate(texts)))

    def known(self, text: str, pointer: str) -> str:
        """Return the member that a reference names, or refuse `not-found`."""
        return self._known(reference(text, pointer), text, pointer)

    def is_new(self, member: str) -> bool:
        """Tell whether this command itself registers the member."""
        return member in self._new.values()

    def _holder(self, named: Reference) -> str | None:
        # Whoever is retired holds no claim, so a holder need not be looked at.
        claimed = self.context.holder(FIELDS[named.form][1], named.key)
        return claimed if claimed is not None or named.form != "email" else self._new.get(named.key)

    def _known(self, named: Reference, text: str, pointer: str) -> str:
        if named.form == "id":
            return known(self.context, "member", named.key, pointer).id
        member = self._holder(named)
        if member is None:
            raise Rejected("not-found", f"there is no member {text}", pointer)
        return member

    def _register(self, key: str, email: str) -> str:
        member, account = self.context.new_id(), fresh_number(self.context)
        self._new[key] = member
        event = EntryRegistered("member", member, {"email": email, "account_id": account})
        self.events.append((self.context.stream("member", member), event))
        self.claims |= {Claim("member-email", key): member, Claim("member-account", str(account)): member}
        if self.context.holder("registered", "member") is None:
            self.claims[Claim("registered", "member")] = member
        return member


def demand_eligible(context: Context, people: People, members: Iterable[str], rule: Eligibility, pointer: str) -> None:
    """Refuse `not-eligible` for the first member that the rule excludes."""
    if rule == Eligibility():
        return
    members = tuple(members)
    # Named by e-mail they were not looked at yet; all at once, so that many cost as few rounds as one.
    context.all_states("member", [member for member in members if not people.is_new(member)])
    for member in members:
        reason = rule.refuses(member, None if people.is_new(member) else context.state("member", member))
        if reason is not None:
            raise Rejected("not-eligible", f"member {member} {reason}", people.places.get(member, pointer))
