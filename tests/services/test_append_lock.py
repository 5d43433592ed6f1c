"""The lock under which everybody appends: who holds it and does nothing loses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from domain.decider import UniqueKey
from services.broker.publisher import Publisher
from services.processors.relay import relay_handle
from services.store.append import Append, LedgerRow, append_in
from services.store.connect import IDLE_SHARE, Session, connect
from services.store.diagnosis import explain
from services.store.event_store import EventStore
from services.store.follower import Follower
from services.store.unavailable import StoreUnavailable
from tests.eventually import PATIENCE, eventually
from tests.services.following import NAME, add, following, noting, seen, state
from tests.services.harness import TENANT, rows, settings
from tests.services.test_event_store import event


@pytest.mark.parametrize("how", ["in a transaction", "alone"])
def test_who_holds_the_lock_and_does_nothing_loses_it(migrated_url: str, how: str) -> None:
    """As a process that is frozen, or whose host is lost, does; when it wakes up, what it sends is refused."""
    store, other = EventStore(migrated_url, statement_timeout=1.0), EventStore(migrated_url)
    try:
        if how == "alone":
            with store.alone():
                other.append(Append(events=[event("a")]))
                with pytest.raises(StoreUnavailable) as raised:
                    store.append(Append(events=[event("b")]))
            assert raised.value.outage
        else:
            with connect(migrated_url, "commands", 1.0) as late:
                append_in(late, [event("b")])
                other.append(Append(events=[event("a")]))
                with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout) as ended:
                    late.commit()
                assert "idle in a transaction" in explain(ended.value)
        assert [row[0] for row in rows(migrated_url, "SELECT originator_id FROM stored_events")] == ["acme/task-a"]
        # The session that was ended is replaced.
        eventually(lambda: appended(store, "c"))
        with store.alone():
            store.append(Append(events=[event("d")]))
        assert store.fetch("SELECT current_setting('idle_session_timeout')", ())[0][0] == "0"
    finally:
        store.close()
        other.close()


def appended(store: EventStore, name: str) -> bool:
    try:
        store.append(Append(events=[event(name)]))
    except StoreUnavailable:
        return False
    return True


def test_the_others_are_at_work_again_within_half_a_minute(migrated_url: str) -> None:
    timeout = settings(migrated_url, "amqp://localhost").statement_timeout
    with connect(migrated_url, "test", timeout) as conn:
        shown = {
            name: conn.execute("SELECT current_setting(%s)::interval <= interval '20 s'", (name,)).fetchone()
            for name in ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")
        }
        assert shown == dict.fromkeys(shown, (True,))
        assert conn.answer_within is not None
        assert conn.answer_within <= 25
    # They wait for a lock longer than its holder may be idle, and so get it at the first attempt.
    assert IDLE_SHARE < 0.9


@pytest.mark.usefixtures("seen_table")
@pytest.mark.parametrize("act_outside", [False, True])
def test_a_frozen_follower_is_replaced_and_writes_nothing_when_it_wakes(migrated_url: str, act_outside: bool) -> None:
    frozen, woken = threading.Event(), threading.Event()
    note = noting("late")

    def freeze(conn: psycopg.Connection[Any], batch: Sequence[Any]) -> None:
        note(conn, batch)
        if not frozen.is_set():
            frozen.set()
            assert woken.wait(PATIENCE)

    late = Follower(NAME, freeze, poll=0.05, act_outside=act_outside)
    standby = Follower(NAME, noting("standby"), poll=0.05, act_outside=act_outside)
    add(migrated_url, 3)
    with following(migrated_url, late, statement_timeout=1.0):
        assert frozen.wait(PATIENCE)
        with following(migrated_url, standby, statement_timeout=1.0):
            eventually(lambda: seen(migrated_url, "standby") == [1, 2, 3])
            woken.set()
            eventually(lambda: late.unready == [NAME])
            assert seen(migrated_url, "late") == []
    found = state(migrated_url)
    assert found is not None
    assert found[:2] == (3, None)


class SlowBroker(Publisher):
    """Confirms after longer than a session may be idle in a transaction."""

    def publish(self, publications: Sequence[Any], meanwhile: Callable[[], object] = lambda: None) -> None:
        for _ in range(5):
            time.sleep(0.3)
            meanwhile()


def test_a_relay_that_waits_for_the_broker_is_not_replaced(migrated_url: str) -> None:
    relay = Follower("relay", relay_handle(SlowBroker("amqp://localhost", "test")), poll=0.05, act_outside=True)
    add(migrated_url, 3)
    with following(migrated_url, relay, statement_timeout=1.0):
        eventually(lambda: state(migrated_url, "relay") == (3, None, 1))


def test_the_lock_is_held_for_few_round_trips(
    migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody else who appends waits meanwhile."""
    key = (TENANT, "name", "x")
    first, second = [Append(events=[event(name)], ledger=[LedgerRow(TENANT, name, b"f")]) for name in "ab"]
    second.unique_keys = {key: "b", (TENANT, "name", "y"): None}
    second.attempts_done = [(TENANT, "b")]
    wait = Session.wait
    store = EventStore(migrated_url)
    try:
        store.append(first)
        with (tmp_path / "trace").open("w+b") as trace, monkeypatch.context() as patch:

            def traced(session: Session, *args: Any, **kwargs: Any) -> Any:
                session.pgconn.trace(trace.fileno())
                found = wait(session, *args, **kwargs)
                session.pgconn.untrace()
                return found

            patch.setattr(Session, "wait", traced)
            store.append(second)
            trace.seek(0)
            # The transaction begins, the lock, what is compared, what is written, and the transaction ends.
            assert trace.read().count(b"ReadyForQuery") == 5
        assert store.holders([(TENANT, UniqueKey("name", "x"))]) == {key: "b"}
    finally:
        store.close()
