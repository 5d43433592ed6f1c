"""The shape of every aggregate: commands in, events out, and everything that a decision looked at is remembered.

What a decision read must still hold when it is recorded, so a decision never looks at anything but its `Context`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from domain.compare import same_json
from domain.errors import Rejected
from domain.left_out import LEFT_OUT
from domain.limits import INSTANT, INSTANT_DETAIL
from domain.streams import stream_of

SYSTEM = "system"
# Stricter than `datetime.fromisoformat`, which also reads week dates, basic forms and offsets with seconds, and more of
# them in newer versions.
_INSTANT = re.compile(rf"{INSTANT}\Z")


def given(command: Any, *names: str) -> dict[str, Any]:
    """Return those of a change's fields that it does not leave out."""
    values = {name: getattr(command, name) for name in names}
    return {name: value for name, value in values.items() if value is not LEFT_OUT}


class UniqueKey(NamedTuple):
    """A fact that is unique over many streams of a tenant, such as a workflow's name."""

    kind: str
    key: str


# A unique key of this kind is never taken: it has a holder when anybody holds a unique key of the kind that it names.
ANYBODY = "anybody"


class NotLoaded(Exception):
    """A decision looked at streams or unique keys that are not in memory; load them and decide again."""

    def __init__(self, streams: Iterable[str] = (), unique_keys: Iterable[UniqueKey] = ()) -> None:
        super().__init__("not loaded")
        self.streams = tuple(streams)
        self.unique_keys = tuple(unique_keys)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a command does: events by stream, in order, and the holders of unique keys (None gives one up).

    `states` are those that the events lead to, of the streams of which the decision knows that already.
    """

    events: tuple[tuple[str, Any], ...] = ()
    unique_keys: Mapping[UniqueKey, str | None] = field(default_factory=dict)
    states: Mapping[str, Any] = field(default_factory=dict)


class Context:
    """All that one decision may look at: the time, fresh ids, the states of streams, the holders of unique keys.

    `states` maps a stream to its state (None when the stream is empty) and `holders` a unique key to its holder; both
    are shared by a batch. `streams_read` and `unique_keys_read` collect what the decision looked at. An id or number
    that the decision itself drew is never looked up: it is another one at each attempt, so that would never end.
    """

    __slots__ = (
        "_new_id",
        "actor",
        "drawn",
        "holders",
        "new_number",
        "now",
        "states",
        "streams_read",
        "tenant",
        "unique_keys_read",
    )

    def __init__(
        self,
        tenant: str,
        actor: str,
        now: datetime,
        new_id: Callable[[], str],
        new_number: Callable[[], int],
        states: Mapping[str, Any],
        holders: Mapping[UniqueKey, str | None],
    ) -> None:
        self.tenant = tenant
        self.actor = actor
        self.now = now
        self._new_id = new_id
        self.new_number = new_number
        self.states = states
        self.holders = holders
        self.streams_read: dict[str, None] = {}
        self.unique_keys_read: dict[UniqueKey, None] = {}
        self.drawn: set[str] = set()

    def new_id(self) -> str:
        """Draw a fresh id."""
        drawn = self._new_id()
        self.drawn.add(drawn)
        return drawn

    def stream(self, category: str, entity_id: str) -> str:
        """Return the name of a stream of the command's own tenant; a decision cannot name another's."""
        return stream_of(self.tenant, category, entity_id)

    def state(self, category: str, entity_id: str) -> Any:
        """Return one stream's state, or None when it has no events."""
        stream = stream_of(self.tenant, category, entity_id)
        try:
            state = self.states[stream]
        except KeyError:
            raise NotLoaded(streams=(stream,)) from None
        self.streams_read[stream] = None
        return state

    def all_states(self, category: str, entity_ids: Iterable[str]) -> list[Any]:
        """Return several states at once, so that what is missing is loaded in one round."""
        return self.read([stream_of(self.tenant, category, entity_id) for entity_id in entity_ids])

    def read(self, streams: Sequence[str]) -> list[Any]:
        """Return the states of several streams, by their names."""
        try:
            found = [self.states[stream] for stream in streams]
        except KeyError:
            raise NotLoaded(streams=[stream for stream in streams if stream not in self.states]) from None
        self.streams_read.update(dict.fromkeys(streams))
        return found

    def holder(self, kind: str, key: str) -> str | None:
        """Return who holds a unique key, or None."""
        return self.all_holders(kind, (key,))[0]

    def is_held(self, kind: str) -> bool:
        """Tell whether anybody holds a unique key of this kind."""
        recorded = self.holder(ANYBODY, kind) is not None
        # What the commands before this one take is not recorded yet.
        return recorded or any(unique.kind == kind and holder is not None for unique, holder in self.holders.items())

    def load(self, streams: Iterable[tuple[str, str]] = (), unique_keys: Iterable[UniqueKey] = ()) -> None:
        """Have streams (category, id) and unique keys loaded in one round before they are read; this reads none."""
        names = [stream_of(self.tenant, *stream) for stream in streams]
        streams_missing = [name for name in names if name not in self.states]
        unique_keys_missing = [unique for unique in unique_keys if unique not in self.holders]
        if streams_missing or unique_keys_missing:
            raise NotLoaded(streams_missing, unique_keys_missing)

    def all_holders(self, kind: str, keys: Iterable[str]) -> list[str | None]:
        """Return the holders of several unique keys of one kind."""
        unique_keys = [UniqueKey(kind, key) for key in keys]
        missing = [unique for unique in unique_keys if unique not in self.holders]
        if missing:
            raise NotLoaded(unique_keys=missing)
        self.unique_keys_read.update(dict.fromkeys(unique_keys))
        return [self.holders[unique] for unique in unique_keys]


