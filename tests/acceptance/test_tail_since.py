"""`foldwork tail --since`: the log from a position or a time on, and then what is recorded."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.store import log
from tests.acceptance.terminal import typed
from tests.services.http.recording import record
from tests.services.processes import nursery
from tests.services.proxy import database_proxy


def tail(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return nursery().run(folder, "tail", *arguments, env={"database_url": url})


def positions(text: str) -> list[int]:
    return [json.loads(line)["position"] for line in text.splitlines()]


def test_the_log_from_a_position_on(migrated_url: str, tmp_path: Path) -> None:
    record(migrated_url, 3)
    record(migrated_url, 2, tenant="other")
    done = tail(migrated_url, tmp_path, "--since", "1", "--count", "3", "--json")
    assert (done.returncode, positions(done.stdout)) == (0, [2, 3, 4]), done.stderr
    assert done.stderr == "following the log after position 1\n"
    done = tail(migrated_url, tmp_path, "--since", "0", "--pattern", "other.#", "--count", "1")
    assert done.stdout.split()[:2] == ["4", "task.created"]


def test_what_is_recorded_later_comes_too_and_an_outage_is_waited_for(migrated_url: str, tmp_path: Path) -> None:
    record(migrated_url, 2)
    with database_proxy(migrated_url) as (proxy, url):
        env = {"FOLDWORK_DATABASE_URL": url}
        line = ("tail", "--since", "1", "--json", "--count", "5")
        with typed(*line, folder=tmp_path, on_terminal=False, env=env) as run:
            run.until('"position":2')
            record(migrated_url, 1)
            run.until('"position":3')
            proxy.down()
            record(migrated_url, 2)
            run.until("lost")
            proxy.up()
            run.until('"position":5')
            record(migrated_url, 1)
            assert run.end() == 0, run.said
        assert positions(run.out) == [2, 3, 4, 5, 6]


def test_it_lasts_until_it_is_interrupted(migrated_url: str, tmp_path: Path) -> None:
    env = {"FOLDWORK_DATABASE_URL": migrated_url}
    with typed("tail", "--since", "0", folder=tmp_path, on_terminal=False, env=env) as run:
        run.until("following the log after position 0")
        record(migrated_url, 1)
        run.until("task.created")
        run.interrupt()
        assert run.end() == 130, run.said
    assert "Traceback" not in run.said


@pytest.mark.parametrize("since", ["yesterday", "-1", "", "2026-01-31", "2026-01-31T09:00:00", "9" * 20])
def test_what_is_no_position_and_no_time_is_wrong_usage(migrated_url: str, tmp_path: Path, since: str) -> None:
    done = tail(migrated_url, tmp_path, f"--since={since}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "a position, or a time such as" in " ".join(done.stderr.split())


def test_a_position_beyond_the_end_is_refused(migrated_url: str, tmp_path: Path) -> None:
    record(migrated_url, 2)
    done = tail(migrated_url, tmp_path, "--since", "3")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "the log ends at position 2\n")


def test_the_position_before_a_time(conn: psycopg.Connection[Any]) -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    assert log.position_before(conn, began) == 0
    # A transaction that began later may get the append lock first.
    seconds = [0, 100, 200, 190, 201, 300, 400, 400]
    record(conn.info.dsn, len(seconds))
    for position, second in enumerate(seconds, 1):
        conn.execute(
            "UPDATE stored_events SET recorded_at = %s WHERE notification_id = %s",
            (began + timedelta(seconds=second), position),
        )
    for wanted in (-1, 0, 1, 100, 190, 195, 200, 201, 202, 399, 400, 401):
        instant = began + timedelta(seconds=wanted)
        expected = next((at for at, second in enumerate(seconds) if second >= wanted), len(seconds))
        assert log.position_before(conn, instant) == expected, wanted
