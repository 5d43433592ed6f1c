"""Rows as JSON: what never changes of a document is encoded once, and cached under the document's own text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from projections.support.time import Seconds, Timed, seconds, stamp

# A resource ends with its periods, which grow while nobody writes.
_NO_PERIODS = b',"working_seconds":0.0,"live_seconds":0.0,"pipeline_seconds":0.0}'
# One that has not been started has just the last of them.
_WAITING = b'%b,"working_seconds":0.0,"live_seconds":0.0,"pipeline_seconds":%.3f%b'
_MAX_CACHED = 2048
# Longer documents are not cached, which bounds the memory.
_MAX_LENGTH = 4096
_encode = msgspec.json.Encoder().encode

# The kinds of a reader, for a resource with these assignees in this project.
Kinds = Callable[[Sequence[str], str | None], tuple[str, ...]]
Work = Sequence[tuple[float, str | None]]


class _Prepared(NamedTuple):
    """A resource without its actions, and without its periods unless it has ended."""

    head: bytes
    ended: bool
    facts: tuple[Any, ...]
    assignees: Sequence[str]
    project: str | None
    timed: Timed
    created_ms: int
    work: Work
    mark: str


class Renderer:
    """Renders the rows of one read model, each with the commands that its reader may send.

    `shown` is the type of a document, `work` returns its periods of work, and `facts` what its actions depend on.
    `actions(kinds, *facts)` returns the commands.
    """

    def __init__(
        self,
        shown: type[msgspec.Struct],
        work: Callable[[Any], Work],
        facts: Callable[[Any], tuple[Any, ...]],
        actions: Callable[..., Sequence[str]],
    ) -> None:
        decode = msgspec.json.Decoder(shown).decode

        def prepare(doc: str) -> _Prepared:
            return _prepared(decode(doc), work, facts)

        # Of the longer ones, which are not kept, the last one is: it is asked for its mark, too.
        self._prepare, self._cached = lru_cache(1)(prepare), lru_cache(_MAX_CACHED)(prepare)
        self._tail = lru_cache(1024)(lambda kinds, *found: b',"allowed_actions":%b}' % _encode(actions(kinds, *found)))

    def __call__(self, rows: Sequence[Sequence[Any]], now: datetime, kinds: Kinds) -> list[bytes]:
        """Return each row's resource."""
        at = stamp(now)
        now_ms = _milliseconds(at)
        cached, prepare, tail_of = self._cached, self._prepare, self._tail
        resources: list[bytes] = []
        # One loop without calls between: fifty rows of a page cost as much as their query.
        for row in rows:
            doc: str = row[0]
            head, ended, facts, assignees, project, timed, created_ms, work, _ = (
                cached(doc) if len(doc) <= _MAX_LENGTH else prepare(doc)
            )
            tail = tail_of(kinds(assignees, project), *facts)
            if ended:
                resources.append(head + tail)
            elif timed.started_at is None:
                resources.append(_WAITING % (head, max(0, now_ms - created_ms) / 1000, tail))
            else:
                resources.append(head + _periods(seconds(timed, work, at)) + tail)
        return resources

    def mark(self, row: Sequence[Any]) -> str:
        """Return the version and the position of a row's resource."""
        doc: str = row[0]
        return (self._cached(doc) if len(doc) <= _MAX_LENGTH else self._prepare(doc)).mark


def _prepared(shown: Any, work_of: Callable[[Any], Work], facts_of: Callable[[Any], tuple[Any, ...]]) -> _Prepared:
    whole, work = _encode(shown), work_of(shown)
    if not whole.endswith(_NO_PERIODS):
        raise ValueError("a resource does not end with its periods")
    head = whole[: -len(_NO_PERIODS)]
    if shown.ended_at is not None:
        head += _periods(seconds(shown, work, shown.ended_at))
    ended, created_ms = shown.ended_at is not None, _milliseconds(shown.created_at)
    mark = f"{shown.version}.{shown.position}"
    return _Prepared(head, ended, facts_of(shown), shown.assignees, shown.project, shown, created_ms, work, mark)


def _periods(periods: Seconds) -> bytes:
    return b',"working_seconds":%.3f,"live_seconds":%.3f,"pipeline_seconds":%.3f' % periods


def _milliseconds(at: str) -> int:
    return round(datetime.fromisoformat(at).timestamp() * 1000)
