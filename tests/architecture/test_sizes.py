"""A file is small enough to be read at one go: 300 lines of the product, 400 lines of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMITS = {"domain": 300, "projections": 300, "services": 300, "tests": 400}
# Files that are longer, with the length that they must not exceed; whoever shortens one lowers or removes its entry.
LONGER: dict[str, int] = {}


def lengths(package: str) -> dict[str, int]:
    """Return the number of lines of each module of a package."""
    files = (ROOT / package).rglob("*.py")
    return {file.relative_to(ROOT).as_posix(): len(file.read_text("utf-8").splitlines()) for file in files}


@pytest.mark.parametrize("package", LIMITS)
def test_no_file_is_longer_than_its_limit(package: str) -> None:
    found = lengths(package)
    assert found
    longer = {name: length for name, length in found.items() if length > LONGER.get(name, LIMITS[package])}
    assert longer == {}


@pytest.mark.parametrize("package", LIMITS)
def test_an_exception_that_is_not_needed_any_more_is_removed(package: str) -> None:
    found = lengths(package)
    exceptions = [name for name in LONGER if name.startswith(f"{package}/")]
    assert [name for name in exceptions if found.get(name, 0) <= LIMITS[package]] == []
