"""The group commit: many commands decided in arrival order and recorded in one transaction, each as if it were alone.

A command that is refused, or that fails, changes nothing for its neighbours; what was decided once is answered again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from domain import DECIDER_OF_CATEGORY, DECIDER_OF_COMMAND
from domain.decider import Claim, Context, Decision, NotLoaded, actor_stream
from domain.errors import Refusal, Rejected
from domain.streams import split_stream, stream_of
from services.intake.memory import Memory
from services.intake.outcome import IDEMPOTENCY, Outcome, Touched, answer, key_holder, ledger_row, row_of_key
from services.messages import Incoming
from services.settings import EVENT_LIMIT
from services.store import codec
from services.store.append import Append, ClaimKey, CommandKey, ConcurrencyConflict, LedgerRow, NewEvent
from services.store.event_store import EventStore

# Whoever has lost so often decides under the append lock, which nobody can get ahead of; else fifty writers on one
# stream starve each other.
PATIENT_ROUNDS = 3
# So this many in a row means that something is broken.
MOST_ROUNDS = 20
# The decisions of a batch end with the one whose events fill this many bytes, each at most the event limit: it bounds
# the memory and the statement. What remains is the next batch.
MAX_BATCH_BYTES = 8 << 20
_NOTHING: tuple[int, Any] = (0, None)


class Worker:
    """Runs batches on one store. It belongs to the store's thread."""

    def __init__(
        self,
        store: EventStore,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        new_number: Callable[[], int],
        cache: int = 50_000,
        on_decided: Callable[[], None] = lambda: None,
        event_limit: int = EVENT_LIMIT,
    ) -> None:
        self._store = store
        self._event_limit = event_limit
        self._clock = clock
        self._new_id = new_id
        self._new_number = new_number
        self._on_decided = on_decided
        self._streams = Memory(cache)
        self._holders = Memory(cache)

    def run(self, batch: Sequence[Incoming], attempted: bool = False) -> list[Outcome]:
        """Decide and record one transaction, and return an outcome a command, in order.

        It is all of the batch, or as many of its first commands, at least one, as fill `MAX_BATCH_BYTES` with events.
        `attempted` says that the commands' attempts are counted, and that the count goes when they are done with.
        Raises the store's errors, and then nothing was recorded.
        """
        try:
            return _Batch(self, batch, attempted).run()
        except BaseException:
            # What is in memory may be ahead of the log, or behind it; versions would find out, but reading is cheaper.
            self._streams.clear()
            self._holders.clear()
            raise


def _first_reads(command: Incoming) -> Iterable[tuple[str, str]]:
    # What exceeds a limit is refused without a decision.
    if command.refusal is None:
        yield from DECIDER_OF_COMMAND[command.name].reads(command.command)
        yield from actor_stream(command.actor)


