"""A host that is lost while the server executes what it sent: its session keeps no lock for long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import psycopg
import pytest

from services.store import append as appending
from services.store.append import Append, LedgerRow
from services.store.connect import connect, end_in_time
from services.store.event_store import EventStore
from services.store.unavailable import StoreUnavailable
from tests.databases import with_setting
from tests.eventually import PATIENCE, eventually
from tests.services.harness import TENANT
from tests.services.proxy import Proxy, database_proxy
from tests.services.test_append_lock import appended
from tests.services.test_event_store import event

TIMEOUT = 2.0
# The message that ends a pipeline.
_SYNC = b"S\x00\x00\x00\x04"
_WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = %s::regclass"


def recorded(append: Append) -> Callable[[str], None]:
    def record(url: str) -> None:
        with closing(EventStore(url, statement_timeout=TIMEOUT)) as store, suppress(StoreUnavailable):
            store.append(append)

    return record


@pytest.mark.parametrize("table", ["claims", "ledger"])
def test_a_host_that_is_lost_during_an_append_stops_nobody(migrated_url: str, table: str) -> None:
    """Of its last pipeline the server has all, so that its session is idle afterwards, and ended for that."""
    lost = Append(events=[event("lost")], ledger=[LedgerRow(TENANT, "lost", b"f")])
    lost.unique_keys = {(TENANT, "name", "lost"): "lost"}
    with database_proxy(migrated_url) as (proxy, through), closing(EventStore(migrated_url)) as other:
        with connect(migrated_url, "test") as blocker, connect(migrated_url, "test", autocommit=True) as conn:
            # Blocks what is written, and nothing that is read.
            blocker.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
            thread = threading.Thread(target=recorded(lost), args=(through,))
            thread.start()
            eventually(lambda: conn.execute(_WAITS, (table,)).fetchone() == (1,))
            proxy.silence(to_server=True, to_client=False)
            blocker.commit()
            eventually(lambda: appended(other, "next"))
        thread.join()
        streams = {row[0] for row in other.fetch("SELECT originator_id FROM stored_events", ())}
        assert streams == {"acme/task-next"}


def in_a_pipeline(proxy: Proxy, conn: psycopg.Connection[Any]) -> None:
    with suppress(psycopg.Error), conn.pipeline():
        conn.execute("BEGIN")
        end_in_time(conn)
        appending.lock(conn)
        # Asked for with a flush: the server answers, and waits for the rest of the pipeline.
        conn.execute("SELECT 1").fetchone()
        proxy.silence(to_server=True, to_client=False)


_ENDED = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s"


def test_nor_does_one_that_is_lost_within_a_pipeline(migrated_url: str) -> None:
    with database_proxy(migrated_url) as (proxy, through):
        with closing(connect(through, "test", TIMEOUT, autocommit=True)) as conn:
            version, pid = conn.info.server_version, conn.info.backend_pid
            in_a_pipeline(proxy, conn)
        with closing(EventStore(migrated_url, statement_timeout=TIMEOUT)) as other:
            if version < 170_000:
                # PostgreSQL has a limit for such a session since version 17, and waits for keepalives before that.
                assert not appended(other, "next")
                other.fetch(_ENDED, (pid,))
            eventually(lambda: appended(other, "next"))


def test_every_session_has_a_limit_for_a_transaction(migrated_url: str) -> None:
    def limits(statement_timeout: float) -> tuple[str | None, str | None]:
        asked = "SELECT current_setting('transaction_timeout', true)"
        with connect(migrated_url, "test", statement_timeout, autocommit=True) as conn:
            session = conn.execute(asked).fetchone()
            with conn.transaction():
                end_in_time(conn)
                transaction = conn.execute(asked).fetchone()
            assert session is not None
            assert transaction is not None
        return session[0], transaction[0]

    with connect(migrated_url, "test") as conn:
        known = conn.info.server_version >= 170_000
    assert limits(TIMEOUT) == (("6s", "2500ms") if known else (None, None))
    assert limits(0) == (("0", "0") if known else (None, None))


def test_the_limit_of_one_transaction_replaces_the_one_that_is_running(migrated_url: str) -> None:
    hours = with_setting(migrated_url, "transaction_timeout", "1h")
    with connect(migrated_url, "test") as conn:
        if conn.info.server_version < 170_000:
            return
    with connect(hours, "test", 0.2, autocommit=True) as conn, suppress(psycopg.OperationalError), conn.transaction():
        end_in_time(conn)
        # Neither of the other limits ends it.
        conn.execute("SET LOCAL statement_timeout = 0")
        conn.answer_within = None
        with pytest.raises(psycopg.errors.TransactionTimeout):
            conn.execute("SELECT pg_sleep(%s)", (PATIENCE,))
