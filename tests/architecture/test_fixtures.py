"""A fixture has one definition: whoever reads a test finds what its parameters are without asking which file wins."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]


def fixtures(source: str) -> list[str]:
    """Return the names of the fixtures that a module defines."""
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(map(_makes_a_fixture, node.decorator_list))
    ]


def _makes_a_fixture(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called).rpartition(".")[2] == "fixture"


def test_no_fixture_is_defined_twice() -> None:
    found = Counter(name for file in TESTS.rglob("*.py") for name in fixtures(file.read_text("utf-8")))
    assert len(found) > 20
    assert [name for name, count in found.items() if count > 1] == []


def test_fixtures_are_found_however_they_are_made() -> None:
    source = """
@pytest.fixture
def plain(): ...
@pytest.fixture(scope="module")
async def called(): ...
@fixture
def imported(): ...
@property
def none(): ...
"""
    assert fixtures(source) == ["plain", "called", "imported"]
