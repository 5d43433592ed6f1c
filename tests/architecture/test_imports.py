"""Holds the lines between the packages and keeps the domain pure: only the standard library, no clock, no I/O."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.eventually import PATIENCE

ROOT = Path(__file__).parents[2]
DOMAIN = sorted((ROOT / "domain").rglob("*.py"))
# Of the standard library, what reads a clock, rolls dice or touches the world.
IMPURE = {
    "asyncio",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "shutil",
    "socket",
    "sqlite3",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uuid",
}
CLOCKS = {"now", "utcnow", "today"}


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def impure(tree: ast.AST) -> Iterator[str]:
    """Say what in a module of the domain does not belong there."""
    for line, name in imported(tree):
        top = name.partition(".")[0]
        if top != "domain" and (top not in sys.stdlib_module_names or top in IMPURE):
            yield f"{line}: imports {name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute) and called.attr in CLOCKS:
                yield f"{node.lineno}: reads a clock, {ast.unparse(node)}"
            if isinstance(called, ast.Name) and called.id in {"open", "print", "input", "__import__", "exec", "eval"}:
                yield f"{node.lineno}: touches the world, {ast.unparse(node)}"


def test_the_contracts_hold() -> None:
    program = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    command = [sys.executable, "-c", program, "--config", ".importlinter", "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 kept, 0 broken" in done.stdout


@pytest.mark.parametrize("path", DOMAIN, ids=lambda path: path.stem)
def test_the_domain_is_pure(path: Path) -> None:
    assert list(impure(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import msgspec",
        "def late():\n    from pydantic.dataclasses import dataclass",
        "from services import store",
        "from . import task",
        "import os.path",
        "from time import time",
        "datetime.now(UTC)",
        "print(1)",
    ],
)
def test_what_is_not_pure_is_seen(source: str) -> None:
    assert len(list(impure(ast.parse(source)))) == 1


def test_what_is_pure_is_let_through() -> None:
    assert list(impure(ast.parse("import json\nfrom domain.task import Task\nlate = context.now > end"))) == []
