"""Given, when, then: what a domain test says; it decides as the worker does, with only what was asked for loaded."""

from __future__ import annotations

import difflib
import pprint
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from domain import COMMANDS, DECIDER_OF_CATEGORY, DECIDER_OF_COMMAND, EVENT_NAMES, checks
from domain.activity import STATUS_CATEGORY, ActivityStatusChanged
from domain.activity.state import Activity
from domain.decider import ANYBODY, Context, Decision, NotLoaded, UniqueKey, actor_stream
from domain.errors import Rejected
from domain.lifecycle import OPEN
from domain.rollup import Child, rollup
from domain.streams import split_stream, stream_of
from domain.task import Dispatch, Resolution

TENANT = "acme"
NOW = datetime(2025, 10, 31, 1, 0, tzinfo=UTC)
MAX_ROUNDS = 12
COMMAND_NAMES: dict[type, str] = {kind: name for name, kind in COMMANDS.items()}
_ANYTHING: Any = object()


def stream_of_event(event: Any, tenant: str = TENANT) -> str:
    """Return the stream that an event belongs to, by its class and its id."""
    if isinstance(event, ActivityStatusChanged):
        return stream_of(tenant, STATUS_CATEGORY, event.id)
    family = EVENT_NAMES[type(event)].partition(".")[0]
    return stream_of(tenant, event.kind if family == "directory" else family, event.id)


