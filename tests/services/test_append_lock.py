"""The lock under which everybody appends: who holds it and does nothing loses it."""

from __future__ import annotations

import psycopg
import pytest

from services.store.append import Append, append_in
from services.store.connect import connect
from services.store.diagnosis import explain
from services.store.event_store import EventStore
from services.store.unavailable import StoreUnavailable
from tests.eventually import eventually
from tests.services.harness import rows
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
