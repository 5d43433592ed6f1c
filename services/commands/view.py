"""The streams and unique keys that the decisions of a batch read: the committed state, changed by earlier commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from domain import DECIDER_OF_CATEGORY
from domain.decider import UniqueKey
from domain.streams import split_stream
from projections.support.weight import weight
from services.commands.memory import Memory
from services.commands.outcome import IDEMPOTENCY, Outcome, newer_version
from services.commands.wire import Incoming
from services.store import codec
from services.store.append import Append, ConcurrencyConflict, TenantUniqueKey
from services.store.event_store import EventStore

_NOTHING: tuple[int, Any] = (0, None)


class _Known(dict[Any, Any]):
    """What is known by now; what is only in the cache is found too, and is then known."""

    __slots__ = ("_recall",)

    def __init__(self, recall: Callable[[Any], bool]) -> None:
        super().__init__()
        self._recall = recall

    def __missing__(self, key: Any) -> Any:
        if self._recall(key):
            return dict.__getitem__(self, key)
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return dict.__contains__(self, key) or self._recall(key)


class View:
    """Streams and unique keys of one batch; the memory that outlives it is changed only when the batch is recorded."""

    def __init__(self, store: EventStore, streams: Memory, holders: Memory) -> None:
        self._store = store
        self._streams = streams
        self._holders = holders
        self._committed: dict[str, tuple[int, Any]] = {}
        # Those that were not in the cache.
        self._loaded: set[str] = set()
        self.held: dict[TenantUniqueKey, str | None] = {}
        # Streams that this version cannot read: commands on them are refused without a record, and may be sent again.
        self.newer: dict[str, codec.NewerStream] = {}
        # The committed state, changed by the commands so far.
        self.states: dict[str, Any] = _Known(self._recall_stream)
        self.versions: dict[str, int] = {}
        self._unique_keys: dict[str, dict[UniqueKey, str | None]] = {}

    def load(self, streams: Iterable[str], unique_keys: Iterable[tuple[str, UniqueKey]]) -> None:
        """Read what is neither here nor cached, by one query for streams and one for unique keys."""
        missing = [each for each in streams if each not in self.newer and not self._recall_stream(each)]
        if missing:
            for stream, found in self._store.load(missing).items():
                if isinstance(found[1], codec.NewerStream):
                    self.newer[stream] = found[1]
                else:
                    self._learn(stream, found)
                    self._loaded.add(stream)
        unknown = [(tenant, unique) for tenant, unique in unique_keys if not self._recall_holder(tenant, unique)]
        if unknown:
            for key, holder in self._store.holders(unknown).items():
                self._hold(key, holder)

    def unreadable(self, command: Incoming, streams: Iterable[str]) -> Outcome | None:
        """Return the refusal of a command that needs one of these streams, if this version cannot read it."""
        stream = next((each for each in streams if each in self.newer), None)
        return None if stream is None else newer_version(command, stream, self.newer[stream])

    def unique_keys_of(self, tenant: str) -> dict[UniqueKey, str | None]:
        """Return the holders of a tenant's unique keys."""
        known = self._unique_keys.get(tenant)
        if known is None:
            known = self._unique_keys[tenant] = _Known(lambda unique: self._recall_holder(tenant, unique))
        return known

    def _recall_stream(self, stream: str) -> bool:
        """Tell whether a stream's committed state is here or cached."""
        if stream in self._committed:
            return True
        found = self._streams.get(stream)
        if found is not None:
            self._learn(stream, found)
        return found is not None

    def _recall_holder(self, tenant: str, unique: UniqueKey) -> bool:
        key = (tenant, *unique)
        if key in self.held:
            return True
        found = self._holders.get(key)
        if found is not None:
            self._hold(key, found[0])
        return found is not None

    def _learn(self, stream: str, found: tuple[int, Any]) -> None:
        self._committed[stream] = found
        self.versions[stream], self.states[stream] = found

    def _hold(self, key: TenantUniqueKey, holder: str | None) -> None:
        self.held[key] = holder
        self.unique_keys_of(key[0])[UniqueKey(key[1], key[2])] = holder

    def apply(self, outcome: Outcome) -> None:
        """Apply an outcome, so that the commands that follow see it."""
        for event in outcome.events:
            stream = event.stream
            self.versions[stream] = event.version
            if stream not in outcome.states:
                decider = DECIDER_OF_CATEGORY[split_stream(stream)[1]]
                self.states[stream] = decider.evolve(self.states.get(stream), event.event)
        self.states.update(outcome.states)
        if outcome.unique_keys:
            self.unique_keys_of(outcome.incoming.tenant).update(outcome.unique_keys)

    def compare(self, outcome: Outcome, append: Append) -> None:
        """Add the committed versions and holders that a decision is based on to the append."""
        for stream in outcome.streams_read:
            # A stream that was never loaded was created by an earlier command: nothing of it is committed.
            append.streams_read[stream] = self._committed.get(stream, _NOTHING)[0]
        for unique in outcome.unique_keys_read:
            key = (outcome.incoming.tenant, *unique)
            # A unique key that was never loaded was left by an earlier command, and what that one read is compared.
            if key in self.held:
                append.unique_keys_read[key] = self.held[key]

    def reload(self, moved: ConcurrencyConflict) -> None:
        """Reset to the committed state, and read again what has changed."""
        self._streams.drop(moved.streams)
        self._holders.drop(moved.unique_keys)
        self._loaded -= moved.streams
        for stream in moved.streams:
            self._committed.pop(stream, None)
        for key in moved.unique_keys:
            self.held.pop(key, None)
        self.states.clear()
        self.versions.clear()
        self._unique_keys.clear()
        for stream, found in self._committed.items():
            self._learn(stream, found)
        for key, holder in self.held.items():
            self._hold(key, holder)
        self.load(moved.streams, [(key[0], UniqueKey(key[1], key[2])) for key in moved.unique_keys])

    def remember(self, outcomes: Sequence[Outcome]) -> None:
        """Cache what is committed now."""
        streams, holders = self._streams, self._holders
        grown: dict[str, int | None] = dict.fromkeys(self._loaded)
        for outcome in outcomes:
            for event in outcome.events:
                more = grown.get(event.stream, 0)
                grown[event.stream] = None if more is None else more + weight(event.state)
        for stream, more in grown.items():
            streams.put(stream, (self.versions[stream], self.states[stream]), more)
        for tenant, unique_keys in self._unique_keys.items():
            for unique, holder in unique_keys.items():
                # An idempotency key's holder contains positions that only the store knows; it is read on the next use.
                if unique.kind != IDEMPOTENCY:
                    holders.put((tenant, *unique), (holder,))
