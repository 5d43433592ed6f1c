"""The PostgreSQL of a run: it may be killed, run out of disk, be restored from a dump, or give way to its standby."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import psutil
import psycopg
from psycopg import sql

from services.dev.postgres import EmbeddedPostgres
from tests.eventually import PATIENCE, eventually
from tests.faults.processes import Group, Unavailable
from tests.services.processes import environment

# What a small disk has room for beside the data.
_ROOM = 512 << 20


class Postgres:
    """The PostgreSQL of the wheel, with durable settings, or the standby that was promoted in its place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = EmbeddedPostgres(folder / "postgres")
        self._standby: _Standby | None = None
        self._mounted: Path | None = None
        self.url = ""

    def start(self) -> None:
        """Start it; after a kill the old server's children may still have to end."""
        if self._standby is not None:
            self._standby.start()
            return
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.url = self._server.start()
                return
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def database(self, name: str) -> str:
        """Return the URL of a database."""
        return urlsplit(self.url)._replace(path=f"/{name}").geturl()

    def session(self, name: str = "postgres") -> psycopg.Connection[Any]:
        """Return a connection that commits each statement."""
        return psycopg.connect(self.database(name), autocommit=True)

    def socket(self) -> str:
        """Return the path of the socket that it listens on."""
        query = parse_qs(urlsplit(self.url).query)
        return f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"

    def postmaster(self) -> int:
        """Return the pid of the server."""
        with self.session() as conn:
            return int(psutil.Process(conn.info.backend_pid).ppid())

    def program(self, name: str) -> str:
        """Return the path of a program that belongs to the server."""
        return str(Path(psutil.Process(self.postmaster()).exe()).parent / name)

    def data(self) -> Path:
        """Return the folder with the data."""
        with self.session() as conn:
            return Path(_one(conn, "SHOW data_directory"))

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop it by a signal: SIGINT closes well, SIGQUIT leaves at once, SIGKILL kills it."""
        server = psutil.Process(self.postmaster())
        server.send_signal(number)
        psutil.wait_procs([server], PATIENCE)
        if self._standby is None:
            self._server.stop()

    def revive(self) -> None:
        """Start it again if it has ended by itself."""
        try:
            self.session().close()
        except psycopg.OperationalError:
            self._server.stop()
            self.start()

    def close(self) -> None:
        """Stop it, and remove its data."""
        if self._standby is not None:
            self._standby.close()
        self._server.stop()
        if self._mounted is not None:
            _run("umount", str(self._mounted))
        self._server.remove()

    # A dump.

    def dump(self, name: str, file: Path) -> None:
        """Write a dump of a database, as of one moment."""
        _run(self.program("pg_dump"), "--format=custom", f"--file={file}", self.database(name))

    def restore(self, name: str, file: Path) -> None:
        """Replace a database, which nobody uses, by what a dump has."""
        with self.session() as conn:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        _run(self.program("pg_restore"), "--exit-on-error", f"--dbname={self.database(name)}", str(file))

    # A standby.

    def follow(self) -> None:
        """Start a standby, and from then on commit nothing that it does not have."""
        self._standby = _Standby(self, self._folder / "standby")
        self._standby.start()
        with self.session() as conn:
            conn.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            conn.execute("SELECT pg_reload_conf()")
            synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            eventually(lambda: _one(conn, synchronous) > 0)

    def promote(self) -> None:
        """Kill the server, and let its standby take over."""
        if self._standby is None:
            raise RuntimeError("there is no standby")
        psutil.Process(self.postmaster()).kill()
        self._server.stop()
        self.url = self._standby.url
        with self.session() as conn:
            conn.execute("SELECT pg_promote()")

    # A disk.

    @contextmanager
    def small_disk(self) -> Iterator[Path]:
        """Have the data on a disk of its own while the block runs, and give its folder.

        Raises `Unavailable` where no disk can be mounted, as by any other user than root.
        """
        mount, format_disk = shutil.which("mount"), shutil.which("mkfs.ext4")
        if os.geteuid() != 0 or mount is None or format_disk is None:
            raise Unavailable("only root can mount a disk")
        data, image, place = self.data(), self._folder / "disk", self._folder / "mounted"
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(sum(each.stat().st_size for each in data.rglob("*") if each.is_file()) + _ROOM)
        # All of it is for everyone, none kept for root.
        _run(format_disk, "-q", "-m", "0", str(image))
        if subprocess.run([mount, "-o", "loop", str(image), str(place)], check=False, capture_output=True).returncode:
            raise Unavailable("no disk can be mounted here")
        self._server.stop()
        _copy(data, place)
        _run("umount", str(place))
        _run(mount, "-o", "loop", str(image), str(data))
        self._mounted = data
        self.url = self._server.start()
        try:
            yield data
        finally:
            self._server.stop()
            _copy(data, place)
            _run("umount", str(data))
            self._mounted = None
            shutil.rmtree(data)
            place.rename(data)
            self.url = self._server.start()
            image.unlink()


class _Standby:
    """A physical copy that follows the server until it is promoted."""

    def __init__(self, primary: Postgres, folder: Path) -> None:
        owner = primary.data().stat()
        account = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        self._account, self._log = account, folder.parent / "standby.log"
        data, sockets = folder / "data", folder
        for each in (folder, data):
            each.mkdir(mode=0o700)
            os.chown(each, owner.st_uid, owner.st_gid)
        base = primary.program("pg_basebackup")
        server = urlsplit(primary.url)
        _run(base, "-d", f"{server.scheme}://{server.netloc}?{server.query}&user={server.username}", "-D", str(data),
             "-R", "-X", "stream", "-c", "fast", account=account)  # fmt: skip
        with primary.session() as conn:
            settings = dict(conn.execute("SELECT name, setting FROM pg_settings WHERE source = 'command line'"))
        settings["unix_socket_directories"] = str(sockets)
        self._command = [primary.program("postgres"), "-D", str(data)]
        self._command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.url = server._replace(query=f"host={quote(str(sockets), safe='')}&port=5432").geturl()

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._running = Group(self._command, self._log, environment(), Path("/"), self._account)

        def answers() -> bool:
            try:
                psycopg.connect(self.url).close()
            except psycopg.OperationalError:
                return False
            return True

        eventually(answers)

    def close(self) -> None:
        """Stop it."""
        self._running.signal(signal.SIGQUIT)
        self._running.end()


def _one(conn: psycopg.Connection[Any], query: str) -> Any:
    row = conn.execute(query).fetchone()
    assert row is not None
    return row[0]


def _run(*command: str, account: dict[str, Any] | None = None) -> None:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd="/", timeout=PATIENCE, **account or {}
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-1000:]}")


def _copy(source: Path, target: Path) -> None:
    """Copy a folder with its owner and its modes; what only belongs to the disk is not copied."""
    _run("cp", "-a", f"{source}/.", str(target))
    shutil.rmtree(target / "lost+found", ignore_errors=True)
