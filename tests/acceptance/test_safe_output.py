"""What the command line prints: nothing that a terminal acts on, whatever tenants say, and lines that can be typed."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path

import psycopg
import pytest
from typer.main import get_command

from services.cli.app import app
from services.cli.lines import safe
from services.command_line import command_line
from services.store import operations
from services.store.causes import SOURCES, Row
from services.store.connect import connect
from tests.acceptance.running import ROOT
from tests.acceptance.test_command_line import SECRET_KEY, TYPED, line_of
from tests.services.harness import declare
from tests.services.processes import nursery

# Clears the screen, colours, ends a line, begins one anew, turns the direction of text.
HOSTILE = "a\x1b[2J\x1b]0;owned\x07\x9b31mb\r\n\u202ec\u2028d\x7f"
ACTED_ON = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
LISTED = ("dead_letters", "bulk_actions", "bulk_items", "webhooks", "webhook_deliveries", "held_entities", "api_keys")
# What the service itself has a say in: ids, states, and what is compared or converted.
OWN = {
    *("tenant", "id", "state", "bulk_id", "webhook", "follower", "entity", "serving", "digest", "permissions"),
    *("entity_id", "routing_key", "rate", "arrived", "on_change", "command", "secret", "old_secret", "seed"),
}


def spoil(url: str) -> None:
    """Put a hostile text wherever a text of somebody else may be stored in what is listed."""
    with psycopg.connect(url) as conn:
        conn.execute(
            "INSERT INTO held_entities (follower, entity, position, error, retry_at)"
            " SELECT name, 'acme/task-t1', 1, 'x', now() FROM followers WHERE name LIKE 'tasks%'"
        )
        conn.execute("UPDATE followers SET error = %s", (HOSTILE,))
        for table in LISTED:
            columns = conn.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND data_type = 'text'"
                " AND table_schema = current_schema()",
                (table,),
            ).fetchall()
            for (column,) in columns:
                if column not in OWN:
                    conn.execute(f"UPDATE {table} SET {column} = %s".encode(), (HOSTILE,))
        conn.execute("UPDATE dead_letters SET body = %s", (json.dumps({"title": HOSTILE}).encode(),))
    with connect(url, "test") as conn:
        conn.execute("UPDATE webhook_deliveries SET answer = %s, state = 'parked'", (HOSTILE,))
        operations.record(conn, operations.Operation("acme", "ann", "key.create", "key/1", details={"name": HOSTILE}))


LISTING = [
    *("projections status", "audit", "stuck", "dead-letters list", "dead-letters groups", "dead-letters show"),
    *("bulk watch", "bulk items", "webhooks list", "webhooks deliveries", "keys list"),
]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("name", LISTING)
def test_nothing_that_a_terminal_acts_on_is_printed(
    migrated_url: str, development_url: str, tmp_path: Path, name: str, as_json: bool
) -> None:
    words = line_of(name, migrated_url, development_url)
    spoil(migrated_url)
    env = {"database_url": migrated_url, "amqp_url": development_url, "secret_key": SECRET_KEY}
    done = nursery().run(tmp_path, *words, *(("--json",) if as_json else ()), env=env)
    assert done.returncode == TYPED[name].status, done.stdout + done.stderr
    assert ACTED_ON.findall(done.stdout) == []
    # It is there, in a form that shows what it was.
    assert "owned" in done.stdout
    if as_json:
        assert [json.loads(line) for line in done.stdout.splitlines()]


def test_a_refusal_is_one_line_whatever_it_quotes(migrated_url: str, development_url: str, tmp_path: Path) -> None:
    asyncio.run(declare(development_url))
    env = {"database_url": migrated_url, "amqp_url": development_url}
    for words in (
        ("dead-letters", "show", HOSTILE),
        ("dead-letters", "retry", HOSTILE),
        ("send", "task.create", "--tenant", "acme", "--data", json.dumps({HOSTILE: 1})),
        ("projections", "retry", HOSTILE),
        ("stuck", "--tenant", "acme", "--cause", HOSTILE),
    ):
        done = nursery().run(tmp_path, *words, env=env)
        said = done.stdout + done.stderr
        assert (done.returncode, said.count("\n")) == (1, 1), said
        assert ACTED_ON.findall(said) == []


def test_all_output_goes_through_one_place() -> None:
    printing = {
        path.name
        for path in (ROOT / "services/cli").glob("*.py")
        if re.search(r"typer\.echo|\bprint\(|sys\.stdout\.write", path.read_text("utf-8"))
    }
    # Those beside it print without what `typer` needs.
    assert printing == {"common.py", "__init__.py", "health.py"}


def test_a_safe_line_is_one_line_and_the_same_json() -> None:
    assert safe(HOSTILE).isprintable()
    # What holds letters and pictures together is left as it is.
    ordinary = "f\u00fcr \u65e5\u672c\u3000\u8a9e \U0001f469\u200d\U0001f680 \u0645\u06cc\u200c\u062e"
    assert safe(ordinary) == ordinary
    told = json.dumps({"a": HOSTILE + "\\\x9b\ud800"}, ensure_ascii=False)
    assert json.loads(safe(told)) == json.loads(told)
    assert safe(told).encode()


# Lines that are to be typed.

IDS = [
    "h1",
    "-x",
    "--tenant",
    "it's",
    'a "b"',
    "a b",
    "a\nb",
    "$(reboot)",
    "`x`",
    "a;b",
    "*",
    "~",
    "\x1b[2J",
    "\\",
    "é\u2028",
    "",
]


def typed(line: str) -> list[str]:
    """Return the words that a shell makes of a line."""
    shown = subprocess.run(
        ["bash", "-c", f"foldwork() {{ printf '%s\\0' \"$@\"; }}; {line}"], capture_output=True, check=True
    )
    return shown.stdout.decode().split("\0")[:-1]


def parsed(words: list[str]) -> dict[str, object]:
    """Return the parameters that the command line makes of words, without those that were not given."""
    command, rest = get_command(app), words
    while getattr(command, "commands", None):
        command, rest = command.commands[rest[0]], rest[1:]  # type: ignore[attr-defined]
    context = command.make_context("foldwork", [*rest])
    return {name: value for name, value in context.params.items() if value not in (None, (), [])}


@pytest.mark.parametrize("entity", IDS)
def test_a_remedy_can_be_typed_whatever_the_id(entity: str) -> None:
    for source in SOURCES:
        tenant = "-acme" if source.kind == "webhook" else None
        of = {"role": "commands", "webhook": f"{tenant} 7", "entity": entity, "dead-letter": entity}.get(source.kind)
        remedy = source.remedy(Row(entity, None, entity, None, None, None, None, of))
        if remedy.cli is None:
            continue
        assert safe(remedy.cli) == remedy.cli
        words = typed(remedy.cli)
        # A role is named by the command itself.
        given = parsed(words)
        if source.kind in ("webhook", "dead-letter", "entity"):
            assert {entity, (entity,)} & {*_hashable(given)}, (words, given)
        if tenant is not None:
            assert given["tenant"] == tenant


def _hashable(given: dict[str, object]) -> list[object]:
    return [tuple(each) if isinstance(each, list) else each for each in given.values()]


@pytest.mark.parametrize("entity", IDS)
def test_a_command_of_a_remedy_can_be_typed_whatever_the_id(entity: str) -> None:
    data = json.dumps({"id": entity})
    given = parsed(typed(command_line("send", "task.retry", tenant="acme", data=data)))
    assert (given["name"], given["tenant"], json.loads(str(given["data"]))) == ("task.retry", "acme", {"id": entity})
