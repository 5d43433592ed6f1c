"""Every index takes the widest row that can come, however little of it compresses, and whatever an older log holds."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

import projections
from domain.activity import ActivityCreated
from domain.compare import name_key
from domain.directory import EntryChanged, EntryRegistered
from domain.limits import Json, Title, limits_of
from domain.plan import DispatchPlan
from domain.steps import Step
from domain.task import TaskCreated
from projections.support.table import MAX_INDEXED_BYTES, indexed, title_key
from tests.builders import EARLY
from tests.databases import referred_first
from tests.projections.recording import recorded
from tests.widest import identifier, wide, widest_json

TENANT = "t" * 63
INDEXED = wide(MAX_INDEXED_BYTES // 4)
NAMED = [f"{TENANT}/{INDEXED}", f"{TENANT}/{wide(MAX_INDEXED_BYTES // 4, 1)}"]
# What stands in an indexed column at its widest, by the column's name; one that is not here has no proof yet.
WIDEST: dict[str, Any] = {
    "tenant": TENANT,
    **dict.fromkeys(
        ("id", "task_id", "activity_id", "entity_id", "workflow_id", "hub", "project", "commerce", "member", "done_by"),
        identifier("wide"),
    ),
    **dict.fromkeys(("bulk_id", "webhook"), identifier("wide")),
    **dict.fromkeys(
        ("status", "resolution", "dispatch", "rule", "kind", "type", "result", "category", "todo"), "W" * 20
    ),
    "title_key": INDEXED,
    "flow_id": INDEXED,
    "channel": INDEXED,
    "reference": INDEXED,
    "email": INDEXED,
    "operator": INDEXED,
    "outside": INDEXED,
    "grams": list(range(-1200, 1200)),
    "assignees": [identifier(f"member-{number}") for number in range(50)],
    **dict.fromkeys(("roles", "whitelist", "blacklist", "projects"), NAMED),
    **dict.fromkeys(("data", "output"), Jsonb({TENANT: widest_json(Json())})),
    # The store's own: streams, commands, unique keys (case-folded, a character takes up to six bytes) and followers.
    "originator_id": f"{TENANT}/{'k' * 20}-{identifier('wide')}",
    "command_id": "c" * 128,
    "message_id": "m" * 128,
    "key": wide(254 * 6 // 4),
    "entity": f"{TENANT}/{'k' * 20}-{identifier('wide')}",
    **dict.fromkeys(("name", "follower"), "n" * 100),
    # What senders may put into a message, and what the words of the service are.
    **dict.fromkeys(("arrived", "letter", "fingerprint", "code"), "l" * 255),
    **dict.fromkeys(("dead_letters.id", "dead_letters.message_id", "dead_letters.key"), wide(255)),
    "dead_letter_burials.key": wide(255),
    **dict.fromkeys(("bulk_actions.state", "bulk_items.state"), "W" * 20),
    "dead_letters.state": "parked",
    "webhooks.state": "active",
    "webhook_deliveries.state": "pending",
    # Only a condition of an index reads it.
    "doc": json.dumps({"after": [0], "title": "d" * (1 << 20)}),
}


def widest(table: str, column: str) -> Any:
    """Return what stands in an indexed column at its widest, None if there is no proof yet."""
    return WIDEST.get(f"{table}.{column}", WIDEST.get(column))


_PLAIN = {
    "text": "x", "ARRAY": ["x"], "boolean": True, "bigint": 9999, "integer": 9999, "bytea": b"x" * 32,
    "jsonb": Jsonb({}), "timestamp with time zone": EARLY, "double precision": 0.5,
    "uuid": UUID(int=1),
}  # fmt: skip
_VARYING = ("text", "ARRAY", "jsonb")


def test_every_index_takes_the_widest_row(conn: psycopg.Connection[Any]) -> None:
    columns: dict[str, dict[str, str]] = {}
    for table, column, kind in conn.execute(
        "SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns AS c"
        " JOIN pg_tables AS t ON t.schemaname = c.table_schema AND t.tablename = c.table_name"
        " WHERE c.table_schema = 'public' ORDER BY c.table_name"
    ):
        columns.setdefault(table, {})[column] = kind
    keys = conn.execute(
        "SELECT t.relname, i.relname, a.attname FROM pg_index AS x JOIN pg_class AS t ON t.oid = x.indrelid"
        " JOIN pg_class AS i ON i.oid = x.indexrelid"
        # Also what only an expression or a condition of the index names.
        " JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = i.oid AND d.refobjid = t.oid"
        " JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid AND a.attnum > 0"
        " WHERE t.relnamespace = 'public'::regnamespace"
    ).fetchall()
    primary = conn.execute(
        "SELECT t.relname, i.relname, a.attname FROM pg_index AS x JOIN pg_class AS t ON t.oid = x.indrelid"
        " JOIN pg_class AS i ON i.oid = x.indexrelid"
        " JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = ANY(x.indkey::int2[])"
        " WHERE t.relnamespace = 'public'::regnamespace"
    ).fetchall()
    found = {(table, column) for table, _, column in (*keys, *primary)}
    assert {index.rpartition("_")[0].split("_v")[0] for _, index, _ in keys} > {"tasks", "entries", "activities"}
    unproven = {
        f"{table}.{column}"
        for table, column in found
        if columns[table][column] in _VARYING and widest(table, column) is None
    }
    assert unproven == set()
    # It has one row.
    conn.execute("DELETE FROM log_identity")
    with conn.cursor() as cursor:
        order = referred_first(cursor, columns)
    for table in order:
        row = {
            name: wide_one if (table, name) in found and wide_one is not None and kind in _VARYING else _PLAIN[kind]
            for name, kind in columns[table].items()
            for wide_one in (widest(table, name),)
        }
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join([sql.Placeholder()] * len(row)),
        )
        conn.execute(statement, list(row.values()))
    # What waits in the list of a GIN index is put into its tree only now.
    conn.execute("VACUUM")


LONG = wide(10_000)
OLD = [
    ActivityCreated("a", LONG, "w", 1, LONG, (Step(LONG),), "none", "wait_all", ("t",), "h", "p"),
    TaskCreated(
        "t",
        LONG,
        "a",
        0,
        LONG,
        LONG,
        hub="h",
        roles=(LONG,),
        whitelist=(LONG, wide(10_000, 1)),
        blacklist=(LONG,),
        plan=DispatchPlan(LONG),
    ),
    EntryRegistered("member", "m", {"name": LONG, "email": LONG, "projects": {LONG: {"is_manager": True}}}),
    EntryRegistered("hub", "h", {}),
    EntryChanged("hub", "h", {}, {"name": LONG}),
]


def test_an_older_log_with_longer_texts_is_folded(conn: psycopg.Connection[Any]) -> None:
    for model in projections.READ_MODELS:
        events = [event for event in recorded(OLD) if event.name in model.EVENTS]
        model.projection(projections.suffix(model)).project(conn, events)
    row = conn.execute("SELECT title_key, roles, flow_id FROM tasks").fetchone()
    assert row is not None
    assert {len(text.removeprefix("acme/").encode()) for text in (row[0], *row[1], row[2])} == {MAX_INDEXED_BYTES}
    conn.execute("VACUUM")


@pytest.mark.parametrize("text", ["", "short", "ä" * 1000, "ä" * 1001, "a" + "ä" * 1000, "\U0010ffff" * 501])
def test_what_is_indexed_is_cut_by_bytes_and_never_inside_a_character(text: str) -> None:
    held = indexed(text)
    assert text.startswith(held)
    assert len(held.encode()) <= MAX_INDEXED_BYTES
    assert held == text or len(held.encode()) > MAX_INDEXED_BYTES - 4


@pytest.mark.parametrize(
    "character", ["x", "\U0002a6df", "\u0390", "\u1f52", "\u1fb7", "\ufb03", "\u0149", "\u0130", "\U0001d160"]
)
def test_no_title_that_a_command_may_hold_is_cut(character: str) -> None:
    (limit,) = limits_of(Title)[1]
    title = character * limit.most
    assert title_key(title) == name_key(title)
