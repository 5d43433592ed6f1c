"""docs/extending.md keeps its word: each patch beside it applies, passes its own tests and touches as few files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import patches
from tests.eventually import LATE

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "extending.md").read_text("utf-8")
PATCHES = ROOT / "docs" / "extending"
# How many files of the product each touches, and the tests that it is held against.
PRODUCT = ("domain/", "projections/", "services/")
ADDED = {
    "command": (2, ["tests/domain/test_snoozing.py", "tests/domain/test_contract.py", "tests/domain/test_lifecycle.py",
                    "tests/domain/test_events_samples.py"]),
    "read_model": (2, ["tests/projections/test_workload.py", "tests/services/test_held_back_read_models.py"]),
    "filter": (2, ["tests/services/http/test_late.py"]),
    "dialect": (4, ["tests/services/http/test_todo.py", "tests/services/http/test_contract.py",
                    "tests/services/http/test_contract_bodies.py", "tests/services/http/test_contract_documents.py",
                    "tests/services/http/test_contract_queries.py", "tests/services/http/test_contract_writes.py"]),
}  # fmt: skip
# Of the tests that stood there before, those of what is added.
CHOSEN = {"command": "snooze or contract or answer", "read_model": "workload", "dialect": "todo"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of all that the tests of a patch need."""
    for name in ("domain", "projections", "services", "tests", "pyproject.toml"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def run(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the tree, and nothing of the one that this test is a part of."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    env["PYTHONPATH"] = str(tree)
    return subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=env, capture_output=True, text=True, timeout=LATE, check=False
    )


def patch_of(name: str) -> str:
    """Return a patch by its name."""
    return (PATCHES / f"{name}.patch").read_text("utf-8")


@pytest.mark.timeout(LATE)
@pytest.mark.parametrize("name", ADDED)
def test_a_patch_of_the_document_applies_and_passes_its_tests(tree: Path, name: str) -> None:
    count, tests = ADDED[name]
    changed = patches.apply(patch_of(name), tree)
    product = [path for path in changed if path.startswith(PRODUCT)]
    assert len(product) == count
    # The document names every file.
    for path in product:
        assert f"`{path}`" in DOCUMENT, path
    chosen = ["-k", CHOSEN[name]] if name in CHOSEN else []
    done = run(tree, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n", "0", *tests, *chosen)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    ran = run(tree, "-c", "import domain; print(domain.__file__)")
    assert ran.stdout.startswith(str(tree))


def test_the_document_has_a_part_for_each_patch() -> None:
    assert set(re.findall(r"\(extending/(\w+)\.patch\)", DOCUMENT)) == set(ADDED)
    assert {path.stem for path in PATCHES.glob("*.patch")} == set(ADDED)


ROW = "domain/lifecycle.py"
# What of the patch is left out: a line, or what stands in its place.
MISSING: dict[str, dict[str, str | None]] = {
    "its summary": {'        "Put off a task that nobody is working on.",': '        "",'},
    "who may give it": {"        _INVOLVED,": "        None,"},
    "its decision": {"@decides(SnoozeTask)": None},
    "its class": {'@TASK.command("task.snooze")': None, "@decides(SnoozeTask)": None},
    "its event's arm": {
        "_Event = TaskSnoozed | TaskRescheduled | TaskBecameOverdue | TaskWakeSet": (
            "_Event = TaskRescheduled | TaskBecameOverdue | TaskWakeSet"
        )
    },
}


def error_of(tree: Path, patch: str) -> str:
    """Return what Python says when it imports the domain with this patch."""
    patches.apply(patch, tree)
    done = run(tree, "-c", "import domain")
    assert done.returncode == 1
    name, _, said = done.stderr.strip().splitlines()[-1].partition(": ")
    assert name == "domain.lifecycle.MissingPart"
    return said


@pytest.mark.parametrize("part", MISSING)
def test_a_command_without_a_part_is_refused_by_the_name_of_the_part(tree: Path, part: str) -> None:
    patch = patch_of("command")
    for line, instead in MISSING[part].items():
        assert f"+{line}\n" in patch
        patch = patch.replace(f"+{line}\n", "" if instead is None else f"+{instead}\n", 1)
    assert f"`{error_of(tree, patch)}`" in DOCUMENT


def test_a_command_without_a_row_is_refused(tree: Path) -> None:
    parts = re.split(r"(?m)^(?=diff --git )", patch_of("command"))
    patch = "".join(part for part in parts if f" b/{ROW}\n" not in part)
    assert f"`{error_of(tree, patch)}`" in DOCUMENT
