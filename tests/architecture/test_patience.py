"""No test has a time-out of its own: it waits with the patience of all, which can be multiplied."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
# What these wait for comes, or the test fails; a time that the code under test is given is another matter.
BY_PLACE = {"eventually", "eventually_async", "wait_for", "join", "wait", "result"}
BY_NAME = BY_PLACE | {"communicate", "run", "urlopen"}
SOON = 1  # a shorter wait is a step of a loop, or sees that nothing happens


def numbers(tree: ast.AST) -> Iterator[int]:
    """Say in which lines a call waits for a number of seconds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            given = [each.value for each in node.keywords if name in BY_NAME and each.arg == "timeout"]
            given += node.args if name in BY_PLACE else []
            for each in given:
                if isinstance(each, ast.Constant) and isinstance(each.value, int | float) and each.value > SOON:
                    yield node.lineno


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_a_test_waits_with_patience(path: Path) -> None:
    assert list(numbers(ast.parse(path.read_text("utf-8")))) == []


@pytest.mark.parametrize(
    "source",
    ["eventually(ready, 5)", "thread.join(10)", "subprocess.run([], timeout=60)", "asyncio.wait_for(task, 2.5)"],
)
def test_a_number_is_seen(source: str) -> None:
    assert list(numbers(ast.parse(source))) == [1]


def test_patience_is_let_through() -> None:
    assert list(numbers(ast.parse("eventually(ready)\nthread.join(PATIENCE)\nover.wait(0.005)"))) == []
