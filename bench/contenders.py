"""The two contenders, measured in the same way: how each is prepared, run, watched and checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from bench import load
from bench.naive import names
from bench.naive.view import runner
from bench.processes import Failed, free_port, listening
from bench.wire import Wire
from services.broker import topology
from services.broker.names import COMMAND_EXCHANGE, COMMAND_QUEUE, DEAD_QUEUE, EVENT_EXCHANGE
from services.store.migrate import upgrade

Connection = psycopg.Connection[Any]
Commands = Mapping[str, Sequence[str]]
PUBLISHED_QUEUE = "bench.published"


class Contender(ABC):
    """One way to do the work. SQL constants give one number: how far the log, and how far the read model, is."""

    name: str
    exchange: str
    key: str | None = None
    events_exchange: str
    queue: str
    # Events in all of an activity, those that follow from the commands' own included.
    events: int
    COMMITTED: str
    VISIBLE: str
    # How many of the commands' own events lie up to a position.
    UP_TO: str

    @abstractmethod
    def prepare(self, database_url: str) -> None:
        """Make the tables."""

    @abstractmethod
    def declare(self, wire: Wire) -> None:
        """Declare exchanges and queues."""

    @abstractmethod
    def environment(self, database_url: str, amqp_url: str) -> dict[str, str]:
        """Return what its processes are configured by."""

    @abstractmethod
    def worker(self) -> Commands:
        """Return the process that takes commands."""

    @abstractmethod
    def others(self) -> Commands:
        """Return every other process."""

    @abstractmethod
    def ready(self, conn: Connection) -> bool:
        """Tell whether the processes other than the worker have connected."""

    @abstractmethod
    def positions(self, conn: Connection, after: int) -> dict[tuple[str, int], int]:
        """Return the positions of the commands' own events behind a position, by entity and version."""

    @abstractmethod
    def settled(self, conn: Connection) -> bool:
        """Tell whether every process has done its part of what is in the log."""

    @abstractmethod
    def demand_right(self, conn: Connection, wire: Wire, activities: int, whole: bool) -> int:
        """Raise `Failed` unless all is as it must be, and return the events stored; `whole`: every role has run."""

    def opening(self) -> list[bytes]:
        """Return what is sent before the load of a fresh system."""
        return []

    def messages(self, block: int, count: int, window: int = load.WINDOW) -> list[bytes]:
        """Return the load's messages, encoded."""
        return [command.message(self.exchange, self.key) for command in load.commands(block, count, window)]

    def empty(self, wire: Wire) -> None:
        """Remove what a run has left in the broker."""
        for queue in (self.queue, PUBLISHED_QUEUE):
            wire.delete_queue(queue)


class Ours(Contender):
    """Foldwork as it is delivered: a process a role, default settings."""

    name = "Foldwork"
    exchange, events_exchange, queue = COMMAND_EXCHANGE, EVENT_EXCHANGE, COMMAND_QUEUE
    events = load.EVENTS + load.CHANGES
    COMMITTED = "SELECT coalesce(max(notification_id), 0) FROM stored_events"
    VISIBLE = "SELECT position FROM followers WHERE name LIKE 'activities\\_%'"
    UP_TO = "SELECT count(*) FROM stored_events WHERE notification_id <= %s AND topic <> 'activity.status-changed'"
    _ROLES = ("projections", "relay", "policies", "http")
    # A connection for all read models, and one for the relay.
    _FOLLOWERS = 2

    def __init__(self) -> None:
        self.http_port = free_port()

    def prepare(self, database_url: str) -> None:
        upgrade(database_url)

    def declare(self, wire: Wire) -> None:
        wire.declare_exchange(COMMAND_EXCHANGE)
        wire.declare_exchange(EVENT_EXCHANGE)
        wire.declare_queue(COMMAND_QUEUE, dict(topology.QUEUE_ARGUMENTS))
        wire.bind(COMMAND_QUEUE, COMMAND_EXCHANGE)

    def environment(self, database_url: str, amqp_url: str) -> dict[str, str]:
        return {
            "FOLDWORK_DATABASE_URL": database_url,
            "FOLDWORK_AMQP_URL": amqp_url,
            "FOLDWORK_HTTP_PORT": str(self.http_port),
        }

    def role(self, *arguments: str) -> Sequence[str]:
        """Return the command line of a role."""
        return ("-c", "from services.cli import main; main()", *arguments)

    def worker(self) -> Commands:
        return {"commands": self.role("commands")}

    def others(self) -> Commands:
        return {role: self.role(role) for role in self._ROLES}

    def ready(self, conn: Connection) -> bool:
        return _connections(conn, "foldwork-follower-%") >= self._FOLLOWERS and listening(self.http_port)

    def positions(self, conn: Connection, after: int) -> dict[tuple[str, int], int]:
        rows = conn.execute(
            "SELECT originator_id, originator_version, notification_id FROM stored_events"
            " WHERE notification_id > %s AND topic <> 'activity.status-changed'",
            (after,),
        )
        return {(stream.partition("/")[2].partition("-")[2], version): at for stream, version, at in rows}

    def settled(self, conn: Connection) -> bool:
        row = conn.execute(
            "SELECT min(position) = (SELECT max(notification_id) FROM stored_events) FROM followers"
        ).fetchone()
        return row is not None and bool(row[0])

    def demand_right(self, conn: Connection, wire: Wire, activities: int, whole: bool) -> int:
        expected = _expected(["activity.created", "task.created", "task.started", "task.completed"], activities)
        expected["activity.status-changed"] = load.CHANGES * activities
        found = dict(conn.execute("SELECT topic, count(*) FROM stored_events GROUP BY topic").fetchall())
        stored = sum(found.values())
        found.pop("workflow.defined", None)
        _demand(found == expected, f"events are {found}, not {expected}")
        _demand(_number(conn, self.COMMITTED) == stored, "positions have gaps")
        _demand_gapless(conn, "stored_events")
        answered = _number(conn, "SELECT count(*) FROM ledger WHERE code IS NULL")
        _demand(answered == load.COMMANDS * activities + 1, f"the ledger has {answered} accepted commands")
        letters = (wire.count(DEAD_QUEUE) or 0) + _number(conn, "SELECT count(*) FROM dead_letters")
        _demand(letters == 0, f"there are {letters} dead letters")
        if whole:
            done = _number(conn, "SELECT count(*) FROM activities WHERE status = 'completed'")
            _demand(done == activities, f"{done} of {activities} activities are completed")
            tasks = _number(conn, "SELECT count(*) FROM tasks WHERE status = 'completed'")
            _demand(tasks == load.TASKS * activities, f"{tasks} tasks are completed")
            _demand(_number(conn, "SELECT count(*) FROM history") == stored, "the history is not the log")
            halted = _number(conn, "SELECT count(*) FROM followers WHERE halted_at IS NOT NULL")
            _demand(halted == 0, f"{halted} followers are halted")
            held = _number(conn, "SELECT count(*) FROM held_entities")
            _demand(held == 0, f"{held} entities are held back")
        return int(stored)

    def opening(self) -> list[bytes]:
        return [load.workflow().message(self.exchange)]


