"""What `foldwork projections` says of what is held back, and letting that be tried again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import psycopg
import pytest

import projections
from projections import follower_name
from projections.task import table as tasks
from services.processors import read_models
from services.store.follower import Follower
from services.store.reader import Step
from tests.eventually import PATIENCE
from tests.projections.recording import recorded, store
from tests.services.test_held_back_read_models import LATER, SCENE, mend, refuse


def run(url: str, *arguments: str, code: int = 0) -> str:
    environment = {**os.environ, "FOLDWORK_DATABASE_URL": url, "COLUMNS": "300"}
    command = [sys.executable, "-m", "services.cli", "projections", *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout if code == 0 else ended.stderr


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def held_back(migrated_url: str) -> str:
    """A database whose tasks hold one of them back, and whose relay holds back its stream."""

    def relay(_: Any, rows: Any) -> None:
        if any(row.stream == "acme/task-t1" for row in rows):
            raise ValueError("too large")

    with psycopg.connect(migrated_url, autocommit=True) as conn:
        refuse(conn, tasks, projections.suffix(tasks))
        store(conn, recorded([*SCENE, *LATER]))
        for follower in [*read_models.followers(migrated_url), Follower("relay", relay)]:
            follower.enlist(conn)
            while follower.step(conn) is Step.WORKED:
                pass
    return migrated_url


def test_what_is_held_back_is_shown_with_its_error(held_back: str) -> None:
    lines = {line["name"]: line for line in documents(run(held_back, "status", "--json"))}
    (held,) = lines["tasks"]["held"]
    assert (held["entity"], held["attempts"]) == ("acme/task-t1", 1)
    assert held["error"].startswith("CheckViolation: ")
    assert held["waiting"] == len([1 for event in SCENE + LATER if event.id == "t1"])
    assert [each["error"] for each in lines["relay"]["held"]] == ["ValueError: too large"]
    assert lines["history"]["held"] == []
    text = run(held_back, "status")
    assert text.count("acme/task-t1") == 2
    assert "too large" in text


def test_it_is_tried_again_on_demand_by_whoever_runs(held_back: str) -> None:
    with psycopg.connect(held_back, autocommit=True) as conn:
        assert "unknown follower nothing" in run(held_back, "retry", "nothing", code=1)
        follower = next(
            each
            for each in read_models.followers(held_back)
            if each.name == follower_name(tasks, projections.suffix(tasks))
        )
        while follower.step(conn) is Step.WORKED:
            pass
        mend(conn, tasks, projections.suffix(tasks))
        assert follower.step(conn) is Step.IDLE
        assert documents(run(held_back, "retry", "tasks", "--json")) == [{"name": "tasks", "entities": 1}]
        while follower.step(conn) is Step.WORKED:
            pass
    lines = {line["name"]: line for line in documents(run(held_back, "status", "--json"))}
    assert lines["tasks"]["held"] == []
    assert len(lines["relay"]["held"]) == 1
    assert run(held_back, "retry") == "1 held-back entities are tried again now.\n"
    assert run(held_back, "retry", "tasks") == "Nothing is held back.\n"


def test_a_rebuild_says_what_its_tables_hold_back(held_back: str) -> None:
    with psycopg.connect(held_back, autocommit=True) as conn:
        conn.execute("UPDATE stored_events SET state = '{}' WHERE originator_id = 'acme/task-t1'")
    assert documents(run(held_back, "rebuild", "tasks", "--json")) == [
        {"name": "tasks", "switched": True, "held_back": 1}
    ]
    assert documents(run(held_back, "rebuild", "directory", "--json")) == [
        {"name": "directory", "switched": True, "held_back": 0}
    ]
