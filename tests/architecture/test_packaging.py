"""What is shipped: whoever installs it chooses where packages come from, and every one is checked against its hash."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In pieces, so that this file does not name what no file may name.
REGISTRIES = ["pypi" + ".org", "python" + "hosted.org", "--index" + "-url", "--extra-index" + "-url"]
ROLES = {"http", "commands", "projections", "relay", "policies"}
SERVICES = ROLES | {"postgres", "rabbitmq", "migrate"}


def tracked() -> list[Path]:
    """Every file that git knows or would add; without git, every file that is not hidden."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    except (subprocess.CalledProcessError, FileNotFoundError):
        return [path for path in ROOT.rglob("*") if path.is_file() and not any(map(hidden, path.parts))]
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def hidden(part: str) -> bool:
    return part.startswith(".") or part.endswith(".egg-info") or part == "__pycache__"


def lock_entries() -> dict[str, str]:
    """Each locked requirement's name with its lines."""
    lines = (ROOT / "requirements.lock").read_text().replace("\\\n", " ").splitlines()
    entries = [line for line in lines if line and not line.startswith("#")]
    return {re.split(r"[=\s]", entry, maxsplit=1)[0]: entry for entry in entries}


def canonical(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def blocks(text: str, indent: int) -> dict[str, str]:
    """The mappings at an indentation of a YAML file, each with the lines below it."""
    found: dict[str, str] = {}
    name = None
    for line in text.splitlines():
        key = re.fullmatch(rf" {{{indent}}}([\w-]+):.*", line)
        if key:
            name = key[1]
            found[name] = line + "\n"
        elif name is not None and (not line.strip() or line.startswith(" " * (indent + 1))):
            found[name] += line + "\n"
        elif line.strip():
            name = None
    return found


def test_no_file_names_a_package_index() -> None:
    naming = []
    for path in tracked():
        text = path.read_text(errors="replace")
        naming += [f"{path.relative_to(ROOT)}: {registry}" for registry in REGISTRIES if registry in text]
    assert naming == []


def test_there_is_one_lock() -> None:
    assert [path.name for path in tracked() if path.suffix == ".lock"] == ["requirements.lock"]


def test_every_locked_package_has_one_version_and_hashes() -> None:
    entries = lock_entries()
    assert entries
    for name, entry in entries.items():
        assert re.match(rf"{re.escape(name)}==[\w.+!-]+ ", entry), entry[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), f"{name} has no hash"


@pytest.mark.parametrize("table", ["build-system", "dependencies", "dev", "test"])
def test_the_lock_has_all_that_the_project_asks_for(table: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = {
        "build-system": project["build-system"]["requires"],
        "dependencies": project["project"]["dependencies"],
        "dev": project["project"]["optional-dependencies"]["dev"],
        "test": project["dependency-groups"]["test"],
    }[table]
    assert {canonical(requirement) for requirement in asked} <= set(lock_entries())


def test_an_image_runs_as_an_ordinary_user() -> None:
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    users = re.findall(r"^USER (\S+)", stages[-1], flags=re.MULTILINE)
    assert users
    assert users[-1] not in {"root", "0"}


def test_an_image_installs_from_the_lock_only() -> None:
    installs = re.findall(r"pip (?:install|download)[^\n]*", (ROOT / "Dockerfile").read_text())
    assert installs
    for command in installs:
        assert "--require-hashes" in command or "--no-index" in command


def test_compose_is_regular_yaml() -> None:
    for number, line in enumerate((ROOT / "compose.yaml").read_text().splitlines(), start=1):
        assert "\t" not in line, number
        assert (len(line) - len(line.lstrip(" "))) % 2 == 0, number
        assert not line.strip() or re.match(r"\s*(#|- |<<: \*|[\w./-]+:( |$))", line), f"{number}: {line}"
    anchors = set(re.findall(r" &(\w+)", text := (ROOT / "compose.yaml").read_text()))
    assert set(re.findall(r" \*(\w+)", text)) <= anchors


def test_compose_runs_every_role_with_a_health_check() -> None:
    text = (ROOT / "compose.yaml").read_text()
    services = blocks(blocks(text, 0)["services"], 2)
    shared = blocks(text, 0)["x-foldwork"]
    assert set(services) == SERVICES
    assert "healthcheck:" in shared
    for name, service in services.items():
        assert "healthcheck:" in service or "<<: *foldwork" in service, name
        assert "restart:" in service or "<<: *foldwork" in service, name
        if name in ROLES:
            assert "disable: true" not in service, f"{name} is not watched"
            assert re.search(rf"command: .*\b{name}\b", service)
    assert "replicas: 2" in services["commands"]
