"""The group commit: many commands decided in arrival order and recorded in one transaction, each as if it were alone.

A command that is refused, or that fails, changes nothing for its neighbours; what was decided once is answered again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from domain import DECIDER_OF_COMMAND
from domain.decider import Context, Decision, NotLoaded, UniqueKey, actor_stream
from domain.errors import Rejected
from domain.limits import MAX_EVENTS
from domain.streams import stream_of
from services.commands.memory import Memory
from services.commands.outcome import IDEMPOTENCY, Outcome, Touched, answer, key_holder, lasting, ledger_row
from services.commands.repeats import Repeats
from services.commands.view import View
from services.commands.wire import Incoming
from services.settings import EVENT_LIMIT
from services.store import codec
from services.store.append import Append, ConcurrencyConflict, NewEvent
from services.store.event_store import EventStore

# After so many conflicts a batch decides under the append lock, where no other writer can get ahead; otherwise fifty
# writers on one stream starve each other.
PATIENT_ROUNDS = 3
# So this many conflicts in a row mean that something is broken.
MAX_ROUNDS = 20
# The decisions of a batch end with the one whose events fill this many bytes, each at most the event limit: it bounds
# the memory and the statement. What remains is the next batch.
MAX_BATCH_BYTES = 8 << 20
# The same for their number: a command that records thousands ends the batch, and others have their turn.
MAX_BATCH_EVENTS = 2000
# Decisions that ask for more streams after so many times get them one by one.
MAX_LOADS_AHEAD = 6


@dataclass(frozen=True, slots=True)
class _Means:
    """What decisions take besides the state; `on_decided` runs before they are recorded."""

    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    new_number: Callable[[], int]
    on_decided: Callable[[], None]
    event_limit: int


class Worker:
    """Runs batches on one store, in the store's thread."""

    def __init__(
        self,
        store: EventStore,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        new_number: Callable[[], int],
        cache: int = 64 << 20,
        on_decided: Callable[[], None] = lambda: None,
        event_limit: int = EVENT_LIMIT,
    ) -> None:
        self._store = store
        self._means = _Means(clock, new_id, new_number, on_decided, event_limit)
        self._streams = Memory(cache)
        self._holders = Memory(cache // 4)

    def run(self, batch: Sequence[Incoming], attempted: bool = False) -> list[Outcome]:
        """Decide and record one transaction, and return an outcome a command, in order.

        It is all of the batch, or as many of its first commands, at least one, as fill `MAX_BATCH_BYTES` with events,
        or record `MAX_BATCH_EVENTS`.
        `attempted` says that the commands' attempts are counted, and that the count goes when they are done with.
        Raises the store's errors, and then nothing was recorded.
        """
        try:
            view = View(self._store, self._streams, self._holders)
            return _Batch(self._store, view, self._means, batch, attempted).run()
        except BaseException:
            # The cache may be ahead of the log or behind it; comparing versions would notice, but reading is cheaper.
            self._streams.clear()
            self._holders.clear()
            raise


def _first_reads(command: Incoming) -> Iterable[tuple[str, str]]:
    # A command that exceeds a limit is refused without a decision.
    if command.refusal is None:
        yield from DECIDER_OF_COMMAND[command.name].reads(command.command)
        yield from actor_stream(command.actor)


class _Batch:
    """One batch; the worker's cache is changed only after it is recorded."""

    def __init__(
        self, store: EventStore, view: View, means: _Means, batch: Sequence[Incoming], attempted: bool
    ) -> None:
        self._store = store
        self._view = view
        self._means = means
        self._commands = batch
        self._attempted = attempted
        self._now = means.clock()
        self._repeats = Repeats()

    def run(self) -> list[Outcome]:
        self._view.load(
            (stream_of(c.tenant, *read) for c in self._commands for read in _first_reads(c)),
            ((c.tenant, UniqueKey(IDEMPOTENCY, c.idempotency_key)) for c in self._commands if c.idempotency_key),
        )
        keys = {(c.tenant, c.command_id) for c in self._commands}
        self._repeats.ledger = self._store.ledger(keys)
        outcomes: Sequence[Outcome | None] = [None] * len(self._commands)
        moved: ConcurrencyConflict | None = None
        with ExitStack() as alone:
            for rounds in range(MAX_ROUNDS):
                decided = self._decide_all(outcomes, moved)
                self._means.on_decided()
                try:
                    head, _ = self._store.append(self._append(decided))
                except ConcurrencyConflict as lost:
                    outcomes, moved = decided, lost
                    if rounds == PATIENT_ROUNDS:
                        alone.enter_context(self._store.alone())
                    self._view.reload(lost)
                    self._repeats.ledger = self._store.ledger(keys)
                    continue
                alone.close()
                self._view.remember(decided)
                answer(decided, head, self._store)
                return decided
        raise RuntimeError(f"a batch lost {MAX_ROUNDS} times in a row to other writers")

    # Deciding.

    def _decide_all(self, before: Sequence[Outcome | None], moved: ConcurrencyConflict | None) -> list[Outcome]:
        """Decide the commands in order; after a conflict, only those whose reads have changed."""
        self._repeats.clear()
        touched = Touched(moved)
        probed = False
        outcomes: list[Outcome] = []
        size = count = 0
        for index, command in enumerate(self._commands):
            outcome = before[index]
            if outcome is not None and touched.by(outcome):
                touched.add(outcome)
                outcome = None
            anew = outcome is None
            while outcome is None:
                try:
                    outcome = lasting(self._outcome(command))
                except NotLoaded as lack:
                    outcome = self._view.unreadable(command, lack.streams)
                    if outcome is None and probed:
                        self._view.load(lack.streams, [(command.tenant, unique) for unique in lack.unique_keys])
                    elif outcome is None:
                        probed = True
                        self._load_ahead(index, before)
            if anew and moved is not None:
                touched.add(outcome)
            self._view.apply(outcome)
            self._repeats.add(outcome)
            outcomes.append(outcome)
            size += sum(len(event.state) for event in outcome.decided)
            count += len(outcome.decided)
            if size >= MAX_BATCH_BYTES or count >= MAX_BATCH_EVENTS:
                break
        self._commands = self._commands[: len(outcomes)]
        return outcomes

    def _load_ahead(self, start: int, before: Sequence[Outcome | None]) -> None:
        """Load what the rest of the batch will read beyond its first reads, as far as it shows by now.

        A decision may ask several times, each time for more; what all ask for at once is loaded together.
        """
        given = zip(self._commands[start + 1 :], before[start + 1 :], strict=True)
        rest = [self._commands[start], *(each for each, was in given if was is None and each.refusal is None)]
        for _ in range(MAX_LOADS_AHEAD):
            lacking: list[Incoming] = []
            streams: list[str] = []
            unique_keys: list[tuple[str, UniqueKey]] = []
            for command in rest:
                try:
                    DECIDER_OF_COMMAND[command.name].decide(command.command, self._context(command))
                except NotLoaded as lack:
                    lacking.append(command)
                    streams += lack.streams
                    unique_keys += [(command.tenant, unique) for unique in lack.unique_keys]
                except Exception:  # noqa: S112 - whatever is wrong with it shows when its turn comes
                    continue
            if not lacking:
                return
            self._view.load(streams, unique_keys)
            rest = lacking

    def _context(self, command: Incoming) -> Context:
        return Context(
            command.tenant,
            command.actor,
            self._now,
            self._means.new_id,
            self._means.new_number,
            self._view.states,
            self._view.unique_keys_of(command.tenant),
        )

    def _outcome(self, command: Incoming) -> Outcome:
        known = self._repeats.find(command, self._view.held) or self._repeats.waits(command)
        if known is not None:
            return known
        if command.refusal is not None:
            return Outcome(command, refusal=command.refusal)
        context = self._context(command)
        try:
            self._demand_version(command, context)
            decision: Decision = DECIDER_OF_COMMAND[command.name].decide(command.command, context)
            events = self._new_events(command, decision)
        except Rejected as rejected:
            refusal = rejected.refusal
            return Outcome(
                command, refusal=refusal, streams_read=context.streams_read, unique_keys_read=context.unique_keys_read
            )
        except NotLoaded:
            raise
        except Exception as failure:
            return Outcome(command, failure=failure, recorded=False)
        return Outcome(
            command,
            events=events,
            unique_keys=decision.unique_keys,
            states=decision.states,
            streams_read=context.streams_read,
            unique_keys_read=context.unique_keys_read,
        )

    def _demand_version(self, command: Incoming, context: Context) -> None:
        if command.expected_version is None:
            return
        # A command without an id creates its aggregate; the streams that it reads are of other aggregates.
        brought = getattr(command.command, "id", None) is not None
        own = next(iter(DECIDER_OF_COMMAND[command.name].reads(command.command)), None) if brought else None
        actual = 0
        if own is not None:
            context.state(*own)
            actual = self._view.versions[stream_of(command.tenant, *own)]
        if actual != command.expected_version:
            raise Rejected("version-conflict", f"the stream is at version {actual}, not {command.expected_version}")

    def _new_events(self, command: Incoming, decision: Decision) -> list[NewEvent]:
        if len(decision.events) > MAX_EVENTS:
            detail = f"it would record {len(decision.events)} events, and a command records at most {MAX_EVENTS}"
            raise Rejected("too-large", detail)
        events = []
        versions: dict[str, int] = {}
        for stream, event in decision.events:
            version = versions[stream] = versions.get(stream, self._view.versions.get(stream, 0)) + 1
            metadata = codec.Metadata(
                self._means.new_id(),
                command.command_id,
                command.correlation_id or command.command_id,
                command.command_id,
                command.actor,
                self._now,
                command.traceparent,
            )
            made = NewEvent(stream, version, codec.name_of(event), event, metadata)
            if len(made.state) > self._means.event_limit:
                detail = f"it would record {made.name} with {len(made.state)} bytes"
                raise Rejected("too-large", f"{detail}, and an event has at most {self._means.event_limit}")
            events.append(made)
        return events

    # Recording.

    def _append(self, outcomes: Sequence[Outcome]) -> Append:
        append = Append()
        for outcome in outcomes:
            command, tenant = outcome.incoming, outcome.incoming.tenant
            self._view.compare(outcome, append)
            for unique, holder in outcome.unique_keys.items():
                key = (tenant, *unique)
                if holder is None and key not in append.unique_keys:
                    append.given_up.add(key)
                append.unique_keys[key] = holder
            outcome.offset = len(append.events)
            append.events += outcome.events
            if outcome.recorded:
                append.ledger.append(ledger_row(outcome))
            if self._attempted and outcome.failure is None:
                append.attempts_done.append((tenant, command.command_id))
        for key, outcome in self._repeats.keys.items():
            append.unique_keys_read[key] = self._view.held[key]
            append.unique_keys[key] = key_holder(outcome)
        return append
