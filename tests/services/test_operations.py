"""Acts of operators in the log: recorded with what they did or not at all, bounded, and for nobody but the audit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import psycopg
import pytest

from domain.operations import NO_TENANT
from domain.streams import TENANT
from services.broker.frames.writer import Publication
from services.cli.following import follow
from services.processors.rebuild import rebuild as build
from services.processors.relay import relay_handle
from services.processors.verify import verify
from services.store import audit, identity, log, operations
from services.store.connect import connect
from services.store.operations import Operation, acting, acting_for_long, record
from tests.services.harness import rows
from tests.services.test_relay import add

KEY = Operation("acme", "ann", "key.create", "key/0123456789abcdef", key_id="fedcba9876543210")


def acts(url: str, tenant: str | None = "acme", **wanted: Any) -> list[audit.Entry]:
    """The record of a tenant, the newest first."""
    with connect(url, "test", autocommit=True) as conn:
        ((version,),) = conn.execute(*audit.version(tenant)).fetchall()
        found = conn.execute(*audit.page(tenant, audit.Wanted(**wanted), version + 1, 100), binary=True).fetchall()
        return [audit.entry(row) for row in found]


def test_an_act_is_an_event_of_its_tenants_record(migrated_url: str) -> None:
    with connect(migrated_url, "test") as conn:
        first = record(conn, KEY)
        second = record(conn, Operation(None, "cli:root", "database.adopt", "database/foldwork", details={"epoch": 2}))
        third = record(conn, Operation("other", "cli:root", "key.revoke", "key/1", "failed", reason="there is none"))
    assert [first, second, third] == [1, 2, 3]
    (own,) = acts(migrated_url)
    assert (own.act, own.target, own.outcome, own.actor) == ("key.create", KEY.target, "succeeded", "ann")
    assert (own.key_id, own.position, own.details, own.reason) == ("fedcba9876543210", 1, {}, None)
    assert own.operation_id == own.event_id
    (of_none,) = acts(migrated_url, None)
    assert (of_none.actor, of_none.details) == ("cli:root", {"epoch": 2})
    (others,) = acts(migrated_url, "other")
    assert (others.outcome, others.reason) == ("failed", "there is none")


def test_no_tenant_has_the_name_of_the_record_of_no_tenant() -> None:
    assert TENANT.match(NO_TENANT) is None


def test_acts_are_versions_of_one_stream_in_order(migrated_url: str) -> None:
    for number in range(3):
        with connect(migrated_url, "test") as conn:
            record(conn, Operation("acme", "ann", "key.create", f"key/{number}"))
    assert [each.target for each in acts(migrated_url)] == ["key/2", "key/1", "key/0"]
    found = rows(migrated_url, "SELECT originator_version, notification_id FROM stored_events ORDER BY 2")
    assert found == [(1, 1), (2, 2), (3, 3)]


def test_an_act_and_its_record_are_one_transaction(migrated_url: str) -> None:
    conn = connect(migrated_url, "test")
    conn.execute("INSERT INTO followers (name) VALUES ('made')")
    record(conn, KEY)
    # As of a process that is killed.
    conn.close()
    assert rows(migrated_url, "SELECT FROM followers WHERE name = 'made'") == []
    assert acts(migrated_url) == []


def test_a_failed_act_leaves_its_reason_and_nothing_else(migrated_url: str) -> None:
    def fails() -> None:
        with connect(migrated_url, "test") as conn, acting(conn, KEY) as act:
            conn.execute("INSERT INTO followers (name) VALUES ('made')")
            act.details["entities"] = 3
            raise LookupError("there is no such key")

    with pytest.raises(LookupError):
        fails()
    assert rows(migrated_url, "SELECT FROM followers WHERE name = 'made'") == []
    (only,) = acts(migrated_url)
    assert (only.outcome, only.reason) == ("failed", "LookupError: there is no such key")
    assert only.details == {"entities": 3}


def test_an_act_of_which_the_connection_is_lost_leaves_neither(migrated_url: str) -> None:
    def fails() -> None:
        with connect(migrated_url, "test") as conn, acting(conn, KEY):
            conn.execute("INSERT INTO followers (name) VALUES ('made')")
            with psycopg.connect(migrated_url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", (conn.info.backend_pid,))

    with pytest.raises(psycopg.OperationalError):
        fails()
    assert rows(migrated_url, "SELECT FROM followers WHERE name = 'made'") == []
    assert acts(migrated_url) == []


def test_an_act_that_takes_time_is_recorded_at_its_start_and_its_end(migrated_url: str) -> None:
    rebuild = Operation(None, "cli:root", "read-model.rebuild", "read-model/tasks")
    with acting_for_long(migrated_url, rebuild) as act:
        assert [each.outcome for each in acts(migrated_url, None)] == ["started"]
        act.details["held_back"] = 0
    with pytest.raises(KeyboardInterrupt), acting_for_long(migrated_url, rebuild):
        raise KeyboardInterrupt
    failed, again, ended, begun = acts(migrated_url, None)
    assert [each.outcome for each in (begun, ended, again, failed)] == ["started", "succeeded", "started", "failed"]
    assert ended.operation_id == begun.operation_id == begun.event_id
    assert failed.operation_id == again.operation_id != begun.operation_id
    assert (ended.details, failed.reason) == ({"held_back": 0}, "KeyboardInterrupt: ")


@pytest.mark.parametrize(
    "details",
    [
        {"text": "ж" * 20_000},
        {f"{'ж' * 40}{number}": "\x00\ud800\n€" * 5_000 for number in range(100)},
        {"deep": {"list": [{"a": "b" * 5_000}] * 10}, "short": 1},
        {"not json": object(), "not finite": float("nan"), "bytes": b"\xff" * 9_000},
    ],
)
def test_an_act_is_bounded_whatever_it_says(migrated_url: str, details: dict[str, Any]) -> None:
    with connect(migrated_url, "test") as conn:
        long = "x" * 10_000
        record(conn, Operation("acme", "\ud800" + long, "key.create", long, "failed", details, reason="\x00" + long))
    (only,) = acts(migrated_url)
    assert len(msgspec.json.encode(only.details)) <= operations.MAX_DETAILS
    assert only.details
    assert (len(only.actor), len(only.target), len(only.reason or "")) == (100, 200, 500)
    # As text, which PostgreSQL compares filters with.
    assert acts(migrated_url, target="xxx") == [only]
    assert "\\u0000" not in json.dumps(msgspec.to_builtins(only))


def test_short_details_are_kept_as_they_are(migrated_url: str) -> None:
    details = {"permissions": ["read", "write"], "name": "a [b] c", "days": 3, "expires": None, "nested": {"a": True}}
    with connect(migrated_url, "test") as conn:
        record(conn, Operation("acme", "ann", "key.create", "key/1", details=details))
    assert acts(migrated_url)[0].details == details


def test_an_act_needs_a_name(migrated_url: str) -> None:
    with connect(migrated_url, "test") as conn, pytest.raises(ValueError, match=r"is no <kind>\.<verb>"):
        record(conn, Operation("acme", "ann", "create a key", "key/1"))
    assert rows(migrated_url, log.HEAD) == [(0,)]


def test_filters_of_the_record(migrated_url: str) -> None:
    with connect(migrated_url, "test") as conn:
        record(conn, KEY)
    with connect(migrated_url, "test") as conn:
        record(conn, Operation("acme", "bob", "key.revoke", "key/01", "failed", reason="there is none"))
    second, first = acts(migrated_url)
    assert acts(migrated_url, act="key.create") == [first]
    assert acts(migrated_url, actor="bob") == [second]
    assert acts(migrated_url, target="key/01") == [second, first]
    assert acts(migrated_url, target="key/012") == [first]
    assert acts(migrated_url, outcome="failed") == [second]
    at = rows(migrated_url, "SELECT recorded_at FROM stored_events ORDER BY notification_id")
    assert acts(migrated_url, since=at[1][0]) == [second]
    assert acts(migrated_url, until=at[1][0]) == [first]


def test_nothing_is_recorded_in_a_copy_that_nobody_has_adopted(migrated_url: str) -> None:
    with psycopg.connect(migrated_url) as conn:
        conn.execute("UPDATE log_identity SET place = 'elsewhere'")
    with connect(migrated_url, "test") as conn, pytest.raises(identity.LogRestored):
        record(conn, KEY)
    assert acts(migrated_url) == []


class Published:
    """Stands for the publisher of the relay, and keeps what is published."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def publish(self, publications: Sequence[Publication], meanwhile: Callable[[], object]) -> None:
        self.keys += [key for _, key, _, _ in publications]


