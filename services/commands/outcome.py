"""The outcome of one command, and the ledger row and reply made from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from domain.decider import UniqueKey
from domain.errors import Refusal
from services.commands.wire import EventSummary, Incoming, Reply, TriedEvent
from services.store import codec
from services.store.append import CommandKey, ConcurrencyConflict, LedgerRow, NewEvent, TenantUniqueKey
from services.store.event_store import EventStore

IDEMPOTENCY = "idempotency"
# The answer to a dry run has the data of its events as far as it has so many bytes.
MAX_SHOWN = 1 << 20


@dataclass(slots=True)
class Outcome:
    """The outcome of one command in this batch.

    `failure` is an unexpected error: the command is neither recorded nor answered; nor is one that `waits` for another.
    `first` points to the outcome, and `row` to the ledger row, that this command repeats.
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
    waits: bool = False
    first: Outcome | None = None
    row: LedgerRow | None = None
    recorded: bool = True
    offset: int = 0
    reply: Reply | None = None
    # What a dry run would record; it has none of the events, unique keys and states above.
    tried: Sequence[NewEvent] = ()

    @property
    def decided(self) -> Sequence[NewEvent]:
        """Return the events that were decided, whether they are recorded or not."""
        return self.tried or self.events

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
            or any(event.stream in self._streams for event in outcome.decided)
            or not self._unique_keys.isdisjoint(outcome.keys)
        )

    def add(self, outcome: Outcome) -> None:
        """Add what a decision changes."""
        self._streams.update(event.stream for event in outcome.events)
        self._unique_keys.update((outcome.incoming.tenant, *unique) for unique in outcome.unique_keys)
        if outcome.incoming.idempotency_key:
            self._unique_keys.add((outcome.incoming.tenant, IDEMPOTENCY, outcome.incoming.idempotency_key))


def lasting(outcome: Outcome) -> Outcome:
    """Return an outcome with no more than may last: nothing of a dry run is recorded, or seen by other commands."""
    command = outcome.incoming
    if not command.dry_run:
        return outcome
    key = [UniqueKey(IDEMPOTENCY, command.idempotency_key)] if command.idempotency_key else []
    return replace(
        outcome,
        events=[],
        unique_keys={},
        states={},
        recorded=False,
        tried=outcome.events,
        unique_keys_read=[*outcome.unique_keys_read, *key],
    )


def interrupted(command_id: str) -> Reply:
    """Refuse a dry run that was delivered before: deciding it may be what ended its worker."""
    return _tried(command_id, "unavailable", "the connection or the worker ended before it was answered; ask again")


def failed(command: Incoming) -> Reply:
    """Refuse a dry run whose decision failed, by the code that the command itself would get after all its attempts."""
    return _tried(command.command_id, "poison", "deciding it failed unexpectedly")


def _tried(command_id: str, code: str, detail: str) -> Reply:
    return Reply(command_id, "rejected", error=Refusal(code, detail), dry_run=True)


def newer_version(command: Incoming, stream: str, found: codec.NewerStream) -> Outcome:
    """Refuse a command without a record, so that it is decided when it is sent again after the upgrade."""
    where = f"{stream.partition('/')[2]} holds {found.event} as version {found.version}"
    refusal = Refusal("newer-version", f"{where}, which this version of the service cannot read")
    return Outcome(command, refusal=refusal, recorded=False)


def ledger_row(outcome: Outcome) -> LedgerRow:
    """Return the ledger row; positions of this batch's own events are given as -1, -2 and so on."""
    command, refusal, source = outcome.incoming, outcome.refusal, outcome.first or outcome
    code = detail = pointer = first = last = None
    if refusal is not None:
        code, detail, pointer = refusal.code, refusal.detail, refusal.pointer
    elif outcome.row is not None:
        first, last = outcome.row.first_position, outcome.row.last_position
    elif source.events:
        first, last = -(source.offset + 1), -(source.offset + len(source.events))
    key = (command.tenant, command.command_id, command.fingerprint)
    return LedgerRow(*key, code, detail, pointer, first, last, command.caused_by)


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
        if outcome.failure is None and not outcome.waits:
            reply = _reply(outcome, start, head, store)
            outcome.reply = _of_dry_run(outcome, reply) if outcome.incoming.dry_run else reply


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


def _of_dry_run(outcome: Outcome, reply: Reply) -> Reply:
    """Return the answer to a dry run; one that repeats a command is that command's."""
    would_record = _shown(outcome.tried) if reply.accepted else msgspec.UNSET
    position = reply.position if reply.duplicate else None
    return msgspec.structs.replace(reply, position=position, dry_run=True, would_record=would_record)


def _shown(events: Sequence[NewEvent]) -> tuple[TriedEvent, ...]:
    found, size = [], 0
    for event in events:
        data = codec.raw(event.state, event.name).data if size < MAX_SHOWN else msgspec.UNSET
        found.append(TriedEvent(event.name, event.stream.partition("/")[2], event.version, data))
        size += len(event.state)
    return tuple(found)


def _recorded(row: LedgerRow, store: EventStore) -> tuple[EventSummary, ...]:
    if row.first_position is None or row.last_position is None:
        return ()
    # Without what the events hold: a command may have recorded hundreds of megabytes.
    return tuple(
        EventSummary(position, name, stream.partition("/")[2], version)
        for position, name, stream, version in store.summaries(row.first_position, row.last_position)
    )
