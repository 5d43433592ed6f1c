"""Each table is read and written in one place: whoever looks for a statement on it knows where to look."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import projections

ROOT = Path(__file__).parents[2]
PRODUCT = [path for top in ("domain", "projections", "services") for path in sorted((ROOT / top).rglob("*.py"))]
STORE = "services/store/"
# Of each table, the modules that may have statements on it.
OWNERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("stored_events", "ledger", "claims", "attempts", "held_events", "bulks", "migrations"), (STORE,)),
    **dict.fromkeys(("log_identity", "dead_letters", "dead_letter_arrivals", "bulk_actions", "bulk_items"), (STORE,)),
    "rebuilds": (STORE,),
    **dict.fromkeys(("webhooks", "webhook_deliveries"), (STORE,)),
    # What a follower of a read model's tables stands at is changed together with the tables.
    **dict.fromkeys(("followers", "read_models", "held_entities"), (STORE, "projections/__init__.py")),
    "api_keys": ("services/keys.py",),
    **{stem: ("projections/",) for model in projections.READ_MODELS for stem in model.VIEWS},
}
_TABLE = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE|TABLE|TRUNCATE|ANALYZE)\s+(?:ONLY\s+)?([a-z_]+)")
_STATEMENT = re.compile(
    r"\b(?:SELECT|INSERT INTO|DELETE FROM|TRUNCATE|ANALYZE)\s|\bUPDATE [a-z_]+ (?:AS [a-z]+ )?SET\b"
)
# Modules of the services that have statements at all: those of the tables' owners, and the one that makes a database.
SPEAKING = (STORE, "services/keys.py", "services/dev/postgres.py")


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def strangers(name: str, tree: ast.AST) -> Iterator[str]:
    """Say which statements of a module belong elsewhere."""
    for line, text in texts(tree):
        for table in _TABLE.findall(text):
            if table in OWNERS and not name.startswith(OWNERS[table]):
                yield f"{name}:{line}: a statement on {table}, which is for {', '.join(OWNERS[table])}"
        if is_silent(name) and _STATEMENT.search(text):
            yield f"{name}:{line}: a statement"
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        maker = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
        if is_silent(name) and maker in ("Query", "Where"):
            yield f"{name}:{node.lineno}: a part of a statement"


def is_silent(name: str) -> bool:
    return name.startswith("services/") and not name.startswith(SPEAKING)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_table_has_an_owner() -> None:
    migrations = "".join(path.read_text() for path in (ROOT / STORE / "migrations").glob("*.sql"))
    made = set(re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?([a-z_]+)", migrations))
    made -= set(re.findall(r"DROP TABLE ([a-z_]+)", migrations))
    assert len(made) > 5
    assert made <= set(OWNERS)


def test_every_owner_has_statements() -> None:
    named = {(table, owner) for table, owners in OWNERS.items() for owner in owners}
    # Read models put their own names into statements that all of them share.
    named -= {(table, "projections/") for table, _ in named}
    found = set()
    for path in PRODUCT:
        for _, text in texts(ast.parse(path.read_text())):
            tables = _TABLE.findall(text)
            found |= {each for each in named if each[0] in tables and name_of(path).startswith(each[1])}
    assert named - found == set()


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_statements_stand_with_the_owner_of_their_table(path: Path) -> None:
    assert list(strangers(name_of(path), ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("services/http/events.py", '"SELECT state FROM stored_events"'),
        ("services/http/events.py", 'f"SELECT {columns} FROM {table}"'),
        ("services/cli/data.py", '"DELETE FROM somewhere"'),
        ("services/processors/relay.py", '"UPDATE anything AS a SET b = 1"'),
        ("services/http/field/lists.py", "conditions.Where(text)"),
        ("services/store/log.py", '"SELECT doc FROM tasks"'),
        ("projections/task/table.py", '"JOIN ledger USING (tenant)"'),
    ],
)
def test_what_stands_elsewhere_is_seen(name: str, source: str) -> None:
    assert list(strangers(name, ast.parse(source)))


def test_what_is_no_statement_is_let_through() -> None:
    assert list(strangers("services/http/events.py", ast.parse('"what comes from followers; update tasks"'))) == []
