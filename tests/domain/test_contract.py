"""Holds the cases of all commands against the contract: an answer that loses its test fails here."""

from __future__ import annotations

import ast
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import domain
from domain import lifecycle
from tests.domain.cases import CONTRACT, DONE, IGNORED, REFUSALS, Case

THEMES = [
    import_module(f"tests.domain.{file.stem}")
    for file in sorted(Path(__file__).parent.glob("test_*.py"))
    if file != Path(__file__)
]
CASES: list[Case] = [case for theme in THEMES for case in getattr(theme, "CASES", ())]
HOME = Path(domain.__file__).parent


def test_every_command_has_a_contract() -> None:
    assert set(CONTRACT) == set(domain.COMMANDS)


def test_every_answer_in_the_contract_has_a_case_and_no_case_is_beyond_it() -> None:
    tested: dict[str, set[str]] = defaultdict(set)
    for case in CASES:
        tested[case.command].add(case.outcome)
    assert dict(tested) == CONTRACT


def test_the_contract_knows_the_codes_of_the_tables() -> None:
    for command, row in lifecycle.TABLE.items():
        assert {str(cell) for cell in row.values() if not isinstance(cell, lifecycle.Lifecycle)} <= REFUSALS[command]
    for command, (kinds, code) in lifecycle.RIGHTS.items():
        if lifecycle.OTHER not in kinds:
            assert code in REFUSALS[command]


def test_every_statement_that_refuses_is_reached_by_a_case() -> None:
    reached: set[tuple[str, int]] = set()
    for case in CASES:
        if case.outcome not in (DONE, IGNORED):
            file, line = case.run().refused_at
            reached.add((str(Path(file).relative_to(HOME)), line))
    unreached = []
    for path in sorted(HOME.rglob("*.py")):
        name = str(path.relative_to(HOME))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and _named(node.exc.func, "Rejected"):
                lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                if not any((name, line) in reached for line in lines):
                    unreached.append(f"{name}:{node.lineno} {ast.unparse(node)}")
    assert unreached == []


def _named(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