class _Batch:
    """One batch on its way; the worker's memory is changed only when it is recorded."""

    def __init__(self, worker: Worker, batch: Sequence[Incoming], attempted: bool) -> None:
        self._worker = worker
        self._store = worker._store
        self._commands = batch
        self._attempted = attempted
        self._now = worker._clock()
        self._committed: dict[str, tuple[int, Any]] = {}
        self._held: dict[ClaimKey, str | None] = {}
        # Streams that this version cannot read: commands on them are refused, and decided when they come again.
        self._newer: dict[str, codec.NewerStream] = {}
        self._ledger: dict[CommandKey, LedgerRow] = {}
        # The view of the batch so far: committed, then changed by the commands before.
        self._states: dict[str, Any] = {}
        self._versions: dict[str, int] = {}
        self._claims: dict[str, dict[Claim, str | None]] = {}
        self._first: dict[CommandKey, Outcome] = {}
        self._keys: dict[ClaimKey, Outcome] = {}

    def run(self) -> list[Outcome]:
        self._load(
            (stream_of(c.tenant, *read) for c in self._commands for read in _first_reads(c)),
            ((c.tenant, Claim(IDEMPOTENCY, c.idempotency_key)) for c in self._commands if c.idempotency_key),
        )
        self._ledger = self._store.ledger({(c.tenant, c.command_id) for c in self._commands})
        outcomes: Sequence[Outcome | None] = [None] * len(self._commands)
        moved: ConcurrencyConflict | None = None
        with ExitStack() as alone:
            for rounds in range(MOST_ROUNDS):
                decided = self._decide_all(outcomes, moved)
                self._worker._on_decided()
                try:
                    head, _ = self._store.append(self._append(decided))
                except ConcurrencyConflict as lost:
                    outcomes, moved = decided, lost
                    if rounds == PATIENT_ROUNDS:
                        alone.enter_context(self._store.alone())
                    self._reload(lost)
                    continue
                alone.close()
                self._remember(decided)
                answer(decided, head, self._store)
                return decided
        raise RuntimeError(f"a batch lost {MOST_ROUNDS} times in a row to other writers")

    # Loading.

    def _load(self, streams: Iterable[str], claims: Iterable[tuple[str, Claim]]) -> None:
        missing = []
        for stream in streams:
            if stream not in self._committed and stream not in self._newer:
                found = self._worker._streams.get(stream)
                if found is None:
                    missing.append(stream)
                else:
                    self._learn(stream, found)
        if missing:
            for stream, found in self._store.load(missing).items():
                if isinstance(found[1], codec.NewerStream):
                    self._newer[stream] = found[1]
                else:
                    self._learn(stream, found)
        unknown = []
        for tenant, claim in claims:
            key = (tenant, *claim)
            if key not in self._held:
                held = self._worker._holders.get(key)
                if held is None:
                    unknown.append((tenant, claim))
                else:
                    self._hold(key, held[0])
        if unknown:
            for key, holder in self._store.holders(unknown).items():
                self._hold(key, holder)

    def _remembered(self, streams: Iterable[str], claims: Iterable[tuple[str, Claim]]) -> bool:
        """Tell whether all of these are in the worker's memory, so that no query is needed."""
        return all(self._worker._streams.get(stream) is not None for stream in streams) and all(
            self._worker._holders.get((tenant, *claim)) is not None for tenant, claim in claims
        )

    def _learn(self, stream: str, found: tuple[int, Any]) -> None:
        self._committed[stream] = found
        self._versions[stream], self._states[stream] = found

    def _hold(self, key: ClaimKey, holder: str | None) -> None:
        self._held[key] = holder
        self._claims.setdefault(key[0], {})[Claim(key[1], key[2])] = holder

    # Deciding.

    def _decide_all(self, before: Sequence[Outcome | None], moved: ConcurrencyConflict | None) -> list[Outcome]:
        """Decide the commands in order; after a conflict, only those whose reads have changed."""
        self._first.clear()
        self._keys.clear()
        touched = Touched(moved)
        probed = False
        outcomes: list[Outcome] = []
        size = 0
        for index, command in enumerate(self._commands):
            outcome = before[index]
            if outcome is not None and touched.by(outcome):
                touched.add(outcome)
                outcome = None
            anew = outcome is None
            while outcome is None:
                try:
                    outcome = self._outcome(command)
                except NotLoaded as lack:
                    streams, claims = list(lack.streams), [(command.tenant, claim) for claim in lack.claims]
                    newer = [stream for stream in streams if stream in self._newer]
                    if newer:
                        outcome = self._newer_version(command, newer[0])
                        break
                    if not probed and not self._remembered(streams, claims):
                        probed = True
                        more = self._probe(index + 1, before)
                        streams, claims = streams + more[0], claims + more[1]
                    self._load(streams, claims)
            if anew and moved is not None:
                touched.add(outcome)
            self._apply(outcome)
            outcomes.append(outcome)
            size += sum(len(event.state) for event in outcome.events)
            if size >= MAX_BATCH_BYTES:
                break
        self._commands = self._commands[: len(outcomes)]
        return outcomes

    def _probe(self, start: int, before: Sequence[Outcome | None]) -> tuple[list[str], list[tuple[str, Claim]]]:
        """Find what the rest of the batch will look at beyond its first reads, so that it is loaded by one query."""
        streams: list[str] = []
        claims: list[tuple[str, Claim]] = []
        for index in range(start, len(self._commands)):
            command = self._commands[index]
            if before[index] is None and command.refusal is None:
                try:
                    DECIDER_OF_COMMAND[command.name].decide(command.command, self._context(command))
                except NotLoaded as lack:
                    streams += lack.streams
                    claims += [(command.tenant, claim) for claim in lack.claims]
                except Exception:  # noqa: S112 - whatever is wrong with it shows when its turn comes
                    continue
        return streams, claims

    def _context(self, command: Incoming) -> Context:
        return Context(
            command.tenant,
            command.actor,
            self._now,
            self._worker._new_id,
            self._worker._new_number,
            self._states,
            self._claims.setdefault(command.tenant, {}),
        )

    def _outcome(self, command: Incoming) -> Outcome:
        repeated = self._repeated(command)
        if repeated is not None:
            return repeated
        if command.refusal is not None:
            return Outcome(command, refusal=command.refusal)
        context = self._context(command)
        try:
            self._demand_version(command, context)
            decision: Decision = DECIDER_OF_COMMAND[command.name].decide(command.command, context)
            events = self._new_events(command, decision)
        except Rejected as rejected:
            refusal = rejected.refusal
            return Outcome(command, refusal=refusal, streams_read=context.streams_read, claims_read=context.claims_read)
        except NotLoaded:
            raise
        except Exception as failure:
            return Outcome(command, failure=failure, recorded=False)
        return Outcome(
            command,
            events=events,
            claims=decision.claims,
            streams_read=context.streams_read,
            claims_read=context.claims_read,
        )

    def _newer_version(self, command: Incoming, stream: str) -> Outcome:
        """Refuse a command without a record, so that it is decided when it comes again after the upgrade."""
        found = self._newer[stream]
        where = f"{stream.partition('/')[2]} holds {found.event} as version {found.version}"
        refusal = Refusal("newer-version", f"{where}, which this version of the service cannot read")
        return Outcome(command, refusal=refusal, recorded=False)

    def _repeated(self, command: Incoming) -> Outcome | None:
        key = (command.tenant, command.command_id)
        row, first = self._ledger.get(key), self._first.get(key)
        known = row.fingerprint if row else first.incoming.fingerprint if first else None
        if known is not None:
            if known == command.fingerprint:
                if first is not None:
                    # The first may itself repeat another one's key: its answer is that one's.
                    row, first = row or first.row, first.first or first
                return Outcome(command, row=row, first=first, recorded=False)
            refusal = Refusal("command-id-conflict", "another command came under this id")
            return Outcome(command, refusal=refusal, recorded=False)
        if command.idempotency_key is None:
            return None
        return self._repeated_key(command, (command.tenant, IDEMPOTENCY, command.idempotency_key))

    def _repeated_key(self, command: Incoming, key: ClaimKey) -> Outcome | None:
        first, row = self._keys.get(key), None
        if first is not None:
            known = first.incoming.fingerprint
        else:
            holder = self._held[key]
            if holder is None:
                return None
            row = row_of_key(command.tenant, holder)
            known = row.fingerprint
        read = (Claim(key[1], key[2]),)
        if known == command.fingerprint:
            return Outcome(command, row=row, first=first, claims_read=read)
        refusal = Refusal("idempotency-conflict", "another command took this idempotency key")
        return Outcome(command, refusal=refusal, claims_read=read)

    def _demand_version(self, command: Incoming, context: Context) -> None:
        if command.expected_version is None:
            return
        # What has no id yet does not exist; the streams that its creation reads are others'.
        brought = getattr(command.command, "id", None) is not None
        own = next(iter(DECIDER_OF_COMMAND[command.name].reads(command.command)), None) if brought else None
        actual = 0
        if own is not None:
            context.state(*own)
            actual = self._versions[stream_of(command.tenant, *own)]
        if actual != command.expected_version:
            raise Rejected("version-conflict", f"the stream is at version {actual}, not {command.expected_version}")

    def _new_events(self, command: Incoming, decision: Decision) -> list[NewEvent]:
        events = []
        versions: dict[str, int] = {}
        for stream, event in decision.events:
            version = versions[stream] = versions.get(stream, self._versions.get(stream, 0)) + 1
            metadata = codec.Metadata(
                self._worker._new_id(),
                command.command_id,
                command.correlation_id or command.command_id,
                command.command_id,
                command.actor,
                self._now,
                command.traceparent,
            )
            made = NewEvent(stream, version, codec.name_of(event), event, metadata)
            if len(made.state) > self._worker._event_limit:
                detail = f"it would record {made.name} with {len(made.state)} bytes"
                raise Rejected("too-large", f"{detail}, and an event has at most {self._worker._event_limit}")
            events.append(made)
        return events

    def _apply(self, outcome: Outcome) -> None:
        """Let the commands that follow see what this one does."""
        command = outcome.incoming
        for event in outcome.events:
            stream = event.stream
            decider = DECIDER_OF_CATEGORY[split_stream(stream)[1]]
            self._states[stream] = decider.evolve(self._states.get(stream), event.event)
            self._versions[stream] = event.version
        if outcome.claims:
            self._claims.setdefault(command.tenant, {}).update(outcome.claims)
        if outcome.recorded:
            self._first[command.tenant, command.command_id] = outcome
            if command.idempotency_key and outcome.refusal is None and outcome.row is None and outcome.first is None:
                self._keys[command.tenant, IDEMPOTENCY, command.idempotency_key] = outcome

    # Recording.

    def _append(self, outcomes: Sequence[Outcome]) -> Append:
        append = Append()
        for outcome in outcomes:
            command, tenant = outcome.incoming, outcome.incoming.tenant
            for stream in outcome.streams_read:
                # One that was never loaded was made by a command before: nothing of it is committed.
                append.streams_read[stream] = self._committed.get(stream, _NOTHING)[0]
            for claim in outcome.claims_read:
                key = (tenant, *claim)
                # One that was never loaded is as a command before has left it, and what that one read is compared.
                if key in self._held:
                    append.claims_read[key] = self._held[key]
            for claim, holder in outcome.claims.items():
                key = (tenant, *claim)
                if holder is None and key not in append.claims:
                    append.given_up.add(key)
                append.claims[key] = holder
            outcome.offset = len(append.events)
            append.events += outcome.events
            if outcome.recorded:
                append.ledger.append(ledger_row(outcome))
            if self._attempted and outcome.failure is None:
                append.attempts_done.append((tenant, command.command_id))
        for key, outcome in self._keys.items():
            append.claims_read[key] = self._held[key]
            append.claims[key] = key_holder(outcome)
        return append

    def _reload(self, moved: ConcurrencyConflict) -> None:
        """Go back to what is committed, with what has moved read again."""
        self._worker._streams.drop(moved.streams)
        self._worker._holders.drop(moved.claims)
        for stream in moved.streams:
            self._committed.pop(stream, None)
        for key in moved.claims:
            self._held.pop(key, None)
        self._states.clear()
        self._versions.clear()
        self._claims.clear()
        for stream, found in self._committed.items():
            self._learn(stream, found)
        for key, holder in self._held.items():
            self._hold(key, holder)
        self._load(moved.streams, [(key[0], Claim(key[1], key[2])) for key in moved.claims])
        self._ledger |= self._store.ledger(moved.commands)

    def _remember(self, outcomes: Sequence[Outcome]) -> None:
        streams, holders = self._worker._streams, self._worker._holders
        for stream in self._committed:
            streams.put(stream, (self._versions[stream], self._states[stream]))
        for outcome in outcomes:
            for event in outcome.events:
                stream = event.stream
                streams.put(stream, (self._versions[stream], self._states[stream]))
        for tenant, claims in self._claims.items():
            for claim, holder in claims.items():
                # A key's holder names positions that only the store knows yet; it is asked when the key comes again.
                if claim.kind != IDEMPOTENCY:
                    holders.put((tenant, *claim), (holder,))
