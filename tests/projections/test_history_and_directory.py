from __future__ import annotations

import json
from typing import Any

import msgspec
import psycopg
import pytest

from domain.activity import ActivityStatusChanged
from domain.directory import ChangeEntry, RetireEntry
from domain.references import Reference
from domain.task import ProcessTask
from domain.workflow import ChangeWorkflow, DefineWorkflow, RetireWorkflow
from projections import directory, history, suffix
from projections.support.query import BadQuery
from services.store import log
from tests import builders
from tests.projections.recording import after, recorded, store

SCENE = [
    builders.workflow(),
    builders.member(email="Ann@Example.com", operator_id="OP-1"),
    builders.activity(assignees=[("ann",)]),
]


def test_history_holds_an_activitys_own_events_its_childrens_and_its_changes_of_status(
    conn: psycopg.Connection[Any],
) -> None:
    log = recorded(after([*SCENE, ProcessTask("t1"), builders.task("lone")]))
    history.projection("v1").project(conn, log)
    rows = conn.execute(*history.of_activity("acme", "a")).fetchall()
    assert [json.loads(row[0])["type"] for row in rows] == [
        "activity.created",
        "task.created",
        "task.assigned",
        "task.created",
        "activity.status-changed",
        "task.started",
    ]
    shown = json.loads(rows[-1][0])
    assert (shown["actor"], shown["data"]["runner"], shown["activity_id"]) == ("max", "ann", "a")
    assert shown["command_id"] == log[shown["position"] - 1].command_id
    assert [json.loads(row[0])["entity_id"] for row in conn.execute(*history.of_task("acme", "lone"))] == ["lone"]
    assert conn.execute("SELECT count(*) FROM history WHERE category = 'workflow'").fetchone() == (1,)
    assert conn.execute(*history.of_activity("other", "a")).fetchall() == []


def test_history_passes_on_what_is_stored_as_if_it_had_been_decoded(conn: psycopg.Connection[Any]) -> None:
    odd = ChangeEntry("member", "ann", {"note": '"quoted" \\ {NULL}, \x1e Zoë'})
    changed = ActivityStatusChanged("a", "OPEN", "ACTIVE", "U8", {"total": 2})
    store(conn, recorded(after([*SCENE, ProcessTask("t1"), builders.task("lone"), odd], changed)))
    rows = log.read(conn, 0, 100)
    assert all(type(row.passed_on().data) is msgspec.Raw for row in rows)
    found = []
    for batch in ([row.recorded() for row in rows], [row.passed_on() for row in rows]):
        with conn.transaction(force_rollback=True):
            history.projection("v1").project(conn, batch)
            found.append(conn.execute("SELECT h::text FROM history AS h ORDER BY position").fetchall())
    assert len(found[0]) == len(rows)
    assert found[0] == found[1]


def test_history_pages_by_position(conn: psycopg.Connection[Any]) -> None:
    history.projection("v1").project(conn, recorded(after(SCENE)))
    whole = [row[1] for row in conn.execute(*history.of_activity("acme", "a"))]
    paged: list[int] = []
    while rows := conn.execute(*history.of_activity("acme", "a", paged[-1] if paged else None, limit=2)).fetchall():
        paged += [row[1] for row in rows]
    assert paged == whole == sorted(whole)


def test_a_history_query_refuses_what_is_out_of_range() -> None:
    with pytest.raises(BadQuery):
        history.of_activity("acme", "a", limit=0)
    with pytest.raises(BadQuery):
        history.of_activity("acme", "a", after=-1)
    with pytest.raises(BadQuery):
        history.of_task("acme", "a\0")


def test_directory_finds_members_by_id_email_and_account(conn: psycopg.Connection[Any]) -> None:
    log = recorded(after([*SCENE, builders.manager("max", "p"), builders.manager("eve", "q")]))
    directory.projection(suffix(directory)).project(conn, log)

    def ids(query: Any) -> list[str]:
        return sorted(row[1] for row in conn.execute(*query))

    assert ids(directory.members("acme", ["ann", "max", "nobody"])) == ["ann", "max"]
    ann = directory.resource(conn.execute(*directory.get("acme", "member", "ann")).fetchall()[0])
    assert ann["fields"]["email"] == "Ann@Example.com"
    account = str(ann["fields"]["account_id"])
    names = [Reference("email", "ann@example.com"), Reference("account", account), Reference("operator", "op-1")]
    assert conn.execute(*directory.named("acme", names)).fetchall() == [(*one, "ann") for one in names]
    assert conn.execute(*directory.named("other", names)).fetchall() == []
    assert directory.named("acme", [Reference("id", "ann")]) is None
    assert ids(directory.members("other", ["ann"])) == []
    assert ids(directory.page("acme", "member", after="ann", limit=1)) == ["eve"]
    assert conn.execute(*directory.count("acme", "member")).fetchall() == [(3,)]


def test_directory_finds_entries_by_what_they_are_called_outside(conn: psycopg.Connection[Any]) -> None:
    long = "漢" * 900
    entries = [
        builders.entry("commerce", "shop", external_id="s-1"),
        builders.entry("commerce", "s-1", external_id=7),
        builders.entry("commerce", "far", external_id=f"{long}y"),
        builders.entry("operator", "op", external_id="s-1"),
    ]
    directory.projection(suffix(directory)).project(conn, recorded(after(entries)))

    def ids(tenant: str, kind: str, text: str) -> list[str]:
        named = directory.refers_to("named", tenant, kind, text)
        asked = f"SELECT named FROM unnest(%s::text[]) AS named WHERE {named.sql} ORDER BY named"
        return [row[0] for row in conn.execute(asked, (["shop", "s-1", "far", "op"], *named.params))]

    assert ids("acme", "commerce", "s-1") == ["s-1", "shop"]
    assert ids("acme", "operator", "s-1") == ["op"]
    assert ids("acme", "commerce", f"{long}y") == ["far"]
    assert ids("acme", "commerce", f"{long}z") == ids("acme", "commerce", "7") == ids("other", "commerce", "s-1") == []


def test_directory_follows_changes_and_keeps_the_retired(conn: psycopg.Connection[Any]) -> None:
    changes = [
        ChangeEntry("member", "ann", {"email": "a@example.com", "name": "Ann"}),
        RetireEntry("member", "ann"),
        DefineWorkflow("Other", builders.steps(), "o"),
        ChangeWorkflow("o", gating="sequential"),
        RetireWorkflow("o"),
    ]
    log = recorded(after([builders.member(email="x@example.com"), *changes]))
    directory.projection(suffix(directory)).project(conn, log)
    ann = directory.resource(conn.execute(*directory.get("acme", "member", "ann")).fetchall()[0])
    assert (ann["fields"]["email"], ann["retired"], ann["version"]) == ("a@example.com", True, 3)
    names = [Reference("email", "a@example.com"), Reference("email", "x@example.com")]
    assert conn.execute(*directory.named("acme", names)).fetchall() == [("email", "a@example.com", "ann")]
    assert conn.execute(*directory.page("acme", "member")).fetchall() == []
    other = directory.resource(conn.execute(*directory.get("acme", "workflow", "o")).fetchall()[0])
    assert (other["fields"]["gating"], other["fields"]["version"], other["retired"]) == ("sequential", 2, True)
    assert other["fields"]["steps"][0]["flow"] == "flow-1"
    assert directory.render_from_events(log, "workflow", "o") == other


def test_a_directory_query_refuses_kinds_and_texts_that_cannot_be() -> None:
    with pytest.raises(BadQuery):
        directory.page("acme", "planet")
    with pytest.raises(BadQuery):
        directory.get("acme", "member", "\ud800")
