"""An embedded PostgreSQL: a child process on a Unix socket that changes nothing outside its folders.

`data_dir` holds the lock, the log and the cluster. PostgreSQL refuses to run as root, so root runs it under a user id
of its own, from a copy of the binaries in `/var/tmp/foldwork-postgres-<version>`. If that user cannot access `data_dir`
(in the home of root, or in a private temporary folder), the cluster is in `/var/tmp/foldwork-<hash of data_dir>`, as
the file `cluster-is-in` in `data_dir` records; without that file the cluster is deleted at the next start.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

import psycopg

from services.dev import postgres_binaries as binaries
from services.dev.postgres_account import Account, hand_over, named_account, own_account
from services.dev.postgres_binaries import SHARED_FOLDER, EmbeddedPostgresError

__all__ = ["AlreadyOwned", "EmbeddedPostgres", "EmbeddedPostgresError"]

_USER = _DATABASE = "foldwork"
_NULL = subprocess.DEVNULL
_LONGEST_SOCKET_PATH = 100
_START_TIMEOUT = 120.0
_STOP_TIMEOUT = 60.0

_INITDB = [f"--username={_USER}", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]
_INITDB += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
_SETTINGS = {"listen_addresses": "", "unix_socket_permissions": "0700", "port": "5432", "max_connections": "200"}
_SETTINGS |= {"timezone": "UTC", "log_timezone": "UTC", "logging_collector": "off"}
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

# Keeps the objects alive, so that a server runs until `stop`.
_running: "set[EmbeddedPostgres]" = set()

# Its standard input is closed when this process ends, however it ends. It checks the pid, because a restart may already
# have started another server on the same cluster.
_WATCH = """read -r _
read -r pid <"$1/postmaster.pid" && [ "$pid" = "$2" ] && "$3" stop -s -m fast -t 60 -D "$1"
rmdir "$4"
"""


class AlreadyOwned(EmbeddedPostgresError):
    """Another process runs the server of this data directory."""


class EmbeddedPostgres:
    """One PostgreSQL server on one data directory, owned by this process from `start` to `stop`.

    When the process is killed, a watcher stops the server; if that fails too, the next `start` stops the orphan first.
    `fast` trades durability for speed and is for tests only.
    """

    def __init__(self, data_dir: Path, *, fast: bool = False) -> None:
        self._data_dir = data_dir.resolve()
        self._fast = fast
        self._log = self._data_dir / "postgres.log"
        self._pointer = self._data_dir / "cluster-is-in"
        self._cluster = self._data_dir / "cluster"
        self._bin = Path()
        self._account, self._initdb_account = Account(), Account()
        self._lock: IO[str] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._sockets: Path | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> str:
        """Start the server and return the libpq URL of the database `foldwork`, created when it is missing."""
        if sys.platform == "win32":
            raise EmbeddedPostgresError("the embedded PostgreSQL does not run on Windows: set FOLDWORK_DATABASE_URL")
        if self._server is not None:
            raise EmbeddedPostgresError("this embedded PostgreSQL is already started")
        try:
            self._take_over()
            self._initialise()
            return self._serve()
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError | psycopg.Error):
                raise EmbeddedPostgresError(f"the embedded PostgreSQL failed: {error}{self._log_tail()}") from error
            raise

    def stop(self) -> None:
        """Shut down the server if it is running."""
        server, self._server = self._server, None
        if server is not None:
            for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                server.send_signal(how)
                try:
                    server.wait(_STOP_TIMEOUT)
                    break
                except subprocess.TimeoutExpired:
                    continue
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.kill()
            watcher.communicate()
        sockets, self._sockets = self._sockets, None
        if sockets is not None:
            shutil.rmtree(sockets, ignore_errors=True)
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()
        _running.discard(self)

    def remove(self) -> None:
        """Stop the server or an orphan, and delete the data directory and the cluster."""
        self.stop()
        if not self._data_dir.exists():
            return
        try:
            self._take_over()
        finally:
            self.stop()
        for outside in _lines(self._pointer)[:1]:
            shutil.rmtree(outside, ignore_errors=True)
        shutil.rmtree(self._data_dir, ignore_errors=True)

    def _take_over(self) -> None:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        _running.add(self)
        self._bin = binaries.installation() / "bin"
        if os.geteuid() == 0:
            self._leave_root()
        self._end_orphan()

    def _take_lock(self) -> None:
        # The kernel releases the lock when the process ends, which a pid file cannot guarantee.
        lock = (self._data_dir / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "(pid not written yet)"
            lock.close()
            raise AlreadyOwned(f"process {owner} already runs a PostgreSQL on {self._data_dir}") from None
        self._lock = lock
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()

    def _leave_root(self) -> None:
        self._account, self._initdb_account = own_account(), named_account()
        self._bin = binaries.copy_for_everyone(self._bin.parent) / "bin"
        if not self._pointer.exists() and (self._cluster.exists() or self._reaches(self._data_dir)):
            return
        digest = hashlib.sha256(os.fsencode(self._data_dir)).hexdigest()[:16]
        outside = SHARED_FOLDER / f"foldwork-{digest}"
        binaries.own_folder(outside)
        self._cluster = outside / "cluster"
        if not self._pointer.exists():  # without the file, the cluster counts as deleted
            self._end_orphan()
            shutil.rmtree(self._cluster, ignore_errors=True)
            self._pointer.write_text(f"{outside}\n")

    def _end_orphan(self) -> None:
        """Stop the server that a killed process left on this cluster, if its pid still belongs to that server."""
        noted = self._cluster / "postmaster.pid"
        lines = _lines(noted)
        if len(lines) < 2 or not lines[0].isdigit():
            return
        command = _command(int(lines[0]))
        if command and Path(command[0]).name == "postgres":
            if str(self._cluster) in command:
                try:
                    self._run("pg_ctl", "stop", "-s", "-m", "fast", "-t", "60", "-D", str(self._cluster))
                except EmbeddedPostgresError:
                    if _lines(noted)[:1] == lines[:1]:  # otherwise the watcher has stopped it meanwhile
                        raise
        elif command is not None:
            # The pid has been reused; PostgreSQL would take that process for a server and refuse to start.
            noted.unlink(missing_ok=True)
        if len(lines) > 4 and Path(lines[4]).name.startswith("foldwork-pg-"):
            shutil.rmtree(lines[4], ignore_errors=True)

    def _initialise(self) -> None:
        self._log.write_bytes(b"")
        if self._cluster.exists():
            made_by, runs_as = self._cluster.stat().st_uid, self._account.get("user", os.geteuid())
            if self._account and made_by == self._initdb_account["user"]:
                hand_over(self._cluster, self._account)
            elif made_by != runs_as:
                raise EmbeddedPostgresError(
                    f"{self._cluster} belongs to user id {made_by}, but the server would run as {runs_as}: "
                    "start it as the user who created it, or delete the folder"
                )
            return
        # Renamed when complete, so that a killed initdb leaves no incomplete cluster under this name.
        for left_over in self._cluster.parent.glob("cluster-new-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        new = self._private_folder("cluster-new-", self._cluster.parent, self._initdb_account)
        options = [*_INITDB, *(["--no-sync"] if self._fast else [])]
        self._run("initdb", "-D", str(new), *options, account=self._initdb_account)
        hand_over(new, self._account)
        new.rename(self._cluster)

    def _serve(self) -> str:
        sockets = self._sockets = self._private_folder("foldwork-pg-", self._temporary_folder(), self._account)
        settings = _SETTINGS | {"unix_socket_directories": str(sockets)} | (_FAST if self._fast else {})
        command = [str(self._bin / "postgres"), "-D", str(self._cluster)]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            server = self._server = self._spawn(command, output=log)
        pid, pg_ctl = str(server.pid), str(self._bin / "pg_ctl")
        watch = ["/bin/sh", "-c", _WATCH, "watch", str(self._cluster), pid, pg_ctl, str(sockets)]
        self._watcher = self._spawn(watch, stdin=subprocess.PIPE)
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            lines = _lines(self._cluster / "postmaster.pid")
            if len(lines) > 7 and lines[0] == pid and lines[7].strip() == "ready":
                break
            if server.poll() is not None or time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"PostgreSQL did not start{self._log_tail()}")
            time.sleep(0.01)
        with psycopg.connect(host=str(sockets), port=5432, user=_USER, dbname="postgres", autocommit=True) as session:
            if session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone() is None:
                session.execute(f"CREATE DATABASE {_DATABASE}")
        return f"postgresql://{_USER}@/{_DATABASE}?host={quote(str(sockets), safe='')}&port=5432"

    def _temporary_folder(self) -> Path:
        for folder in (Path(tempfile.gettempdir()), Path("/tmp"), SHARED_FOLDER):  # noqa: S108
            longest = len(os.fsencode(folder / "foldwork-pg-12345678" / ".s.PGSQL.5432.lock"))
            if longest < _LONGEST_SOCKET_PATH and self._reaches(folder):
                return folder
        raise EmbeddedPostgresError("no temporary folder has a path short enough for a socket")

    def _private_folder(self, prefix: str, parent: Path, account: Account) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        hand_over(folder, account)
        return folder

    def _reaches(self, folder: Path) -> bool:
        return self._spawn(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)]).wait() == 0

    def _run(self, program: str, *arguments: str, account: Account | None = None) -> None:
        with self._log.open("ab") as log:
            status = self._spawn([str(self._bin / program), *arguments], output=log, account=account).wait()
        if status != 0:
            raise EmbeddedPostgresError(f"{program} failed with status {status}{self._log_tail()}")

    def _spawn(
        self, command: list[str], *, stdin: int = _NULL, output: IO[bytes] | int = _NULL, account: Account | None = None
    ) -> subprocess.Popen[bytes]:
        account = self._account if account is None else account
        redirecting = ("PG", "LC_", "LANG")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(redirecting)}
        return subprocess.Popen(  # noqa: S603 - fixed binaries and scripts
            command,
            stdin=stdin,
            stdout=output,
            stderr=output,
            cwd="/",
            env=environment | {"LC_ALL": "C"},
            # Ctrl-C must not reach the server, which is stopped last.
            start_new_session=True,
            user=account.get("user"),
            group=account.get("group"),
            extra_groups=account.get("extra_groups"),
        )

    def _log_tail(self) -> str:
        tail = "\n".join(_lines(self._log)[-20:])
        return f"; the end of {self._log}:\n{tail}" if tail else ""


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []


def _command(pid: int) -> list[str] | None:
    """The command line of a process: empty for a zombie, None if there is no such process."""
    import psutil  # a dependency of the wheel, which is installed at this point

    try:
        return list(psutil.Process(pid).cmdline())
    except psutil.ZombieProcess:
        return []
    except psutil.Error:
        return None
