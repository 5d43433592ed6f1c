"""docs/architecture.md names files and packages that exist, with the true number of files on each way."""

from __future__ import annotations

import re

import pytest

from tests.documents import ROOT

TEXT = (ROOT / "docs/architecture.md").read_text("utf-8")
WAYS: dict[str, tuple[int, str]] = {
    name: (int(number), body)
    for name, number, body in re.findall(r"^### ([^\n]+): (\d+) files\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE)
}


def test_every_way_has_a_number() -> None:
    assert len(WAYS) == len(re.findall(r"^### ", TEXT, re.MULTILINE)) == 7


@pytest.mark.parametrize("way", WAYS)
def test_the_files_of_a_way_are_there_and_counted(way: str) -> None:
    number, body = WAYS[way]
    lines = re.findall(r"^(\d+)\. `([^`]+)`", body, re.MULTILINE)
    files = [file for _, file in lines]
    assert [file for file in files if not (ROOT / file).is_file()] == []
    assert [int(index) for index, _ in lines] == list(range(1, number + 1))
    assert len(set(files)) == number


def test_every_package_has_a_row() -> None:
    named = re.findall(r"^\| `([a-z_/]+)/` \|", TEXT, re.MULTILINE)
    roots = ("domain", "projections", "services")
    packages = {file.parent for root in roots for file in (ROOT / root).rglob("__init__.py")}
    assert sorted(named) == sorted(str(package.relative_to(ROOT)) for package in packages)
