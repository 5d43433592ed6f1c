"""What is shipped: whoever installs it chooses where packages come from, and every one is checked against its hash."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.eventually import PATIENCE

ROOT = Path(__file__).parents[2]
# In pieces, so that this file does not name what no file may name.
REGISTRIES = ["pypi" + ".org", "python" + "hosted.org", "--index" + "-url", "--extra-index" + "-url"]
ROLES = {"http", "commands", "projections", "relay", "policies"}
MAIN = "from services.cli import main; main()"
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


def test_every_file_of_the_packages_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]
    missing = []
    for path in tracked():
        package, _, inner = str(path.relative_to(ROOT)).partition("/")
        if package not in {"domain", "projections", "services"} or path.suffix == ".py" or inner.startswith("dev/"):
            continue
        # In setuptools' patterns `**` means any number of folders, and in these any text.
        if not any(fnmatch.fnmatch(inner, pattern) for pattern in patterns.get(package, ())):
            missing.append(f"{package}/{inner}")
    assert missing == []


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


def test_a_change_of_the_source_leaves_the_dependencies_layers_alone() -> None:
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    first = stages[0]
    assert "AS dependencies" in first.splitlines()[0]
    copied = re.findall(r"^COPY (.+) \S+$", first, flags=re.MULTILINE)
    assert set(" ".join(copied).split()) == {"requirements.lock", "pyproject.toml"}
    # Installed there, and copied from there before anything of the source.
    assert "--require-hashes" in first
    assert "venv /opt/foldwork" in first
    copies = re.findall(r"^COPY --from=(\w+) (\S+)", stages[-1], flags=re.MULTILINE)
    assert copies == [("dependencies", "/opt/foldwork"), ("build", "/app")]
    assert "/opt/foldwork/bin/pip install" in stages[1]
    assert "--target /app" in stages[1]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what of the source an image has."""
    folder = tmp_path_factory.mktemp("image")
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    wanted = [line[1:] for line in lines if line.startswith("!")]
    left_out = {(ROOT / line).resolve() for line in lines[1:] if not line.startswith(("!", "**"))}
    for name in wanted:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name,
                folder / name,
                ignore=lambda at, names: {each for each in names if (Path(at) / each).resolve() in left_out},
            )
    return folder


# This checkout is installed here as it stands, and would lend what the folder lacks.
_IN_IMAGE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path.insert(0, "")
"""


def in_image(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("FOLDWORK_")}
    command = [sys.executable, "-c", _IN_IMAGE + program, *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=PATIENCE)


def test_an_image_leaves_out_what_it_cannot_run(image: Path) -> None:
    told = in_image(image, MAIN, "--help").stdout
    listed = set(re.findall(r"^  ([a-z]+) ", told, flags=re.MULTILINE))
    assert listed >= ROLES | {"all", "health", "send", "tail", "db", "keys"}
    assert not listed & {"dev", "demo"}
    for name in ("dev", "demo"):
        refused = in_image(image, MAIN, name)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr == f"`foldwork {name}` is for development: pip install 'foldwork[dev]'\n"


def test_what_an_image_runs_does_without_what_it_leaves_out(image: Path) -> None:
    done = in_image(image, "import services, services.roles; print(services.__file__)")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(image)
    assert not (image / "services" / "dev").exists()


def test_images_of_others_are_named_by_their_digests() -> None:
    images = re.findall(r"^    image: (.*)$", (ROOT / "compose.yaml").read_text(), flags=re.MULTILINE)
    bases = re.findall(r"^ARG \w+_IMAGE=(.*)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert (len(images), len(bases)) == (2, 1)
    for image in (*images, *bases):
        assert re.fullmatch(r"(\$\{\w+:-)?[a-z]+:[0-9.]+(-[a-z]+)?@sha256:[0-9a-f]{64}\}?", image), image


def test_compose_has_no_default_password() -> None:
    text = (ROOT / "compose.yaml").read_text()
    passwords = re.findall(r"\$\{(\w*PASSWORD\w*)(:[-?+])", text)
    assert {name for name, _ in passwords} == {"POSTGRES_PASSWORD", "POSTGRES_ADMIN_PASSWORD", "RABBITMQ_PASSWORD"}
    assert {operator for _, operator in passwords} == {":?"}
    assert not re.findall(r"(?:PASS|PASSWORD): (?!\$\{)", text)


def test_no_role_has_the_password_of_the_databases_superuser() -> None:
    text = (ROOT / "compose.yaml").read_text()
    services = blocks(blocks(text, 0)["services"], 2)
    assert [name for name, service in services.items() if "ADMIN" in service] == ["postgres"]
    (url,) = re.findall(r"FOLDWORK_DATABASE_URL: postgresql://(\w+):", text)
    (superuser,) = re.findall(r"POSTGRES_USER: (\w+)", services["postgres"])
    assert url != superuser
    assert re.search(rf"CREATE ROLE {url} LOGIN NOSUPERUSER ", (ROOT / "compose/database.sh").read_text())


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
            assert f"command: [{name}, --supervise]" in service
    assert "replicas: 2" in services["commands"]
    assert "test: [CMD, foldwork, health]" in shared
    # The API is asked itself; the others have a port for probes.
    assert "FOLDWORK_PROBE_PORT" in shared
    assert "FOLDWORK_PROBE_PORT" not in blocks(text, 0)["x-environment"] + services["http"]
