"""`foldwork dead-letters`: what it lists, shows, sends again and discards, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.processors.arrivals import arrival
from services.store import dead_letters as stored
from tests.services.harness import rows
from tests.services.http.test_dead_letters import letter
from tests.services.processes import nursery


def put(url: str, *messages: Any) -> list[str]:
    arrivals = [arrival(each, "guest", lambda _user, _tenant: True) for each in messages]
    with psycopg.connect(url) as conn:
        stored.store(conn, arrivals)
    return [each.id for each in arrivals]


class Line:
    """The command line on one database."""

    def __init__(self, url: str, folder: Path) -> None:
        self._env = {"database_url": url, "amqp_url": "amqp://127.0.0.1:1/none"}
        self._folder = folder

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = nursery().run(self._folder, "dead-letters", *arguments, env=self._env)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 or done.stdout else done.stderr

    def json(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self(*arguments, "--json", code=code).splitlines()]


@pytest.fixture
def line(migrated_url: str, tmp_path: Path) -> Line:
    return Line(migrated_url, tmp_path)


def states(url: str) -> list[Sequence[Any]]:
    return rows(url, "SELECT message_id, state, acted_by LIKE 'cli:%%' FROM dead_letters ORDER BY arrived")


def test_letters_of_all_tenants_are_listed_grouped_and_shown(line: Line, migrated_url: str) -> None:
    mine, other = letter(), letter(message_id="c2", tenant="other")
    nobody = letter(message_id="c3", tenant="ACME", code="bad-tenant", pointer="")
    first, _, third = put(migrated_url, mine, other, nobody)
    assert [(each["message_id"], each["tenant"]) for each in line.json("list")] == [
        ("c1", "acme"), ("c2", "other"), ("c3", None),
    ]  # fmt: skip
    assert [each["message_id"] for each in line.json("list", "--tenant", "acme", "--reason", "wrong-shape")] == ["c1"]
    assert first in line("list", "--since", "2020-01-01")
    assert [each["letters"] for each in line.json("groups", "--reason", "wrong-shape")] == [2]
    assert "wrong-shape" in line("groups")
    (shown,) = line.json("show", first)
    assert (shown["data"], shown["headers"]) == ({"id": "t1", "title": 7}, {"tenant": "acme"})
    assert '"title": 7' in line("show", first)
    assert "not-retryable" in line("retry", third, code=1)


def test_a_group_is_sent_again_oldest_first_and_letters_are_discarded(line: Line, migrated_url: str) -> None:
    bad = b'{"id":"x"'
    good = [letter(b'{"id":"%d"}' % each, f"c{each}", "k", "poison", "") for each in range(3)]
    *ids, other = put(migrated_url, *good, letter(bad, "d1", "k2", "poison", ""))
    (group,) = line.json("groups")
    assert f"{other} refused: not-json" in line("retry", "--group", group["fingerprint"], code=1)
    assert states(migrated_url) == [*((f"c{each}", "retrying", True) for each in range(3)), ("d1", "parked", None)]
    assert "older-letter" not in line("list", "--state", "all")
    assert f"{other} is discarded" in line("discard", other, "--reason", "a test")
    assert states(migrated_url)[3] == ("d1", "discarded", True)
    recorded = rows(migrated_url, "SELECT count(*) FROM stored_events WHERE topic = 'operation.recorded'")
    assert recorded == [(2,)]
    assert line.json("retry", ids[0], code=1)[0]["error"]["code"] == "not-parked"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["retry"], "by their ids, or a group"),
        (["retry", "x", "--group", "y"], "by their ids, or a group"),
        (["retry", "x"], "not-found"),
        (["retry", "x", "--data", "{"], "not-json"),
        (["retry", "x", "--data", "[]"], "an object of JSON"),
        (["retry", "x", "--data", "{}", "--merge", "{}"], "or a change of it"),
        (["retry", "x", "y", "--dry-run"], "a single letter"),
        (["discard", "x", "--reason", " "], "invalid"),
        (["discard", "x", "--reason", "y"], "not-found"),
        (["show", "x"], "not-found"),
        (["list", "--state", "lost"], "a state is one of"),
        (["list", "--since", "yesterday"], "is no time"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(line: Line, arguments: list[str], said: str) -> None:
    told = line(*arguments, code=1)
    assert said.lower() in told.lower()
    assert len(told.splitlines()) == 1