def test_acts_are_neither_published_nor_followed_by_tail(migrated_url: str) -> None:
    add(migrated_url, 1, versions=1)
    with connect(migrated_url, "test") as conn:
        record(conn, KEY)
    with connect(migrated_url, "test") as conn:
        record(conn, Operation(None, "cli:root", "database.adopt", "database/foldwork"))
    add(migrated_url, 1, versions=1)
    published, followed = Published(), list[int]()
    with connect(migrated_url, "test") as conn:
        relay_handle(published)(conn, log.read(conn, 0, 100))  # type: ignore[arg-type]
        relay_handle(published)(conn, log.read(conn, 1, 1))  # type: ignore[arg-type]
    assert published.keys == ["acme.task.created"] * 2
    follow(migrated_url, 0, "#", 2, lambda _, event: followed.append(event["position"]))
    assert followed == [1, 4]


def test_a_store_with_acts_is_consistent(migrated_url: str) -> None:
    add(migrated_url, 1, versions=1)
    rebuild = Operation(None, "cli:root", "read-model.rebuild", "read-model/tasks")
    with acting_for_long(migrated_url, rebuild):
        assert build(migrated_url, "tasks")
    verdict = verify(migrated_url)
    assert (verdict.violations, verdict.unchecked, verdict.events) == ([], [], 3)
    assert verdict.read_models["tasks"] == 2
