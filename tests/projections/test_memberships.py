"""The members of a project are found by an index, whatever else the tenant has in its directory."""

from __future__ import annotations

import json
from typing import Any

import psycopg

from projections import directory, entries, memberships, suffix
from projections.statement import Query
from projections.support.conditions import Asked, Where
from tests.builders import entry, member, workflow
from tests.given import TENANT, Given
from tests.projections.recording import recorded

ENTRIES = f"entries_{suffix(directory)}"
FILL = f"""
INSERT INTO {ENTRIES} (tenant, kind, id, projects, retired, position, doc)
SELECT 'acme', 'member', 'm' || lpad(n::text, 5, '0'), ARRAY['acme/p' || n % 500, 'acme/all'], FALSE, n,
    json_build_object('kind', 'member', 'id', 'm' || lpad(n::text, 5, '0'), 'fields', json_build_object('projects',
        json_build_object('p' || n % 500, json_build_object(), 'all', json_build_object())))
FROM generate_series(1, 20000) AS n
"""


def in_project(*projects: str) -> Where:
    return memberships.where(Asked(TENANT, "project_id", "in", list(projects), "filter[project_id]"))


def indexes_of(conn: psycopg.Connection[Any], asked: Query) -> set[str]:
    """Return the indexes that a question goes through."""
    row = conn.execute(f"EXPLAIN (FORMAT JSON) {asked.sql}", asked.params).fetchone()
    assert row is not None
    found, parts = set(), list(row[0])
    while parts:
        part = parts.pop()
        found |= {part["Index Name"]} if "Index Name" in part else set()
        parts += [part["Plan"]] if "Plan" in part else part.get("Plans", [])
    return found


def test_an_index_finds_the_members_of_a_project(conn: psycopg.Connection[Any]) -> None:
    conn.execute(FILL)
    conn.execute(f"ANALYZE {ENTRIES}")
    asked = memberships.page(TENANT, [in_project("p7", "p8")], (), 1000, 0)
    assert indexes_of(conn, asked) == {f"{ENTRIES}_projects_idx"}
    found = [memberships.resource(row)["id"] for row in conn.execute(*asked).fetchall()]
    assert found == [f"p{number % 500}:m{number:05}" for project in (7, 8) for number in range(project, 20001, 500)]
    assert conn.execute(*memberships.count(TENANT, [in_project("all")])).fetchone() == (20000,)
    assert conn.execute(*memberships.of_projects("other", ["p7"], 10)).fetchall() == []


def test_the_index_follows_what_happens(conn: psycopg.Connection[Any]) -> None:
    log = recorded(
        Given()
        .and_commands(
            [
                entry("project", "p"),
                member("ann", projects={"p": {}, "q": {}}),
                workflow(id="w", project="p"),
                member("bob"),
            ]
        )
        .log
    )
    directory.projection(suffix(directory)).project(conn, log)
    held = conn.execute("SELECT id, projects FROM entries ORDER BY id").fetchall()
    assert held == [("ann", ["acme/p", "acme/q"]), ("bob", None), ("p", None), ("w", ["acme/p"])]
    (row,) = conn.execute(*entries.workflows_of(TENANT, "p", 10)).fetchall()
    assert json.loads(row[0])["id"] == "w"
    assert conn.execute(*entries.workflows_of(TENANT, "q", 10)).fetchall() == []