class Naive(Contender):
    """FastStream and eventsourcing as their documentation shows them."""

    name = "naive"
    exchange, key, events_exchange, queue = "", names.COMMAND_QUEUE, names.EVENT_EXCHANGE, names.COMMAND_QUEUE
    events = load.EVENTS
    COMMITTED = "SELECT coalesce(max(notification_id), 0) FROM work_events"
    VISIBLE = "SELECT coalesce(max(notification_id), 0) FROM activities_tracking WHERE application_name = 'work'"
    UP_TO = "SELECT count(*) FROM work_events WHERE notification_id <= %s"

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        if silent:
            self.name = "naive, publishing nothing"

    def prepare(self, database_url: str) -> None:
        with runner({**names.environment(database_url, "")}):
            pass

    def declare(self, wire: Wire) -> None:
        wire.declare_exchange(names.EVENT_EXCHANGE)
        wire.declare_queue(names.COMMAND_QUEUE)

    def environment(self, database_url: str, amqp_url: str) -> dict[str, str]:
        return names.environment(database_url, amqp_url, silent=self._silent)

    def worker(self) -> Commands:
        return {"handlers": ("-m", "bench.naive.handlers")}

    def others(self) -> Commands:
        return {"view": ("-m", "bench.naive.view")}

    def ready(self, conn: Connection) -> bool:
        # Its connections have no names of their own; the view's process listens, with one more to read and write.
        return _number(conn, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()") >= 3

    def positions(self, conn: Connection, after: int) -> dict[tuple[str, int], int]:
        rows = conn.execute(
            "SELECT originator_id, originator_version, notification_id FROM work_events WHERE notification_id > %s",
            (after,),
        )
        return {(str(entity), version): at for entity, version, at in rows}

    def settled(self, conn: Connection) -> bool:
        return _number(conn, self.VISIBLE) == _number(conn, self.COMMITTED)

    def demand_right(self, conn: Connection, wire: Wire, activities: int, whole: bool) -> int:
        kinds = [f"bench.naive.domain:{kind}" for kind in ("Activity.Created", "Task.Created")]
        kinds += [f"bench.naive.domain:{kind}" for kind in ("Task.Started", "Task.Completed")]
        expected = _expected(kinds, activities)
        found = dict(conn.execute("SELECT topic, count(*) FROM work_events GROUP BY topic").fetchall())
        _demand(found == expected, f"events are {found}, not {expected}")
        _demand_gapless(conn, "work_events")
        if whole:
            done = _number(conn, "SELECT count(*) FROM activities WHERE status = 'completed'")
            _demand(done == activities, f"{done} of {activities} activities are completed")
        return sum(found.values())


def _expected(kinds: Sequence[str], activities: int) -> dict[str, int]:
    """Return how often each kind of event must be there; the first is the activities' own."""
    return {kind: activities if kind == kinds[0] else load.TASKS * activities for kind in kinds}


def _demand(right: bool, otherwise: str) -> None:
    if not right:
        raise Failed(otherwise)


def _number(conn: Connection, query: str) -> int:
    row = conn.execute(query.encode()).fetchone()
    return int(row[0]) if row is not None else 0


def _connections(conn: Connection, like: str) -> int:
    row = conn.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE %s", (like,)
    ).fetchone()
    return int(row[0]) if row is not None else 0


def _demand_gapless(conn: Connection, table: str) -> None:
    torn = _number(
        conn,
        "SELECT count(*) FROM (SELECT 1 FROM " + table + " GROUP BY originator_id"
        " HAVING min(originator_version) <> 1 OR max(originator_version) <> count(*)) AS torn",
    )
    _demand(torn == 0, f"{torn} streams have gaps in their versions")
