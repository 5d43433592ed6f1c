"""The commands of README and docs are run as they stand; what a reader copies works."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import pika
import pytest

from tests.acceptance.running import ROOT, dev, environment
from tests.eventually import PATIENCE, eventually
from tests.services.harness import rows
from tests.services.processes import free_port, nursery

_CURL = """import argparse
import sys
import time
import httpx
given = argparse.ArgumentParser(allow_abbrev=False)
how = given.add_mutually_exclusive_group(required=True)
how.add_argument("-sf", action="store_true")
how.add_argument("-sN", action="store_true")
given.add_argument("--max-time", type=float)
given.add_argument("-H", action="append")
given.add_argument("-d")
given.add_argument("url")
said = given.parse_args()
headers = dict(value.split(": ", 1) for value in said.H)
if said.sf:
    method = "GET" if said.d is None else "POST"
    print(httpx.request(method, said.url, headers=headers, content=said.d).raise_for_status().text)
    sys.exit(0)
until = time.monotonic() + said.max_time
try:
    with httpx.stream("GET", said.url, headers=headers, timeout=said.max_time) as answer:
        for text in answer.iter_text():
            print(text, end="", flush=True)
            if time.monotonic() > until:
                break
except httpx.ReadTimeout:
    pass
sys.exit(28)
"""
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(document: str, language: str) -> list[str]:
    """Return the blocks of a document in one language."""
    return [text for kind, text in _BLOCK.findall((ROOT / document).read_text("utf-8")) if kind == language]


def on_path(folder: Path) -> dict[str, str]:
    """Return an environment in which `foldwork` is this checkout's, as `.venv/bin` on the PATH makes it."""
    script = folder / "bin" / "foldwork"
    script.parent.mkdir(exist_ok=True)
    nursery().install(script)
    if shutil.which("curl") is None:
        # A bare machine has none; what is shown is the request, not the program that sends it.
        plain = script.with_name("curl")
        plain.write_text(f"#!{sys.executable}\n{_CURL}")
        plain.chmod(0o755)
    surroundings = environment()
    return {**surroundings, "PATH": f"{script.parent}{os.pathsep}{surroundings['PATH']}"}


