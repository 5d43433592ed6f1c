"""The page of the field dialect says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from services.http.core.errors import STATUS_OF_CODE, ApiError
from services.http.field.errors import FAILURES, failed_code
from services.http.field.operations import OPERATIONS

DOCUMENT = Path(__file__).parents[3] / "docs" / "field.md"


def test_the_document_names_every_endpoint_and_every_failed_code_as_the_code_does() -> None:
    text = DOCUMENT.read_text("utf-8")
    for operation in OPERATIONS:
        assert f"`{operation.method} {operation.path}`" in text
    rows = re.findall(r"^\| `([a-z]+-[0-9]{3})` \| ([0-9]{3}) \| (.+) \|$", text, re.MULTILINE)
    assert rows == [(code, str(failure.status), failure.meaning) for code, failure in FAILURES.items()]


def test_the_document_says_of_each_of_the_originals_endpoints_whether_it_is_served() -> None:
    text = DOCUMENT.read_text("utf-8")
    rows = re.findall(r"^\| `([A-Z]+) (/[^`]*)` \| (works|differs|no) \|", text, re.MULTILINE)
    served = {(one.method, re.sub(r"\{\w+\}", "{id}", one.path.removeprefix("/api/v3"))) for one in OPERATIONS}
    found = {(method, re.sub(r"\{\w+\}", "{id}", path.rstrip("/"))): word for method, path, word in rows}
    assert {endpoint for endpoint, word in found.items() if word != "no"} == served
    words = [word for _, _, word in rows]
    said = re.search(r"Of (\d+) endpoints, (\d+) work, (\d+) work differently and (\d+) are not there", text)
    assert said is not None
    assert [*map(int, said.groups())] == [len(words), *map(words.count, ("works", "differs", "no"))]


def test_every_refusal_has_a_failed_code_of_the_right_kind() -> None:
    for code, status in STATUS_OF_CODE.items():
        found = FAILURES[failed_code(ApiError(code, "detail"))]
        # In this dialect shapes are 400, and a process with too many requests says so.
        kind = {"overloaded": 4}.get(code, status // 100)
        assert found.status // 100 == kind, code
