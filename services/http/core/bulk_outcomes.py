"""The outcomes of the items of a bulk: of their dry runs, and of their commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from domain.errors import Refusal
from services.commands.wire import Reply
from services.http.core.bulk_states import ACCEPTED, ANNOUNCED, CHANGED, NO_ANSWER, READY, REFUSED, SKIPPED, UNKNOWN

_CONFLICT = "version-conflict"
_MOVED = Refusal(_CONFLICT, "it has changed since it was previewed")


@dataclass(frozen=True, slots=True)
class Item:
    """An item that is sent; its columns."""

    number: int
    entity_id: str
    routing_key: str
    version: int | None
    attempts: int


class Outcome(msgspec.Struct):
    """The outcome of an item: the state that it leads to, and why."""

    number: int
    state: str
    reason: str | None = None
    error: Refusal | None = None
    would: Sequence[str] | None = None
    first: int | None = None
    last: int | None = None


def of_reply(item: Item, reply: Reply, *, versioned: bool = True) -> Outcome:
    """Return the outcome of an item whose command, or whose dry run, was answered so.

    `versioned`: the command expects the version of the item.
    """
    if reply.tried:
        return _tried(item, reply, versioned)
    events = reply.events
    return decided(item, reply.error, *((events[0].position, events[-1].position) if events else (None, None)))


def _tried(item: Item, reply: Reply, versioned: bool) -> Outcome:
    if reply.error is None:
        events = () if isinstance(reply.would_record, msgspec.UnsetType) else reply.would_record
        return Outcome(item.number, READY, would=list(dict.fromkeys(event.type for event in events)))
    reason = CHANGED if versioned and reply.error.code == _CONFLICT else ANNOUNCED
    return Outcome(item.number, SKIPPED, reason, _MOVED if reason == CHANGED else reply.error)


def decided(item: Item, error: Refusal | None, first: int | None, last: int | None) -> Outcome:
    """Return the outcome of an item whose command was refused, or recorded events at these positions."""
    if error is None:
        return Outcome(item.number, ACCEPTED, first=first, last=last)
    if error.code == _CONFLICT:
        return Outcome(item.number, SKIPPED, CHANGED, _MOVED)
    return Outcome(item.number, REFUSED, error=error)


def lost(item: Item, dry_run: bool) -> Outcome:
    """Return the outcome of an item that nobody answers."""
    if dry_run:
        return Outcome(item.number, SKIPPED, NO_ANSWER, Refusal("unavailable", "its dry run was not answered"))
    return Outcome(item.number, UNKNOWN, NO_ANSWER, Refusal("unknown-or-undecided", "see its receipt"))


def columns(outcomes: Sequence[Outcome]) -> Mapping[str, list[Any]]:
    """Return outcomes as an array a column."""
    errors = [outcome.error for outcome in outcomes]
    return {
        "numbers": [outcome.number for outcome in outcomes],
        "states": [outcome.state for outcome in outcomes],
        "reasons": [outcome.reason for outcome in outcomes],
        "woulds": [None if outcome.would is None else ",".join(outcome.would) for outcome in outcomes],
        "codes": [error and error.code for error in errors],
        "details": [error and error.detail for error in errors],
        "pointers": [error and error.pointer for error in errors],
        "firsts": [outcome.first for outcome in outcomes],
        "lasts": [outcome.last for outcome in outcomes],
    }