def run(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=on_path(folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def without_make(surroundings: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what `make test` adds: a make in it would take itself for a part of that one."""
    given = {"MFLAGS", *re.findall(r"^(\w+) \?=", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)}
    return {name: value for name, value in surroundings.items() if not name.startswith("MAKE") and name not in given}


def test_what_make_test_was_given_is_not_passed_on() -> None:
    given = {
        "ARGS": "-k nothing",
        "WORKERS": "2",
        "MAKEFLAGS": " -- ARGS=x",
        "MAKELEVEL": "1",
        "MFLAGS": "",
        "PATH": "/",
    }
    assert without_make(given) == {"PATH": "/"}


def test_the_readme_is_true(tmp_path: Path) -> None:
    first, second, *rest = blocks("README.md", "sh")
    assert first.strip() == "make demo"
    assert second.strip() == "make dev"
    made = subprocess.run(
        ["make", "-n", "-o", "venv", "demo", "dev"],
        cwd=ROOT,
        env=without_make(os.environ),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert [line.split("/")[-1].strip() for line in made.stdout.splitlines()] == ["foldwork demo", "foldwork dev"]
    assert len(rest) == 3
    (effects,) = [text for text in blocks("docs/http.md", "sh") if "/v1/effects/" in text]
    with dev(tmp_path):
        done = run(tmp_path, "".join((*rest, effects)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "task.completed" in done.stdout
    assert '"rule":"U8"' in done.stdout
    assert '"status":"ONGOING"' in done.stdout.replace(" ", "")
    assert '"caused_by":null' in done.stdout
    assert [word in done.stdout for word in ('"UNASSIGNED"', '"READY"', '"pending"')] == [True] * 3


def test_dry_runs_record_nothing(tmp_path: Path) -> None:
    (block,) = blocks("docs/contracts.md", "sh")
    (where,) = [text for text in blocks("README.md", "sh") if "URL=$(" in text]
    variables = "".join(line for line in where.splitlines(keepends=True) if re.match("(URL|TOKEN)=", line))
    with dev(tmp_path) as system:
        headers = {"Authorization": f"Bearer {system.where['token']}"}
        events = f"{system.where['http_url']}/v1/events"
        before = httpx.get(events, headers=headers).json()["head"]
        done = run(tmp_path, variables + block)
        assert httpx.get(events, headers=headers).json()["head"] == before
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dry run: accepted" in done.stdout
    assert done.stdout.count('"dry_run":true') == 2
    assert done.stdout.count("Water the plants") == 2


def test_dead_letters_are_worked_off_as_the_page_says(tmp_path: Path) -> None:
    (named,) = [text for text in blocks("README.md", "sh") if text.startswith("URL=")]
    shown = blocks("docs/dead-letters.md", "sh")
    assert len(shown) == 3
    with dev(tmp_path) as system:
        with pika.BlockingConnection(pika.URLParameters(system.where["amqp_url"])) as connection:
            channel = connection.channel()
            for number, body in enumerate((b'{"id": "plants", "title": 7}', b"{")):
                sent = pika.BasicProperties(type="task.create", message_id=f"bad-{number}", headers={"tenant": "demo"})
                channel.basic_publish("foldwork.commands", f"key-{number}", body, sent)
        stored = "SELECT count(*) FROM dead_letters"
        eventually(lambda: rows(system.where["database_url"], stored) == [(2,)])
        done = run(tmp_path, "\n".join((*named.splitlines()[:2], *shown)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dry run: accepted bad-0" in done.stdout
    assert "is sent again" in done.stdout
    assert "\naccepted " in done.stdout
    assert '"letters":1' in done.stdout
    assert '"state":"discarded"' in done.stdout


def test_a_bulk_is_previewed_and_run_as_the_page_says(tmp_path: Path) -> None:
    shown = blocks("docs/bulk.md", "sh")
    assert len(shown) == 2
    with dev(tmp_path):
        done = run(tmp_path, "".join(shown))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("task.canceled") == 6
    assert "] 3/3 finished accepted 3" in done.stdout
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["state"], last["id"]) == ("accepted", "water")


def test_what_was_is_shown(tmp_path: Path) -> None:
    (block,) = [text for text in blocks("docs/http.md", "sh") if "as_of" in text]
    (named,) = [text for text in blocks("README.md", "sh") if text.startswith("URL=")]
    with dev(tmp_path):
        done = run(tmp_path, "\n".join((*named.splitlines()[:2], block)))
    assert done.returncode == 0, done.stdout + done.stderr
    # curl ends no line.
    text, shown = done.stdout[done.stdout.index('{"id":"order-4712"') :], []
    while text.strip():
        document, end = json.JSONDecoder().raw_decode(text.lstrip())
        text = text.lstrip()[end:]
        shown.append(document)
    activity, explained, tasks, master = shown
    assert (activity["status"], explained["status"]) == ("open", "open")
    assert {task["id"]: task["status"] for task in tasks["data"]} == {"pickup-4712": "open", "delivery-4712": "open"}
    assert master["status"] is True


def test_a_tenant_is_administered_as_the_page_says(tmp_path: Path) -> None:
    shown = blocks("docs/administration.md", "sh")
    (named,) = [text for text in blocks("README.md", "sh") if text.startswith("URL=")]
    with dev(tmp_path):
        done = run(tmp_path, "\n".join((named.splitlines()[0], *shown)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "share" in done.stdout
    assert '"token":"fw_' in done.stdout
    assert '"rebuild":{"state":"' in done.stdout
    assert '"switched":true' in done.stdout
    assert '"last_minute":' in done.stdout
    assert '"match":"field","path":"/v1/tasks/plants"' in done.stdout


def test_a_rebuild_is_compared_as_the_page_says(tmp_path: Path) -> None:
    (block,) = [text for text in blocks("docs/operations.md", "sh") if "--diff" in text]
    with dev(tmp_path):
        done = run(tmp_path, block)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rows are the same, 0 missing, 0 extra, 0 different" in done.stdout
    assert (tmp_path / "differences.jsonl").read_bytes() == b""


# What is in the containers runs here; what only moves containers does nothing.
_DOCKER = """#!/bin/bash
[ "$1 $2 $3 $4" = "compose exec -T http" ] && { shift 4; exec "$@"; }
[[ "$1 $2" =~ ^compose\\ (up|ps|logs|down)$ ]]
"""


async def test_the_containers_are_used_as_the_readme_says(migrated_url: str, amqp_url: str, tmp_path: Path) -> None:
    (block,) = [text for text in blocks("README.md", "console") if "docker" in text]
    port = free_port()
    lines = [line.removeprefix("$ ").replace("127.0.0.1:8000", f"127.0.0.1:{port}") for line in block.splitlines()]
    surroundings = on_path(tmp_path)
    docker = tmp_path / "bin" / "docker"
    docker.write_text(_DOCKER)
    docker.chmod(0o755)
    env = {"database_url": migrated_url, "amqp_url": amqp_url, "http_port": str(port)}
    with nursery().start("all", env=env) as process:
        eventually(lambda: process.said("consuming commands"))
        done = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-euxo", "pipefail", "-c", "\n".join(lines)],
            cwd=tmp_path,
            env={**surroundings, "FOLDWORK_DATABASE_URL": migrated_url, "FOLDWORK_AMQP_URL": amqp_url},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "task.created" in done.stdout
    assert '"title":"Water the plants"' in done.stdout
    assert "directory" in done.stdout


def test_live_events_are_read_as_the_page_says(tmp_path: Path) -> None:
    (named,) = [text for text in blocks("README.md", "sh") if text.startswith("URL=")]
    shown = [text for text in blocks("docs/consumers.md", "sh") if "/v1/events/stream" in text or "--since" in text]
    assert len(shown) == 2
    with dev(tmp_path):
        done = run(tmp_path, "\n".join((*named.splitlines()[:2], *shown)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("retry: 1000\nid: 0\n\nid: ")
    assert '"type":"workflow.defined"' in done.stdout
    *_, first, second, third, last = done.stdout.splitlines()
    assert [line.split()[0] for line in (first, second, third)] == ["1", "2", "3"]
    assert json.loads(last)["type"].startswith("workflow.")
    assert "following the log after position 0" in done.stderr


def test_a_dozen_lines_of_pika(tmp_path: Path) -> None:
    (script,) = blocks("docs/contracts.md", "python")
    assert len([line for line in script.splitlines() if line.strip()]) <= 13
    with dev(tmp_path) as system:
        surroundings = {**environment(), "FOLDWORK_AMQP_URL": system.where["amqp_url"]}
        told = subprocess.run(
            [sys.executable, "-c", script], env=surroundings, capture_output=True, text=True, timeout=PATIENCE
        )
    assert told.stdout.strip() == "accepted", told.stderr


@pytest.mark.parametrize("document", ["README.md", *(str(d.relative_to(ROOT)) for d in (ROOT / "docs").glob("*.md"))])
def test_json_in_the_documents_is_json(document: str) -> None:
    for text in blocks(document, "json"):
        json.loads(text)


@pytest.mark.parametrize("document", ["README.md", *(str(d.relative_to(ROOT)) for d in (ROOT / "docs").glob("*.md"))])
def test_every_command_that_is_named_exists(document: str) -> None:
    named = set(re.findall(r"(?:`|\$ )foldwork ([a-z]+)", (ROOT / document).read_text("utf-8")))
    told = nursery().run(ROOT, "--help", env={})
    assert [name for name in sorted(named) if not re.search(rf"^\W*{name}\b", told.stdout, re.MULTILINE)] == []


def test_webhooks_are_created_and_managed_as_their_page_says(tmp_path: Path) -> None:
    (block,) = blocks("docs/webhooks.md", "sh")
    (where,) = [text for text in blocks("README.md", "sh") if "URL=$(" in text]
    variables = "".join(line for line in where.splitlines(keepends=True) if re.match("(URL|TOKEN)=", line))
    with dev(tmp_path):
        done = run(tmp_path, variables + block)
        acts = run(tmp_path, "foldwork audit --tenant demo --json")
        created = run(tmp_path, "foldwork webhooks create https://example.com/hooks --id other")
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"secret":"whsec_' in done.stdout
    assert "webhook crm is deleted" in done.stdout
    found = [json.loads(line)["act"] for line in acts.stdout.splitlines()]
    verbs = ("delete", "replay", "change", "change", "rotate-secret", "create")
    assert found[:6] == [f"webhook.{verb}" for verb in verbs]
    assert "secret whsec_" in created.stdout, created.stderr
