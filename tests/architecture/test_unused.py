"""Every function and class of a module is used from that module, or by an import of it.

vulture compares names alone, so it misses an unused function whose name is used elsewhere.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = [path for top in ("domain", "projections", "services") for path in sorted((ROOT / top).rglob("*.py"))]
# Tests do not count as users.
USERS = [*PRODUCT, *sorted((ROOT / "bench").rglob("*.py")), ROOT / "tests/documents.py"]
# Used by the programs of others, as the documentation of the contracts shows.
PUBLIC = {"services.broker.events"}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unused(trees: Mapping[str, ast.Module], modules: Iterable[str]) -> set[str]:
    used: set[tuple[str, str]] = set()
    attributes: set[str] = set()
    passed: set[str] = set()
    for module, tree in trees.items():
        bound: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                used |= {(node.module or "", alias.name) for alias in node.names}
                bound |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                bound |= {alias.asname or alias.name: alias.name for alias in node.names}
        bases = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for statement in tree.body:
            own = statement.name if isinstance(statement, DEFINITIONS) else None
            for node in ast.walk(statement):
                if isinstance(node, ast.Attribute):
                    attributes.add(node.attr)
                    used.add((bound.get(ast.unparse(node.value), ""), node.attr))
                elif isinstance(node, ast.Name) and node.id != own:
                    used.add((module, node.id))
                    if id(node) not in bases and node.id in bound:
                        passed.add(bound[node.id])
    found = defaultdict(set)
    for module in modules:
        for each in trees[module].body:
            if isinstance(each, DEFINITIONS) and not each.decorator_list and (module, each.name) not in used:
                found[module].add(each.name)
    # A module that is used as a value, such as a read model, may be asked for any attribute.
    return {
        f"{module}.{name}" for module in found for name in found[module] - (attributes if module in passed else set())
    }


def test_everything_is_used() -> None:
    trees = {module_of(path): ast.parse(path.read_text()) for path in USERS}
    assert unused(trees, {module_of(path) for path in PRODUCT} - PUBLIC) == set()


def test_an_unused_function_is_found_although_another_module_uses_its_name() -> None:
    sources = {"a": "def f(): return f\ndef g(): ...", "b": "def f(): ...\nimport a\na.g()", "c": "from b import f"}
    assert unused({name: ast.parse(text) for name, text in sources.items()}, sources) == {"a.f"}
