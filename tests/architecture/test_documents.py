"""Documentation that is made from the code says what the code says, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from domain import COMMANDS, EVENTS
from services.contracts import write
from services.http.core.errors import STATUS_OF_CODE
from tests.documents import DOCUMENTS, ROOT, drifted, made_anew

NAMES = [str(document.relative_to(ROOT)) for document in DOCUMENTS]


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_made_parts_are_current(document: Path) -> None:
    text = document.read_text("utf-8")
    assert made_anew(text) == text, "run `make docs`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text("utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_the_made_parts_are_there() -> None:
    assert "task.process" in (ROOT / "docs/domain.md").read_text("utf-8").split("```mermaid")[1]
    assert "`DATABASE_URL`" in (ROOT / "docs/operations.md").read_text("utf-8")


def test_the_contract_names_every_command_and_event() -> None:
    contract = (ROOT / "docs/contracts.md").read_text("utf-8")
    assert [name for name in (*COMMANDS, *EVENTS) if f"`{name}`" not in contract] == []


def test_every_refusal_of_the_domain_is_documented() -> None:
    raised = {
        code
        for file in (ROOT / "domain").rglob("*.py")
        for code in re.findall(r'Rejected\(\s*"([a-z-]+)"', file.read_text("utf-8"))
    }
    documented = (ROOT / "docs/domain.md").read_text("utf-8")
    assert [code for code in sorted(raised) if f"`{code}`" not in documented] == []
    assert [code for code in sorted(raised) if code not in STATUS_OF_CODE] == []


def test_a_document_that_has_drifted_is_named(tmp_path: Path) -> None:
    for document in DOCUMENTS:
        copy = tmp_path / document.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(document.read_text("utf-8"), "utf-8")
    write(tmp_path / "docs")
    assert drifted(tmp_path) == []
    table, schema = tmp_path / "docs/contracts.md", tmp_path / "docs/schemas/commands/task.create.json"
    table.write_text(table.read_text("utf-8").replace("| `workflow.define` |", "| `workflow.defined` |"), "utf-8")
    schema.write_text("{}", "utf-8")
    (schema.parent / "task.gone.json").write_text("{}", "utf-8")
    (tmp_path / "docs/openapi.json").unlink()
    assert sorted(drifted(tmp_path)) == [
        "docs/contracts.md",
        "docs/openapi.json",
        "docs/schemas/commands/task.create.json",
        "docs/schemas/commands/task.gone.json",
    ]


def test_each_threat_names_tests_that_there_are() -> None:
    table = (ROOT / "docs/security.md").read_text("utf-8").partition("## Threats")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        tests = re.findall(r"`([\w/]+\.py)`", row[3])
        assert tests, row[1]
        assert [name for name in tests if not (ROOT / "tests" / name).is_file()] == [], row[1]
