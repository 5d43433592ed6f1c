"""What the other aggregates ask the directory for: entries, hubs, members who can be given work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from domain.decider import Context, UniqueKey
from domain.errors import Rejected


@dataclass(frozen=True, slots=True)
class Entry:
    """A directory entry's state."""

    kind: str
    id: str
    fields: dict[str, Any]
    retired: bool = False


def known(context: Context, kind: str, entry_id: str, pointer: str) -> Entry:
    """Return an entry that is registered, or refuse `not-found`."""
    entry: Entry | None = context.state(kind, entry_id)
    if entry is None or entry.retired:
        detail = f"there is no {kind} {entry_id}" if entry is None else f"{kind} {entry_id} was retired"
        raise Rejected("not-found", detail, pointer)
    return entry


def known_hub(context: Context, hub: str, pointer: str) -> None:
    """Refuse an unknown hub, but only in a tenant that has registered hubs."""
    if context.holder("registered", "hub") is not None:
        known(context, "hub", hub, pointer)


def at_work(context: Context, members: Iterable[str]) -> tuple[str, ...]:
    """Return those of the members, in order, who were not retired; only they are given work."""
    members = tuple(members)
    # Whom the command itself registers is not there yet.
    known_before = [member for member in members if member not in context.drawn]
    entries = zip(known_before, context.all_states("member", known_before), strict=True)
    gone = {member for member, entry in entries if entry is not None and entry.retired}
    return tuple(member for member in members if member not in gone)


def fresh_number(context: Context) -> int:
    """Draw an account number that nobody is known to have; members may bring their own, so a drawn one can be taken.

    Whether it is free is for the store to say: it lets a unique key that was not read be taken only when it is free.
    """
    number = context.new_number()
    while context.holders.get(UniqueKey("member-account", str(number))) is not None:
        number = context.new_number()
    return number
