"""The faults of the store as a whole: restored from a dump, replaced by its standby, out of disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import psycopg

from tests.eventually import PATIENCE, eventually
from tests.faults.evidence import stored_letters
from tests.faults.faults import ROLE_BACK, SERVER_BACK, Stage, fault
from tests.faults.system import ROLES
from tests.services.processes import ROOT, environment

_LASTS = 8.0


@fault("store-restored", ROLE_BACK, mixed=False)
def store_restored(stage: Stage) -> Iterator[None]:
    """Restore a dump that lacks the last seconds: everybody refuses to work on it until it is adopted."""
    postgres, file = stage.servers.postgres, stage.servers.folder / "dump"
    postgres.dump(stage.database, file)
    time.sleep(3)
    with stage.system.away(*ROLES):
        stage.run(stage.quiet())
        # What was taken out of the broker since is lost with the store.
        letters = stored_letters(postgres.database(stage.database))
        postgres.restore(stage.database, file)
    with stage.session() as conn:
        kept = {(tenant, command) for tenant, command in conn.execute("SELECT tenant, command_id FROM ledger")}
        head = _head(conn)
    stage.run(stage.restored(head, kept, letters))
    eventually(lambda: all("foldwork db adopt" in stage.system.said(role) for role in ROLES))
    with stage.session() as conn:
        stage.demand(_head(conn) == head, "something was recorded in a store that nobody had adopted")
    stage.demand(_adopt(stage) == 1, "`db adopt` without --force did not end with 1")
    stage.demand(_adopt(stage, "--force") == 0, "`db adopt --force` failed")
    yield


def _head(conn: psycopg.Connection[tuple[int]]) -> int:
    row = conn.execute("SELECT coalesce(max(notification_id), 0) FROM stored_events").fetchone()
    assert row is not None
    return row[0]


def _adopt(stage: Stage, *options: str) -> int:
    env = {**environment(), "FOLDWORK_DATABASE_URL": stage.servers.postgres.database(stage.database)}
    command = [sys.executable, "-m", "services.cli", "db", "adopt", *options]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, check=False, timeout=PATIENCE).returncode


@fault("standby-promoted", SERVER_BACK, mixed=False, times=1)
def standby_promoted(stage: Stage) -> Iterator[None]:
    """Kill the server, and promote a standby that has everything that was committed."""
    stage.servers.postgres.follow()
    time.sleep(3)
    stage.servers.postgres.promote()
    stage.servers.lead_to_postgres()
    yield


@fault("disk-full", SERVER_BACK, mixed=False, times=1)
def disk_full(stage: Stage) -> Iterator[None]:
    """Leave the database no room on its disk for some seconds; a server that ends is started again afterwards."""
    with stage.servers.small_disk() as disk:
        stage.run(stage.works())
        filler = disk / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                # The file system takes a little of it for itself.
                os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free * 9 // 10)
                # Larger than what is left in the files that there are.
                stage.begin(stage.load.burst(100, fields={"note": "x" * 20_000}))
                until = time.monotonic() + _LASTS * stage.scale
                while time.monotonic() < until:
                    with suppress(OSError):
                        file.seek(0, os.SEEK_END)
                        while time.monotonic() < until:
                            file.write(bytes(1 << 16))
                    time.sleep(0.01)
        finally:
            filler.unlink()
        stage.servers.revive_postgres()
        full = [role for role in ROLES if "No space left on device" in stage.system.said(role)]
        stage.demand(bool(full), "no role noticed that the disk was full")
        yield
