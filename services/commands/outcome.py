"""The outcome of one command, and the ledger row and reply made from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from domain.decider import UniqueKey
from domain.errors import Refusal
from services.commands.wire import EventSummary, Incoming, Reply
from services.store import codec
from services.store.append import CommandKey, ConcurrencyConflict, LedgerRow, NewEvent, TenantUniqueKey
from services.store.event_store import EventStore

IDEMPOTENCY = "idempotency"


@dataclass(slots=True)
class Outcome:
    """The outcome of one command in this batch.

    `failure` is an unexpected error: the command is neither recorded nor answered. `first` points to the outcome, and
    `row` to the ledger row, that this command repeats.
    """

    incoming: Incoming
    events: list[NewEvent] = field(default_factory=list)
    unique_keys: Mapping[UniqueKey, str | None] = field(default_factory=dict)
    # The states of streams that the events lead to, as far as deciding has found them.
    states: Mapping[str, Any] = field(default_factory=dict)
    streams_read: Iterable[str] = ()
    unique_keys_read: Iterable[UniqueKey] = ()
    refusal: Refusal | None = None
    failure: Exception | None = None
    first: Outcome | None = None
    row: LedgerRow | None = None
    recorded: bool = True
    offset: int = 0
    reply: Reply | None = None

    @property
    def keys(self) -> set[TenantUniqueKey]:
        """Return the unique keys that the decision read or changes."""
        tenant, key = self.incoming.tenant, self.incoming.idempotency_key
        found = {(tenant, *unique) for unique in (*self.unique_keys_read, *self.unique_keys)}
        return found | {(tenant, IDEMPOTENCY, key)} if key else found


class Touched:
    """Streams, unique keys and commands that changed since the decisions of a batch were made."""

    def __init__(self, moved: ConcurrencyConflict | None) -> None:
        self._streams: set[str] = set(moved.streams) if moved else set()
        self._unique_keys: set[TenantUniqueKey] = set(moved.unique_keys) if moved else set()
        self._commands: set[CommandKey] = moved.commands if moved else set()

    def by(self, outcome: Outcome) -> bool:
        """Tell whether a decision read or writes anything that has changed."""
        return (
            outcome.first is not None
            or (outcome.incoming.tenant, outcome.incoming.command_id) in self._commands
            or not self._streams.isdisjoint(outcome.streams_read)
            or any(event.stream in self._streams for event in outcome.events)
            or not self._unique_keys.isdisjoint(outcome.keys)
        )

    def add(self, outcome: Outcome) -> None:
        """Add what a decision changes."""
        self._streams.update(event.stream for event in outcome.events)
        self._unique_keys.update((outcome.incoming.tenant, *unique) for unique in outcome.unique_keys)
        if outcome.incoming.idempotency_key:
            self._unique_keys.add((outcome.incoming.tenant, IDEMPOTENCY, outcome.incoming.idempotency_key))


def newer_version(command: Incoming, stream: str, found: codec.NewerStream) -> Outcome:
    """Refuse a command without a record, so that it is decided when it is sent again after the upgrade."""
    where = f"{stream.partition('/')[2]} holds {found.event} as version {found.version}"
    refusal = Refusal("newer-version", f"{where}, which this version of the service cannot read")
    return Outcome(command, refusal=refusal, recorded=False)


def ledger_row(outcome: Outcome) -> LedgerRow:
    """Return the ledger row; positions of this batch's own events are given as -1, -2 and so on."""
    command, refusal = outcome.incoming, outcome.refusal
    key = (command.tenant, command.command_id, command.fingerprint)
    if refusal is not None:
        return LedgerRow(*key, refusal.code, refusal.detail, refusal.pointer)
    if outcome.row is not None:
        return LedgerRow(*key, first_position=outcome.row.first_position, last_position=outcome.row.last_position)
    source = outcome.first or outcome
    if not source.events:
        return LedgerRow(*key)
    return LedgerRow(*key, first_position=-(source.offset + 1), last_position=-(source.offset + len(source.events)))


def key_holder(outcome: Outcome) -> str:
    """Return an idempotency key's holder: who took it, for what, and where its events lie (`@head`: the log's end)."""
    command, count = outcome.incoming, len(outcome.events)
    first, last = (outcome.offset + 1, outcome.offset + count) if count else (0, 0)
    return f"{command.command_id} {command.fingerprint.hex()} @head {first} {last}"


def row_of_key(tenant: str, holder: str) -> LedgerRow:
    """Return what an idempotency key's holder remembers, which outlives the ledger's own row."""
    command_id, fingerprint, head, first, last = holder.split(" ")
    if last == "0":
        return LedgerRow(tenant, command_id, bytes.fromhex(fingerprint))
    return LedgerRow(
        tenant,
        command_id,
        bytes.fromhex(fingerprint),
        first_position=int(head) + int(first),
        last_position=int(head) + int(last),
    )


def answer(outcomes: Sequence[Outcome], head: int, store: EventStore) -> None:
    """Set the reply of each decided command; `head` is the log's end after the batch."""
    start = head - sum(len(outcome.events) for outcome in outcomes)
    for outcome in outcomes:
        if outcome.failure is None:
            outcome.reply = _reply(outcome, start, head, store)


def _reply(outcome: Outcome, start: int, head: int, store: EventStore) -> Reply:
    command_id, row, source = outcome.incoming.command_id, outcome.row, outcome.first or outcome
    duplicate = row is not None or outcome.first is not None
    refusal = source.refusal
    if row is not None and row.code is not None:
        refusal = Refusal(row.code, row.detail or "", row.pointer or "")
    if refusal is not None:
        return Reply(command_id, "rejected", duplicate, head, error=refusal)
    if source.row is not None:
        summaries = _recorded(source.row, store)
    else:
        summaries = tuple(
            EventSummary(start + source.offset + index, event.name, event.stream.partition("/")[2], event.version)
            for index, event in enumerate(source.events, 1)
        )
    return Reply(command_id, "accepted", duplicate, summaries[-1].position if summaries else head, summaries)


def _recorded(row: LedgerRow, store: EventStore) -> tuple[EventSummary, ...]:
    if row.first_position is None or row.last_position is None:
        return ()
    # Without what the events hold: a command may have recorded hundreds of megabytes.
    return tuple(
        EventSummary(position, name, stream.partition("/")[2], version)
        for position, name, stream, version in store.summaries(row.first_position, row.last_position)
    )
