"""Does the rebuilds that are asked for over HTTP, one at a time, in the role `projections`.

The rebuild has a thread and connections of its own; the worker's own thread notes how far it is. Another process goes
on with the rebuild of one that has gone: where it was, or from the beginning if it is compared.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
import structlog

from projections import READ_MODELS
from projections.support.comparison import Difference
from services.errors import OperatorError
from services.processors import rebuild
from services.processors.compared import rebuild_compared, shown
from services.processors.rebuild import RebuildHalted, RebuildRunning
from services.store import rebuilds, standing
from services.store.connect import connect
from services.store.failures import passes
from services.store.listener import Listener
from services.store.operations import Operation, acting_for_long
from services.store.rebuilds import Rebuild

# Differences that are kept as examples, and characters of a value in them.
EXAMPLES, _VALUE = 20, 1000
# Seconds between two notes of how far a rebuild is, and for which a stop waits for one.
_NOTED, _LAST = 1.0, 5.0


@dataclass(slots=True)
class _Work:
    """A rebuild that is under way in a thread: how far it is, and what became of it."""

    asked: Rebuild
    url: str
    stopped: threading.Event
    thread: threading.Thread | None = None
    progress: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    # Whether it is left to whoever takes it next.
    left: bool = False
    examples: list[dict[str, Any]] = field(default_factory=list)

    def do(self) -> None:
        """Rebuild, and say what became of it."""
        asked = self.asked
        operation = Operation(
            None, asked.actor, "read-model.rebuild", f"read-model/{asked.name}", key_id=asked.key_id,
            details={"diff": asked.diff, "asked_by": asked.tenant},
        )  # fmt: skip
        try:
            with acting_for_long(self.url, operation) as act:
                found = self._compare() if asked.diff else self._rebuild()
                if found is None:
                    raise _Stopped("the process stops")
                of_name = (row for row in standing.status(self.url) if row.name == asked.name and row.serving)
                self.result = {**found, "held_back": sum(len(row.held) for row in of_name)}
                act.details |= {name: self.result[name] for name in ("switched", "held_back")}
        except (_Stopped, RebuildRunning):
            self.left = True
        except RebuildHalted as error:
            # The error itself names an entity, which may be another tenant's.
            self.error = f"an event could not be applied, at position {error.position}; the tables serve as before"
        except OperatorError as error:
            self.error = str(error)
        except Exception as error:
            structlog.get_logger("rebuilder").exception("a rebuild failed", read_model=asked.name)
            self.left = passes(error)
            self.error = f"it failed inside: {type(error).__name__}"

    def _rebuild(self) -> dict[str, Any] | None:
        switched = rebuild.rebuild(self.url, self.asked.name, self._filled, stopped=self.stopped.is_set)
        if self.stopped.is_set() and not switched:
            return None
        return {"switched": switched, "position": None, "tables": {}}

    def _compare(self) -> dict[str, Any] | None:
        found = rebuild_compared(
            self.url, self.asked.name, self._take, progress=self._filled, comparing=self._compared,
            stopped=self.stopped.is_set,
        )  # fmt: skip
        if found is None:
            return None
        return {"switched": found.switched, "position": found.position, "tables": found.counts()}

    def _take(self, found: Difference) -> None:
        if found.tenant == self.asked.tenant and len(self.examples) < EXAMPLES:
            difference = shown(found)
            columns = {
                name: {which: _short(value) for which, value in values.items()}
                for name, values in difference["columns"].items()
            }
            self.examples.append({**difference, "columns": columns})

    def _filled(self, position: int, head: int, *_: float) -> None:
        self.progress = _progress("filling", self.asked.name, position, head)

    def _compared(self, table: str, done: int, rows: int) -> None:
        self.progress = _progress("comparing", table, done, rows)


class _Stopped(Exception):
    """The process stops."""


def _progress(phase: str, what: str, done: int, total: int) -> dict[str, Any]:
    return {"phase": phase, "what": what, "done": done, "total": total}


def _short(value: Any) -> Any:
    """Return a value of JSON, or the beginning of a long one as text."""
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= _VALUE else f"{text[: _VALUE - 1]}…"


class Rebuilder(Listener):
    """Takes what is asked for, and notes what becomes of it."""

    def __init__(self, *, poll: float = rebuilds.LATER) -> None:
        super().__init__("rebuilder", "rebuilder", rebuilds.CHANNEL, structlog.get_logger("rebuilder"))
        self._poll = poll
        self._url = ""
        self._work: _Work | None = None

    def run(self, database_url: str, statement_timeout: float = 30.0) -> None:
        self._url = database_url
        super().run(database_url, statement_timeout)
        work = self._work
        if work is not None and work.thread is not None:
            work.thread.join(_LAST)
            # Without a database the rebuild is taken by another when its lease ends.
            with suppress(psycopg.Error), connect(database_url, "rebuilder", autocommit=True) as conn:
                self._note(conn, work, stopped=True)

    def begin(self, conn: psycopg.Connection[Any]) -> None:
        """Drop what rebuilds have left; in this thread, since it would delay that of the read models."""
        for model in READ_MODELS:
            rebuild.sweep(conn, model)

    def turn(self, conn: psycopg.Connection[Any]) -> float:
        """Begin a rebuild, or note how far the one under way is."""
        if self._work is None:
            asked = rebuilds.take(conn)
            if asked is None:
                return self._poll
            self._work = _Work(asked, self._url, self.stopped)
            self._work.thread = threading.Thread(target=self._work.do, name="rebuild", daemon=True)
            self._work.thread.start()
        self._note(conn, self._work)
        return _NOTED if self._work is not None else 0.0

    def pause(self, conn: psycopg.Connection[Any], seconds: float) -> None:
        self.notified(conn, seconds)

    def _note(self, conn: psycopg.Connection[Any], work: _Work, *, stopped: bool = False) -> None:
        """Note how far a rebuild is, or what became of it."""
        alive = work.thread is not None and work.thread.is_alive()
        if work.left or (alive and stopped):
            rebuilds.put_off(conn, work.asked, 0.0 if stopped else rebuilds.LATER)
        elif alive:
            rebuilds.note(conn, work.asked, work.progress)
            return
        else:
            rebuilds.end(conn, work.asked, work.result, work.examples, work.error)
        self._work = None
