"""The streams and unique keys that the decisions of a batch read: the committed state, changed by earlier commands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from domain import DECIDER_OF_CATEGORY
from domain.decider import UniqueKey
from domain.streams import split_stream
from services.commands.memory import Memory
from services.commands.outcome import IDEMPOTENCY, Outcome
from services.store import codec
from services.store.append import Append, ConcurrencyConflict, TenantUniqueKey
from services.store.event_store import EventStore

_NOTHING: tuple[int, Any] = (0, None)


class View:
    """Streams and unique keys of one batch; the memory that outlives it is changed only when the batch is recorded."""

    def __init__(self, store: EventStore, streams: Memory, holders: Memory) -> None:
        self._store = store
        self._streams = streams
        self._holders = holders
        self._committed: dict[str, tuple[int, Any]] = {}
        self.held: dict[TenantUniqueKey, str | None] = {}
        # Streams that this version cannot read: commands on them are refused without a record, and may be sent again.
        self.newer: dict[str, codec.NewerStream] = {}
        # The committed state, changed by the commands so far.
        self.states: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.unique_keys: dict[str, dict[UniqueKey, str | None]] = {}

    def load(self, streams: Iterable[str], unique_keys: Iterable[tuple[str, UniqueKey]]) -> None:
        """Read what is neither here nor cached, by one query for streams and one for unique keys."""
        missing = []
        for stream in streams:
            if stream not in self._committed and stream not in self.newer:
                found = self._streams.get(stream)
                if found is None:
                    missing.append(stream)
                else:
                    self._learn(stream, found)
        if missing:
            for stream, found in self._store.load(missing).items():
                if isinstance(found[1], codec.NewerStream):
                    self.newer[stream] = found[1]
                else:
                    self._learn(stream, found)
        unknown = []
        for tenant, unique in unique_keys:
            key = (tenant, *unique)
            if key not in self.held:
                held = self._holders.get(key)
                if held is None:
                    unknown.append((tenant, unique))
                else:
                    self._hold(key, held[0])
        if unknown:
            for key, holder in self._store.holders(unknown).items():
                self._hold(key, holder)

    def remembered(self, streams: Iterable[str], unique_keys: Iterable[tuple[str, UniqueKey]]) -> bool:
        """Tell whether all of these are cached, so that no query is needed."""
        return all(self._streams.get(stream) is not None for stream in streams) and all(
            self._holders.get((tenant, *unique)) is not None for tenant, unique in unique_keys
        )

    def _learn(self, stream: str, found: tuple[int, Any]) -> None:
        self._committed[stream] = found
        self.versions[stream], self.states[stream] = found

    def _hold(self, key: TenantUniqueKey, holder: str | None) -> None:
        self.held[key] = holder
        self.unique_keys.setdefault(key[0], {})[UniqueKey(key[1], key[2])] = holder

    def apply(self, outcome: Outcome) -> None:
        """Apply an outcome, so that the commands that follow see it."""
        for event in outcome.events:
            stream = event.stream
            decider = DECIDER_OF_CATEGORY[split_stream(stream)[1]]
            self.states[stream] = decider.evolve(self.states.get(stream), event.event)
            self.versions[stream] = event.version
        if outcome.unique_keys:
            self.unique_keys.setdefault(outcome.incoming.tenant, {}).update(outcome.unique_keys)

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
        for stream in moved.streams:
            self._committed.pop(stream, None)
        for key in moved.unique_keys:
            self.held.pop(key, None)
        self.states.clear()
        self.versions.clear()
        self.unique_keys.clear()
        for stream, found in self._committed.items():
            self._learn(stream, found)
        for key, holder in self.held.items():
            self._hold(key, holder)
        self.load(moved.streams, [(key[0], UniqueKey(key[1], key[2])) for key in moved.unique_keys])

    def remember(self, outcomes: Sequence[Outcome]) -> None:
        """Cache what is committed now."""
        streams, holders = self._streams, self._holders
        for stream in self._committed:
            streams.put(stream, (self.versions[stream], self.states[stream]))
        for outcome in outcomes:
            for event in outcome.events:
                stream = event.stream
                streams.put(stream, (self.versions[stream], self.states[stream]))
        for tenant, unique_keys in self.unique_keys.items():
            for unique, holder in unique_keys.items():
                # An idempotency key's holder contains positions that only the store knows; it is read on the next use.
                if unique.kind != IDEMPOTENCY:
                    holders.put((tenant, *unique), (holder,))
