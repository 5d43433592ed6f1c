"""Every command that does something is an act: it is recorded once, whatever comes of it, as it is over HTTP."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

import projections
from projections import deadlines
from projections.task import table as tasks
from services.roles import ROLES
from tests.acceptance.test_command_line import SECRET_KEY, TYPED, line_of
from tests.services.harness import rows
from tests.services.http.test_acts import REFUSING
from tests.services.processes import nursery

# The commands that only read, and those whose doings are no acts: roles, and `send`. Any other one is an act.
NO_ACTS = {
    *ROLES,
    *("all", "dev", "demo", "health", "send", "tail", "verify", "audit", "stuck", "effects", "tenants"),
    *(
        "projections status",
        "db status",
        "keys list",
        "webhooks list",
        "webhooks deliveries",
        "bulk list",
        "bulk watch",
        "bulk items",
    ),
    *("dead-letters list", "dead-letters groups", "dead-letters show"),
}
ACTS = [name for name in TYPED if name not in NO_ACTS]
# What is typed where the line of the other tests would change nothing, and what it works on.
LINES = {"db adopt": "db adopt --force"}
FOLLOWER = f"{tasks.NAME}_{projections.suffix(tasks)}"
STORED = {
    "projections retry": "INSERT INTO held_entities (follower, entity, position, error, retry_at)"
    f" VALUES ('{FOLLOWER}', 'acme/task-t1', 1, 'E: x', now() + interval '1 hour')",
    "webhooks resume": "UPDATE webhooks SET state = 'paused'",
    # As before the release that brings a read model.
    "db upgrade": f"DELETE FROM read_models WHERE name = '{deadlines.NAME}'; "
    + "; ".join(f"DROP TABLE {stem}_{projections.suffix(deadlines)} CASCADE" for stem in deadlines.VIEWS),
}
# The commands that name something that may not be there.
NAMING = [
    name for name in ACTS if name.partition(" ")[0] != "db" and name.partition(" ")[2] not in ("create", "preview")
]
NOBODY = "0123456789abcdef"


class Shell:
    """The command line on a database."""

    def __init__(self, url: str, amqp_url: str, folder: Path) -> None:
        self.url, self._folder = url, folder
        self._env = {"database_url": url, "amqp_url": amqp_url, "secret_key": SECRET_KEY}

    def run(self, *words: str) -> tuple[int, str]:
        """Run a command, and return its exit status and all that it says."""
        done = nursery().run(self._folder, *words, env=self._env)
        return done.returncode, done.stdout + done.stderr

    def acts(self) -> list[dict[str, Any]]:
        """Return the acts of all tenants, the newest first."""
        found = rows(
            self.url,
            "SELECT convert_from(state, 'UTF8') FROM stored_events WHERE topic = 'operation.recorded'"
            " ORDER BY notification_id DESC",
        )
        return [{**state["data"], "actor": state["meta"]["actor"]} for state in (json.loads(text) for (text,) in found)]


@pytest.fixture
def shell(migrated_url: str, development_url: str, tmp_path: Path) -> Shell:
    return Shell(migrated_url, development_url, tmp_path)


def words_of(shell: Shell, name: str) -> list[str]:
    """Prepare what a command works on, and return what is typed."""
    words = line_of(name, shell.url, "")
    if name in STORED:
        with psycopg.connect(shell.url) as conn:
            conn.execute(STORED[name].encode())
    return LINES[name].split() if name in LINES else words


@pytest.mark.parametrize("name", ACTS)
def test_what_is_done_is_recorded_once(shell: Shell, name: str) -> None:
    status, said = shell.run(*words_of(shell, name))
    assert status == TYPED[name].status, said
    found = shell.acts()
    assert [each["outcome"] for each in found] in (["succeeded"], ["succeeded", "started"])
    assert {each["actor"] for each in found} == {f"cli:{getpass.getuser()}"}


@pytest.mark.parametrize("name", [name for name in ACTS if name != "webhooks ping"])
def test_what_fails_is_recorded_with_the_reason(shell: Shell, name: str) -> None:
    words = words_of(shell, name)
    with psycopg.connect(shell.url) as conn:
        conn.execute(REFUSING)
    status, said = shell.run(*words)
    assert (status, said.count("\n")) == (1, 1), said
    failed, *begun = shell.acts()
    assert [each["outcome"] for each in begun] in ([], ["started"])
    assert (failed["outcome"], failed["reason"]) == ("failed", "RaiseException: out of order")


@pytest.mark.parametrize("name", NAMING)
def test_what_is_refused_is_recorded_with_the_reason(shell: Shell, name: str) -> None:
    command = name.split()
    _, *rest = words_of(shell, name)[len(command) :]
    status, said = shell.run(*command, NOBODY, *rest)
    assert (status, said.count("\n")) == (1, 1), said
    failed, *begun = shell.acts()
    assert [each["outcome"] for each in begun] in ([], ["started"])
    assert (failed["outcome"], failed["target"].partition("/")[2]) == ("failed", NOBODY)
    assert failed["reason"]


def test_of_several_letters_the_refused_are_named(shell: Shell) -> None:
    line_of("dead-letters retry", shell.url, "")
    with psycopg.connect(shell.url) as conn:
        conn.execute(
            "INSERT INTO dead_letters (id, tenant, arrived, key, headers, body, bytes, sha256, code, detail, pointer,"
            " fingerprint) SELECT id, tenant, id, 'k', '{}', '{}', 2, '', 'bad-header', 'x', '', 'f'"
            " FROM (VALUES ('l2', 'acme'), ('l3', 'other'), ('l4', NULL)) AS n (id, tenant)"
        )
    status, said = shell.run("dead-letters", "retry", "l4", "l3", "l2", "l1", "nobody")
    assert status == 1
    assert [line for line in said.splitlines() if "refused" not in line] == ["l1 is sent again"]
    found = {(each["target"], each["outcome"]): each for each in shell.acts()}
    acme = found["dead-letters", "succeeded"]
    assert acme["details"]["letters"] == ["l1"]
    assert acme["details"]["refused"] == {"l2": "not-retryable"}
    assert found["dead-letter/l3", "failed"]["reason"].startswith("not-retryable: ")
    # The letter of no tenant, and the one that is not there.
    assert found["dead-letters", "failed"]["details"]["refused"] == {"l4": "not-retryable", "nobody": "not-found"}