@dataclass(slots=True)
class Given:
    """A tenant's streams and unique keys, as a store would hold them after what has happened so far."""

    states: dict[str, Any] = field(default_factory=dict)
    holders: dict[UniqueKey, str] = field(default_factory=dict)
    log: list[Any] = field(default_factory=list)
    ids: int = 0
    numbers: int = 0

    def and_events(self, events: Iterable[Any]) -> Given:
        """Add events that happened, whatever a decision would say of them."""
        for event in events:
            stream = stream_of_event(event)
            category = split_stream(stream)[1]
            self.states[stream] = DECIDER_OF_CATEGORY[category].evolve(self.states.get(stream), event)
            self.log.append(event)
        return self

    def and_commands(self, commands: Iterable[Any], actor: str = "system", now: datetime = NOW) -> Given:
        """Let commands run one after another; a refused one fails the test."""
        for command in commands:
            outcome = self.when(command, actor, now)
            if outcome.refusal is not None:
                raise AssertionError(f"a command that sets the scene was refused: {command}") from outcome.refusal
        return self

    def and_unique_keys(self, unique_keys: Mapping[UniqueKey, str]) -> Given:
        """Say who holds unique keys, for what no command can lead to."""
        self.holders.update(unique_keys)
        return self

    def when(self, command: Any, actor: str = "system", now: datetime = NOW) -> Outcome:
        """Decide a command and record what it says."""
        outcome = self.ask(command, actor, now)
        if outcome.decision is not None:
            stale = set(self.stale())
            self.record(outcome.decision)
            # Events that a test just names may have left an activity without the status that follows from them.
            assert set(self.stale()) <= stale, f"{outcome.name} left an activity with another status than its tasks'"
            self.ids, self.numbers = outcome.last_id, outcome.last_number
        return outcome

    def stale(self) -> Iterator[str]:
        """Find the activities whose recorded status is not what their tasks give."""
        activities = [state for state in self.states.values() if isinstance(state, Activity)]
        for each in activities:
            tasks = [self.state("task", child) for child in each.children]
            children = [
                Child(
                    step,
                    task.lifecycle,
                    task.assignees,
                    dispatched=task.dispatch is Dispatch.DISPATCHED,
                    unresolved=task.resolution in (Resolution.PENDING, Resolution.FAILED),
                )
                for step, task in enumerate(tasks)
                if task is not None
            ]
            status = rollup(children, each.canceled, each.failure == "fail_fast").lifecycle
            if status != (self.state(STATUS_CATEGORY, each.id) or OPEN):
                yield each.id

    def ask(self, command: Any, actor: str = "system", now: datetime = NOW) -> Outcome:
        """Decide a command and record nothing; what a decision lacks is loaded, and it decides again."""
        try:
            checks.demand(type(command), command, "")
        except Rejected as refusal:
            outcome = Outcome(self, command, self.ids, self.numbers, 1, refusal=refusal)
            outcome.context = Context(TENANT, actor, now, outcome.new_id, outcome.new_number, {}, {})
            return outcome
        decider = DECIDER_OF_COMMAND[COMMAND_NAMES[type(command)]]
        states: dict[str, Any] = {}
        holders: dict[UniqueKey, str | None] = {}
        for category, entity_id in (*decider.reads(command), *actor_stream(actor)):
            stream = stream_of(TENANT, category, entity_id)
            states[stream] = self.states.get(stream)
        for rounds in range(1, MAX_ROUNDS + 1):
            outcome = Outcome(self, command, first_id=self.ids, first_number=self.numbers, rounds=rounds)
            context = Context(TENANT, actor, now, outcome.new_id, outcome.new_number, states, holders)
            outcome.context = context
            try:
                outcome.decision = decider.decide(command, context)
            except NotLoaded as missing:
                fresh = [stream for stream in missing.streams if stream not in states]
                unknown = [unique for unique in missing.unique_keys if unique not in holders]
                assert fresh or unknown, "the decision asked again for what it has"
                # A worker draws other ids at the next attempt, so such a look-up would go on for ever.
                own = [name for name in fresh if split_stream(name)[2] in outcome.drawn]
                own += [unique for unique in unknown if unique.key in outcome.drawn]
                assert not own, f"the decision looked up what it has just drawn: {own}"
                states.update((stream, self.states.get(stream)) for stream in fresh)
                holders.update((unique, self._holder(unique)) for unique in unknown)
            except Rejected as refusal:
                outcome.refusal = refusal
                return outcome
            else:
                taken = self._taken(outcome)
                if not taken:
                    return outcome
                holders.update((unique, self.holders[unique]) for unique in taken)
        raise AssertionError(f"still not decided after {MAX_ROUNDS} rounds of loading: {command}")

    def _holder(self, unique: UniqueKey) -> str | None:
        if unique.kind == ANYBODY:
            return next((holder for held, holder in self.holders.items() if held.kind == unique.key), None)
        return self.holders.get(unique)

    def _taken(self, outcome: Outcome) -> list[UniqueKey]:
        """Check the reads of an accepted command, and return the unique keys that a store would refuse as held."""
        assert outcome.decision is not None
        assert outcome.context is not None
        for stream, _ in outcome.decision.events:
            if stream in self.states:
                assert stream in outcome.context.streams_read, f"{stream} was written to, but never read"
        unread = [
            unique
            for unique, holder in outcome.decision.unique_keys.items()
            if holder is not None and unique not in outcome.context.unique_keys_read
        ]
        # What stands under an id that is made by the command itself cannot be anybody's.
        made = {split_stream(stream)[2] for stream, _ in outcome.decision.events if stream not in self.states}
        for unique in unread:
            assert unique.key in outcome.drawn | made, f"{unique} was taken, but never read"
        return [unique for unique in unread if unique in self.holders]

    def record(self, decision: Decision) -> None:
        """Take over a decision's events and unique keys."""
        for stream, event in decision.events:
            assert stream == stream_of_event(event), f"{event} was put into the stream {stream}"
        self.and_events(event for _, event in decision.events)
        for unique, holder in decision.unique_keys.items():
            if holder is None:
                self.holders.pop(unique, None)
            else:
                self.holders[unique] = holder

    def state(self, category: str, entity_id: str) -> Any:
        """Return one stream's state, or None."""
        return self.states.get(stream_of(TENANT, category, entity_id))