@dataclass(frozen=True, slots=True)
class Decider:
    """One aggregate: its commands and events by their names on the wire, and the pure functions over them.

    `decide(command, context) -> Decision` may raise `Rejected` or `NotLoaded`. `evolve(state, event) -> state`;
    `reads(command) -> ids` names the streams that the command is sure to look at, the aggregate's own first, so that a
    batch loads them in one query.
    """

    category: str
    commands: Mapping[str, type]
    events: Mapping[str, type]
    decide: Callable[[Any, Context], Decision]
    evolve: Callable[[Any, Any], Any]
    reads: Callable[[Any], Iterable[tuple[str, str]]]


def not_for_retired(decide: Callable[[Any, Context], Decision]) -> Callable[[Any, Context], Decision]:
    """Return the decisions of commands, which refuse a member who was retired."""

    def decided(command: Any, context: Context) -> Decision:
        for stream in actor_stream(context.actor):
            member = context.state(*stream)
            if member is not None and member.retired:
                raise Rejected("forbidden", f"member {context.actor} was retired")
        return decide(command, context)

    return decided


def actor_stream(actor: str) -> tuple[tuple[str, str], ...]:
    """Name the stream that every decision for this actor looks at; the system has none."""
    return () if actor == SYSTEM else (("member", actor),)


def own_id(given: str | None, context: Context) -> str:
    """Return the id that the command brought, or a fresh one."""
    return context.new_id() if given is None else given


# An activity and a task are found by their ids alone, so both draw from one space of ids in a tenant.
_WORK = ("activity", "task")


def demand_free(brought: Mapping[str, str], context: Context) -> None:
    """Refuse `taken` when an id that a creation brings is an activity's or a task's; `brought` has their pointers."""
    states = {category: context.all_states(category, brought) for category in _WORK}
    for index, (entity_id, pointer) in enumerate(brought.items()):
        for category in _WORK:
            if states[category][index] is not None:
                raise Rejected("taken", f"the id {entity_id} is that of another {category}", pointer)


def streams_of_id(given: str | None, category: str) -> Iterable[tuple[str, str]]:
    """Name the streams that `demand_free` looks at for an id that a command may bring, the one of `category` first."""
    if given is None:
        return ()
    return ((category, given), *((other, given) for other in _WORK if other != category))


def instant(text: str, pointer: str) -> datetime:
    """Return the instant that an RFC 3339 text names; the text itself is what is stored and shown."""
    try:
        moment = datetime.fromisoformat(text) if _INSTANT.match(text) else None
        if moment is not None:
            moment.astimezone(UTC)  # a local time of the year 1 may lie before the first instant that readers can hold
    except (ValueError, OverflowError):
        moment = None
    if moment is None:
        raise Rejected("invalid", INSTANT_DETAIL, pointer)
    return moment


def text_of(moment: datetime) -> str:
    """Return an instant of the service's own as text: UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:23] + "Z"


def checked_schedule(start: str | None, end: str | None, pointer: str) -> None:
    """Refuse times that are no times and an end before its start."""
    first = instant(start, f"{pointer}/start") if start is not None else None
    last = instant(end, f"{pointer}/end") if end is not None else None
    if first is not None and last is not None and last < first:
        raise Rejected("end-before-start", "a task cannot end before it starts", f"{pointer}/end")


def changes(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (old, new) of just the keys whose value differs; a wanted None takes a key away."""
    keys = [key for key, value in wanted.items() if not same_json(before.get(key), value)]
    return {key: before.get(key) for key in keys}, {key: wanted[key] for key in keys}


def merged(before: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields after a change; None takes a key away."""
    after = {**before, **new}
    return {key: value for key, value in after.items() if value is not None} if None in after.values() else after
