"""The people whom a command refers to: the one place where a reference becomes a member id."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from domain.decider import Context, UniqueKey
from domain.directory.eligibility import Eligibility
from domain.directory.entries import EntryRegistered
from domain.directory.lookup import Entry, fresh_number
from domain.errors import Rejected
from domain.limits import MAX_PEOPLE
from domain.references import FIELDS, RETIRED_EMAIL, Reference, key_of, reference


def known_person(context: Context, text: str, pointer: str) -> str:
    """Return the member that a reference names, or refuse `not-found`."""
    return MemberResolver(context).known(text, pointer)


@dataclass(slots=True)
class MemberResolver:
    """The members that one command refers to.

    An e-mail that nobody has yet names somebody new where people are given work: the member is registered in the same
    transaction. Everywhere else what names nobody is refused, and everywhere what names somebody who was retired.
    But who of `standing`, the people who stand in the changed place, was retired may be named again and `stays`.
    """

    context: Context
    events: list[tuple[str, Any]] = field(default_factory=list)
    unique_keys: dict[UniqueKey, str | None] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    stays: set[str] = field(default_factory=set)
    _new: dict[str, str] = field(default_factory=dict)

    def load(self, texts: Iterable[str]) -> None:
        """Look at all that the references need at once, so that a long list costs as few rounds as a short one."""
        members: list[tuple[str, str]] = []
        unique_keys: list[UniqueKey] = []
        texts = dict.fromkeys(texts)
        if len(texts) > MAX_PEOPLE:
            raise Rejected("too-large", f"a command names at most {MAX_PEOPLE} people, and this one {len(texts)}")
        for text in texts:
            try:
                named = reference(text, "")
            except Rejected:
                continue  # refused with its own place when it is resolved
            if named.form == "id":
                members.append(("member", named.key))
            else:
                unique_keys.append(UniqueKey(FIELDS[named.form][1], named.key))
            if named.form == "email":
                unique_keys.append(UniqueKey(RETIRED_EMAIL, named.key))
        self.context.load(members, unique_keys)

    def resolve(self, texts: Iterable[str], pointer: str, standing: Iterable[str] = ()) -> tuple[str, ...]:
        """Return the member ids of people who are given work, in order and each once, registering e-mails not known.

        `places` says where each was named first.
        """
        texts, standing = tuple(texts), tuple(standing)
        self.load(texts)
        self.places = {}
        for index, text in enumerate(texts):
            at = f"{pointer}/{index}"
            named = reference(text, at)
            member = self._named(named, text, at, standing, anew=named.form == "email")
            self.places.setdefault(member if member is not None else self._register(named.key, text), at)
        return tuple(self.places)

    def listed(self, texts: Iterable[str], pointer: str, standing: Iterable[str] = ()) -> tuple[str, ...]:
        """Return the member ids of people who are listed, in order and each once; refuses what names nobody."""
        texts, standing = tuple(texts), tuple(standing)
        self.load(texts)
        members = (self.known(text, f"{pointer}/{index}", standing) for index, text in enumerate(texts))
        return tuple(dict.fromkeys(members))

    def known(self, text: str, pointer: str, standing: tuple[str, ...] = ()) -> str:
        """Return the member that a reference names, or refuse `not-found`."""
        member = self._named(reference(text, pointer), text, pointer, standing)
        assert member is not None  # noqa: S101
        return member

    def is_new(self, member: str) -> bool:
        """Tell whether this command itself registers the member."""
        return member in self._new.values()

    def _named(
        self, named: Reference, text: str, pointer: str, standing: tuple[str, ...], *, anew: bool = False
    ) -> str | None:
        """Return the member whom a reference names, or refuse `not-found`; None for somebody new, if `anew`."""
        if named.form == "id":
            entry: Entry | None = self.context.state("member", named.key)
            member, gone = (named.key, False) if entry is not None and not entry.retired else (None, entry is not None)
        else:
            # Whoever is retired does not hold this unique key, so its holder need not be looked at.
            member, gone = self.context.holder(FIELDS[named.form][1], named.key), False
            if member is None and named.form == "email":
                member = self._new.get(named.key)
                gone = self.context.holder(RETIRED_EMAIL, named.key) is not None
        member = member if member is not None else self._staying(named, standing)
        if member is None and (gone or not anew):
            raise Rejected("not-found", f"member {text} was retired" if gone else f"there is no member {text}", pointer)
        return member

    def _staying(self, named: Reference, standing: tuple[str, ...]) -> str | None:
        for member, entry in zip(standing, self.context.all_states("member", standing), strict=True):
            if entry is not None and entry.retired:
                own = member if named.form == "id" else entry.fields.get(FIELDS[named.form][0])
                if own is not None and (own if named.form == "id" else key_of(named.form, own)) == named.key:
                    self.stays.add(member)
                    return str(member)
        return None

    def _register(self, key: str, email: str) -> str:
        member, account = self.context.new_id(), fresh_number(self.context)
        self._new[key] = member
        event = EntryRegistered("member", member, {"email": email, "account_id": account})
        self.events.append((self.context.stream("member", member), event))
        self.unique_keys |= {UniqueKey("member-email", key): member, UniqueKey("member-account", str(account)): member}
        if self.context.holder("registered", "member") is None:
            self.unique_keys[UniqueKey("registered", "member")] = member
        return member


def demand_eligible(
    context: Context, resolver: MemberResolver, members: Iterable[str], rule: Eligibility, pointer: str
) -> None:
    """Refuse `not-eligible` for the first member that the rule excludes."""
    if rule == Eligibility():
        return
    members = tuple(member for member in members if member not in resolver.stays)
    # Named by e-mail they were not looked at yet; all at once, so that many cost as few rounds as one.
    context.all_states("member", [member for member in members if not resolver.is_new(member)])
    for member in members:
        reason = rule.refuses(member, None if resolver.is_new(member) else context.state("member", member))
        if reason is not None:
            raise Rejected("not-eligible", f"member {member} {reason}", resolver.places.get(member, pointer))
