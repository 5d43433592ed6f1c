"""Tests use what a module gives to everybody: what is private may change without a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("domain", "projections", "services")
# What namedtuples give to everybody.
PUBLIC = {"_replace", "_fields", "_asdict"}
# Private names that tests still use, by file; whoever removes one removes its entry.
USED: dict[str, set[str]] = {
    "tests/services/http/test_bulks.py": {"_running", "_task"},
    "tests/services/http/test_core_models.py": {"_fields_to"},
    "tests/services/http/test_events.py": {"_WINDOW"},
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def defined(tree: ast.Module) -> set[str]:
    """Return the private names that a module defines: functions, classes, variables and attributes."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                found.add(name)
    return {name for name in found if is_private(name)}


def reached(tree: ast.Module) -> Iterator[str]:
    """Give the private names of something else that a module uses: attributes, imports, and what is patched."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                continue
            case ast.Attribute(attr=name) if is_private(name):
                yield name
            case ast.ImportFrom(module=str(module), names=names) if module.partition(".")[0] in PACKAGES:
                yield from (each.name for each in names if is_private(each.name))
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[_, ast.Constant(value=str(name)), *_]):
                if is_private(name):
                    yield name


def trees(folder: str) -> dict[str, ast.Module]:
    files = sorted((ROOT / folder).rglob("*.py"))
    return {file.relative_to(ROOT).as_posix(): ast.parse(file.read_text("utf-8")) for file in files}


def test_no_test_uses_what_is_private_to_a_module_of_the_product() -> None:
    private = set().union(*(defined(tree) for package in PACKAGES for tree in trees(package).values()))
    assert len(private) > 100
    found = {}
    for name, tree in trees("tests").items():
        # A name that the test defines itself is its own.
        used = (set(reached(tree)) & private) - defined_by_itself(tree)
        if used:
            found[name] = used
    assert found == USED


def defined_by_itself(tree: ast.Module) -> set[str]:
    """Return the private names that a module defines, but not those that it sets on what it was given."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                found.add(name)
    return {name for name in found if is_private(name)}


def test_what_reaches_into_privates_is_found() -> None:
    source = """
from services.roles import _Play
from tests.brokers import _other
class Mine:
    def __init__(self): self._own = 1
consumer._buffer.size
monkeypatch.setattr(module, "_WAIT", 1)
self._store
found._replace(x=1)
"""
    assert set(reached(ast.parse(source))) == {"_Play", "_buffer", "_WAIT"}
    assert defined_by_itself(ast.parse(source)) == {"_own"}