@dataclass(slots=True)
class Outcome:
    """What a command led to: a decision or a refusal; each `then_` returns what is given from there on."""

    given: Given
    command: Any
    first_id: int
    first_number: int
    rounds: int
    drawn_ids: int = 0
    drawn_numbers: int = 0
    decision: Decision | None = None
    refusal: Rejected | None = None
    context: Context | None = None

    def new_id(self) -> str:
        """Give `id-1`, `id-2` …, the same again to a decision that is made again."""
        self.drawn_ids += 1
        return f"id-{self.last_id}"

    def new_number(self) -> int:
        """Give 1, 2 …, the same again to a decision that is made again."""
        self.drawn_numbers += 1
        return self.last_number

    @property
    def last_id(self) -> int:
        """Return the number of the last id given."""
        return self.first_id + self.drawn_ids

    @property
    def last_number(self) -> int:
        """Return the last number given."""
        return self.first_number + self.drawn_numbers

    @property
    def drawn(self) -> set[str]:
        """Return the ids and numbers that this attempt drew, as texts."""
        ids = {f"id-{number}" for number in range(self.first_id + 1, self.last_id + 1)}
        return ids | {str(number) for number in range(self.first_number + 1, self.last_number + 1)}

    @property
    def name(self) -> str:
        """Return the command's name on the wire."""
        return COMMAND_NAMES[type(self.command)]

    @property
    def events(self) -> list[Any]:
        """Return the events of a command that was accepted."""
        return [event for _, event in self._accepted().events]

    @property
    def refused_at(self) -> tuple[str, int]:
        """Return file and line of the statement that refused."""
        trace: TracebackType | None = self.refusal.__traceback__ if self.refusal is not None else None
        assert trace is not None, "the command was not refused"
        while trace.tb_next is not None:
            trace = trace.tb_next
        return trace.tb_frame.f_code.co_filename, trace.tb_lineno

    def then(self, events: Sequence[Any]) -> Given:
        """Expect exactly these events, in this order.

        The status of activities is left out unless it is expected; `when` compares it with that of their tasks.
        """
        wanted, got = list(events), self.events
        if not any(isinstance(event, ActivityStatusChanged) for event in wanted):
            got = [event for event in got if not isinstance(event, ActivityStatusChanged)]
        _same(wanted, got, f"{self.name} recorded other events")
        return self.given

    def then_nothing(self) -> Given:
        """Expect a command that is accepted and has nothing to do: no event, no unique key."""
        _same(({}, []), (dict(self._accepted().unique_keys), self.events), f"{self.name} should have done nothing")
        return self.given

    def then_unique_keys(self, unique_keys: Mapping[UniqueKey, str | None]) -> Given:
        """Expect exactly these changes of unique keys."""
        _same(dict(unique_keys), dict(self._accepted().unique_keys), f"{self.name} changed other unique keys")
        return self.given

    def then_rejected(self, code: str, pointer: str = _ANYTHING) -> Given:
        """Expect a refusal with this code and, where it is said, at this place of the command's data."""
        if self.refusal is None:
            recorded = pprint.pformat(self.events, width=110)
            raise AssertionError(f"{self.name} should be refused as {code}, yet it recorded\n{recorded}")
        wanted = (code,) if pointer is _ANYTHING else (code, pointer)
        got = (self.refusal.code, self.refusal.pointer)[: len(wanted)]
        _same(wanted, got, f"{self.name} was refused otherwise: {self.refusal}")
        assert self.refusal.detail, "a refusal says why"
        return self.given

    def _accepted(self) -> Decision:
        if self.decision is None:
            raise AssertionError(f"{self.name} was refused: {self.refusal} {self.refusal and self.refusal.pointer}")
        return self.decision


def given(events: Iterable[Any] = (), unique_keys: Mapping[UniqueKey, str] | None = None) -> Given:
    """Start from events, without their streams, and from unique keys that no event tells."""
    return Given().and_events(events).and_unique_keys(unique_keys or {})


def given_commands(commands: Iterable[Any], actor: str = "system", now: datetime = NOW) -> Given:
    """Start from commands, so that states and unique keys come from decisions."""
    return Given().and_commands(commands, actor, now)


def _same(wanted: Any, got: Any, message: str) -> None:
    if wanted == got:
        return
    left, right = (pprint.pformat(value, width=110, sort_dicts=False).splitlines() for value in (wanted, got))
    raise AssertionError("\n".join([f"{message} (- wanted, + got)", *difflib.ndiff(left, right)]))
