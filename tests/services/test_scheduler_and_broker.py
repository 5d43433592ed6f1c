"""The scheduler while it waits for the broker: no transaction is open, and whatever happens meanwhile is respected."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from services.broker.sender import Outgoing
from services.processors.scheduler import REST, Scheduler
from tests.eventually import PATIENCE, eventually
from tests.services.test_scheduler import add, of

Connection = psycopg.Connection[Any]


class Stalled:
    """A broker that takes the commands, and confirms nothing until `confirm`."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.took, self.confirm = threading.Event(), threading.Event()

    def __call__(self, commands: Sequence[Outgoing]) -> None:
        self.sent.extend(commands)
        self.took.set()
        assert self.confirm.wait(PATIENCE)


@contextmanager
def waiting(url: str, options: str = "") -> Iterator[tuple[Stalled, Connection]]:
    """A scheduler that waits for the confirms of its round, and its connection."""
    broker = Stalled()
    with psycopg.connect(url, autocommit=True, options=options) as session:
        errors: list[BaseException] = []

        def work() -> None:
            try:
                Scheduler(broker).turn(session)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert broker.took.wait(PATIENCE)
            yield broker, session
        finally:
            broker.confirm.set()
            thread.join(PATIENCE)
    assert [type(error) for error in errors] in ([], [psycopg.errors.IdleSessionTimeout], [psycopg.OperationalError])


def test_no_transaction_is_open_and_no_row_is_locked(migrated_url: str, conn: Connection) -> None:
    add(conn, "acme", 3)
    with waiting(migrated_url) as (_, session):
        state = "SELECT state, xact_start FROM pg_stat_activity WHERE pid = %s"
        eventually(lambda: conn.execute(state, (session.info.backend_pid,)).fetchall() == [("idle", None)])
        # The read model deletes the row of a task that has ended.
        conn.execute("SET lock_timeout = '1s'")
        conn.execute("DELETE FROM deadlines WHERE task_id = 't1'")
    assert conn.execute("SELECT task_id, sends FROM deadlines ORDER BY 1").fetchall() == [("t2", 1), ("t3", 1)]


def test_a_deadline_that_became_another_one_meanwhile_is_not_marked(migrated_url: str, conn: Connection) -> None:
    add(conn, "acme", 2)
    with waiting(migrated_url) as (broker, _):
        # The task has another end, which has passed as well.
        conn.execute("UPDATE deadlines SET position = 99 WHERE task_id = 't1'")
    assert len(broker.sent) == 2
    assert conn.execute("SELECT task_id, sends FROM deadlines ORDER BY 1").fetchall() == [("t1", 0), ("t2", 1)]


def test_what_one_sends_no_other_sends_as_long_as_it_lives(migrated_url: str, conn: Connection) -> None:
    add(conn, "acme", 2)
    other: list[Outgoing] = []
    with waiting(migrated_url):
        scheduler = Scheduler(other.extend)
        assert scheduler.turn(conn) != REST
        add(conn, "zzz")
        assert scheduler.turn(conn) == REST
        assert of(other) == {"zzz": 1}
    # And its session takes part in nothing afterwards.
    conn.execute("UPDATE deadlines SET wake_at = now()")
    assert scheduler.turn(conn) == REST
    assert of(other) == {"acme": 2, "zzz": 2}


def test_what_a_frozen_one_has_taken_another_sends_under_the_same_ids(migrated_url: str, conn: Connection) -> None:
    add(conn, "acme", 2)
    other: list[Outgoing] = []
    scheduler = Scheduler(other.extend)
    with waiting(migrated_url, "-c idle_in_transaction_session_timeout=300") as (broker, _):
        eventually(lambda: scheduler.turn(conn) == REST)
    assert other == broker.sent
    assert conn.execute("SELECT DISTINCT sends FROM deadlines").fetchall() == [(1,)]


def test_a_session_that_has_sent_may_be_idle(migrated_url: str, conn: Connection) -> None:
    add(conn, "acme")
    with psycopg.connect(
        migrated_url, autocommit=True, options="-c idle_in_transaction_session_timeout=300"
    ) as session:
        assert Scheduler(lambda _: None).turn(session) == REST
        assert session.execute("SHOW idle_session_timeout").fetchone() == ("0",)
    assert conn.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 4012003"
    ).fetchone() == (0,)
