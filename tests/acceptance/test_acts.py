"""Each command that changes something leaves an act with its outcome; what fails leaves the reason."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

import projections
from projections.task import table as tasks
from services.processors.arrivals import arrival
from services.store import dead_letters, webhooks
from services.store.connect import connect
from services.store.migrate import upgrade
from services.store.operations import Operation, record
from tests.acceptance.running import dev
from tests.acceptance.test_documentation import blocks
from tests.acceptance.test_documentation import run as typed
from tests.databases import Databases
from tests.eventually import eventually
from tests.services.harness import rows
from tests.services.http.test_dead_letters import letter
from tests.services.processes import nursery

ACTOR = f"cli:{getpass.getuser()}"


class Cli:
    """The command line on a database."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self._folder = url, folder

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command, and return what it prints."""
        # No command that is run here needs the broker; some read all settings.
        env = {"database_url": self.url, "amqp_url": "amqp://guest:guest@127.0.0.1:1/"}
        done = nursery().run(self._folder, *arguments, env=env)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def acts(self, *arguments: str) -> list[dict[str, Any]]:
        """The acts that are listed, the newest first."""
        return [json.loads(line) for line in self.run("audit", *arguments, "--json").splitlines()]


@pytest.fixture
def cli(migrated_url: str, tmp_path: Path) -> Cli:
    return Cli(migrated_url, tmp_path)


def told(act: dict[str, Any]) -> tuple[str, str, str, str]:
    return act["act"], act["target"], act["outcome"], act["actor"]


def test_keys_that_are_created_and_revoked(cli: Cli) -> None:
    made = json.loads(cli.run("keys", "create", "--tenant", "acme", "--role", "operator", "--name", "n", "--json"))
    key = f"key/{made['id']}"
    cli.run("keys", "revoke", made["id"])
    assert "no usable key" in cli.run("keys", "revoke", made["id"], code=1)
    failed, revoked, created = cli.acts("--tenant", "acme")
    assert told(created) == ("key.create", key, "succeeded", ACTOR)
    assert created["details"] == {
        "actor": "system", "permissions": ["read", "operate", "audit"], "name": "n", "expires_at": None
    }  # fmt: skip
    assert told(revoked) == ("key.revoke", key, "succeeded", ACTOR)
    assert told(failed) == ("key.revoke", key, "failed", ACTOR)
    assert failed["reason"] == f"OperatorError: there is no usable key {made['id']}"
    # Of an unknown key it is not known whose it is.
    cli.run("keys", "revoke", "0123456789abcdef", code=1)
    (unknown,) = cli.acts("--system")
    assert told(unknown) == ("key.revoke", "key/0123456789abcdef", "failed", ACTOR)
    secret = made["token"].split("_", 2)[2]
    assert len(secret) == 43
    assert secret not in str(rows(cli.url, "SELECT convert_from(state, 'UTF8') FROM stored_events"))


def test_a_token_is_not_taken_for_the_id_of_a_key(cli: Cli) -> None:
    token = "fw_0123456789abcdef_" + "x" * 43
    assert "x" * 43 not in cli.run("keys", "revoke", token, code=1)
    assert rows(cli.url, "SELECT FROM stored_events") == []


def test_a_key_that_cannot_be_made_leaves_a_failure_and_no_key(cli: Cli) -> None:
    with psycopg.connect(cli.url) as conn:
        conn.execute("ALTER TABLE api_keys ADD CONSTRAINT refused CHECK (name <> 'refused')")
    cli.run("keys", "create", "--tenant", "acme", "--name", "refused", code=1)
    (failed,) = cli.acts("--tenant", "acme")
    assert (failed["act"], failed["outcome"]) == ("key.create", "failed")
    assert failed["reason"].startswith("CheckViolation: ")
    # What is refused for what it says is no act.
    cli.run("keys", "create", "--tenant", "acme", "--permission", "nonsense", code=1)
    cli.run("keys", "create", "--tenant", "_system", code=1)
    assert len(cli.acts("--tenant", "acme")) == 1
    with psycopg.connect(cli.url) as conn:
        conn.execute("ALTER TABLE api_keys DROP CONSTRAINT refused")


def test_a_rebuild_is_recorded_at_its_start_and_its_end(cli: Cli) -> None:
    cli.run("projections", "rebuild", "tasks")
    cli.run("projections", "rebuild", "nope", code=1)
    failed, again, ended, begun = cli.acts("--system")
    assert told(begun) == ("read-model.rebuild", "read-model/tasks", "started", ACTOR)
    assert told(ended) == ("read-model.rebuild", "read-model/tasks", "succeeded", ACTOR)
    assert ended["details"] == {"switched": True, "held_back": 0}
    assert begun["operation_id"] == ended["operation_id"]
    assert (again["outcome"], failed["outcome"]) == ("started", "failed")
    assert failed["reason"].startswith("UnknownReadModel: unknown read model nope")


def test_what_is_held_back_and_retried(cli: Cli) -> None:
    follower = f"{tasks.NAME}_{projections.suffix(tasks)}"
    cli.run("projections", "retry")
    assert rows(cli.url, "SELECT FROM stored_events") == []
    with psycopg.connect(cli.url) as conn:
        conn.execute(
            "INSERT INTO held_entities (follower, entity, position, error, retry_at)"
            " VALUES (%s, 'acme/task-t1', 1, 'E: x', now() + interval '1 hour')",
            (follower,),
        )
    cli.run("projections", "retry", "tasks")
    (act,) = cli.acts("--system")
    assert told(act) == ("held-back.retry", f"follower/{follower}", "succeeded", ACTOR)
    assert act["details"] == {"entities": 1}


def test_upgrades_and_adoptions_of_a_database(databases: Databases, tmp_path: Path) -> None:
    url = databases.create()
    cli = Cli(url, tmp_path)
    cli.run("db", "upgrade")
    cli.run("db", "upgrade")
    (upgraded,) = cli.acts("--system")
    assert told(upgraded) == ("database.upgrade", "database/schema", "succeeded", ACTOR)
    assert "0001_log" in upgraded["details"]["applied"]
    with psycopg.connect(url) as conn:
        conn.execute("UPDATE log_identity SET place = 'elsewhere'")
    cli.run("keys", "create", "--tenant", "acme", code=1)
    assert rows(url, "SELECT FROM api_keys") == []
    assert cli.run("db", "adopt", code=1) == ""
    cli.run("db", "adopt", "--force")
    adopted, _ = cli.acts("--system")
    (identity,) = rows(url, "SELECT id::text FROM log_identity")
    assert told(adopted) == ("database.adopt", f"database/{identity[0]}", "succeeded", ACTOR)
    assert adopted["details"] == {"epoch": 2, "copied": True, "common": 1, "moved": []}
    databases.drop(url)


def test_an_upgrade_by_a_program_is_no_act(databases: Databases) -> None:
    url = databases.create()
    upgrade(url)
    assert rows(url, "SELECT FROM stored_events") == []
    databases.drop(url)


def test_the_audit_is_filtered_and_bounded(cli: Cli) -> None:
    for number in range(3):
        with connect(cli.url, "test") as conn:
            record(conn, Operation("acme", "ann", "key.create", f"key/{number}", key_id="0123456789abcdef"))
    assert [act["target"] for act in cli.acts("--tenant", "acme", "--limit", "2")] == ["key/2", "key/1"]
    assert [act["target"] for act in cli.acts("--tenant", "acme", "--target", "key/0")] == ["key/0"]
    assert cli.acts("--tenant", "acme", "--until", "2020-01-01T00:00:00Z") == []
    shown = cli.run("audit", "--tenant", "acme", "--act", "key.create")
    assert shown.count("ann (key 0123456789abcdef)") == 3
    for wrong, said in (
        ((), "Name the tenant with --tenant"),
        (("--tenant", "acme", "--system"), "Name the tenant with --tenant"),
        (("--tenant", "_system"), "a tenant is"),
        (("--tenant", "acme", "--since", "yesterday"), "--since is a time"),
        (("--tenant", "acme", "--outcome", "done"), "--outcome is one of"),
    ):
        assert said in cli.run("audit", *wrong, code=1), wrong


def test_the_audit_is_read_as_its_page_says(tmp_path: Path) -> None:
    (where,) = [text for text in blocks("README.md", "sh") if text.startswith("URL=")]
    with dev(tmp_path):
        done = typed(tmp_path, "\n".join((*where.splitlines()[:2], *blocks("docs/audit.md", "sh"))))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "read-model/tasks" in done.stdout
    assert done.stdout.count('"act": "key.create"') == 1
    page = json.loads(done.stdout.splitlines()[-1])
    assert page["data"][0]["details"]["permissions"] == ["audit"]
    assert page["next"]


def test_what_is_stuck_is_found_as_its_page_says(tmp_path: Path) -> None:
    (where,) = [text for text in blocks("README.md", "sh") if text.startswith("URL=")]
    late, find = blocks("docs/stuck.md", "sh")
    variables = "\n".join(where.splitlines()[:2])
    with dev(tmp_path):
        made = typed(tmp_path, late)
        assert made.returncode == 0, made.stdout + made.stderr

        def found() -> str:
            done = typed(tmp_path, f"{variables}\n{find}")
            assert done.returncode == 0, done.stdout + done.stderr
            assert "task late" in done.stdout
            return done.stdout

        told = eventually(found)
        page = json.loads(told.splitlines()[-1])
        assert page["data"][0] == json.loads(blocks("docs/stuck.md", "json")[0])["data"][0]
        command = page["data"][0]["remedy"]["command"]
        line = f"foldwork send {command['type']} --wait --data '{json.dumps(command['data'])}'"
        assert typed(tmp_path, line).returncode == 0

        def gone() -> None:
            assert "Nothing is stuck." in typed(tmp_path, "foldwork stuck --cause task-overdue").stdout

        eventually(gone)


def test_what_is_stuck_on_the_command_line(cli: Cli) -> None:
    assert "Nothing is stuck." in cli.run("stuck", "--tenant", "acme", "--cause", "task-overdue")
    listed = [json.loads(line) for line in cli.run("stuck", "--tenant", "acme", "--json").splitlines()]
    assert [each["resource"]["id"] for each in listed] == ["commands", "policies", "projections", "relay"]
    assert "role-absent: 4" in cli.run("stuck", "--tenant", "acme")
    for wrong, said in (
        ((), "Name the tenant with --tenant"),
        (("--tenant", "_system"), "a tenant is"),
        (("--tenant", "acme", "--cause", "bored"), "unknown cause bored"),
    ):
        assert said in cli.run("stuck", *wrong, code=1), wrong


@pytest.mark.parametrize("cause", ["command-parked", "webhook-disabled", "delivery-parked"])
def test_the_command_line_of_a_remedy_can_be_run_as_it_is(cli: Cli, cause: str) -> None:
    with psycopg.connect(cli.url) as conn:
        if cause == "command-parked":
            poison = letter(b'{"id":"t1"}', code="poison", pointer="")
            dead_letters.store(conn, [arrival(poison, "guest", lambda _user, _tenant: True)])
        else:
            webhooks.create(conn, "acme", "h1", "https://example.com/", {}, "", "system")
        if cause == "webhook-disabled":
            conn.execute("UPDATE webhooks SET state = 'disabled'")
        elif cause == "delivery-parked":
            conn.execute(
                "INSERT INTO webhook_deliveries (tenant, webhook, position, entity, event_id, state, next_at, tried_at)"
                " VALUES ('acme', 'h1', 7, 'acme/activity-a1', 'e1', 'parked', now(), now())"
            )
    asked = ("stuck", "--tenant", "acme", "--cause", cause)
    line = json.loads(cli.run(*asked, "--json"))["remedy"]["cli"]
    assert line in " ".join(cli.run(*asked).split())
    cli.run(*line.split()[1:])
    assert "Nothing is stuck." in cli.run(*asked)
