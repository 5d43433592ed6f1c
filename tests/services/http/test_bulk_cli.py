"""`foldwork bulk`: previewed, run, watched, paused and aborted from the command line, beside a running HTTP process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from services.cli.app import app
from services.errors import OperatorError
from tests.services.http.api import Api
from tests.services.http.bulk_scene import items_of, recorded, until, with_tasks


async def foldwork(api: Api, *arguments: str, given: str | None = None) -> Result:
    """Run `foldwork bulk` for the tenant of the tests."""
    env = {"FOLDWORK_DATABASE_URL": api.url, "FOLDWORK_AMQP_URL": "amqp://127.0.0.1:1/none"}
    return await asyncio.to_thread(
        CliRunner().invoke, app, ["bulk", *arguments, "--tenant", "acme"], env=env, input=given
    )  # fmt: skip


async def shown(api: Api, *arguments: str, given: str | None = None) -> Any:
    result = await foldwork(api, *arguments, "--json", given=given)
    assert result.exception is None, (result.output, result.exception)
    return json.loads(result.stdout.splitlines()[-1])


async def test_a_bulk_from_its_preview_to_its_end(api: Api) -> None:
    ids = with_tasks(api, 20)
    bulk = await shown(api, "preview", "task.cancel", "--filter", "status=open", "--filter", "hub=", "--data", "{}")
    assert (bulk["state"], bulk["counts"]["ready"], bulk["actor"]) == ("previewed", 20, "system")
    listed = await foldwork(api, "items", bulk["id"])
    assert listed.stdout.count("task.canceled") == 20
    assert recorded(api, "task.canceled") == []
    done = await foldwork(api, "run", bulk["id"], "--rate", "all", "--wait")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == f"[{'#' * 30}] 20/20 finished accepted 20"
    assert sorted(recorded(api, "task.canceled")) == ids
    again = await foldwork(api, "watch", bulk["id"])
    assert (again.exit_code, again.stdout) == (0, f"[{'#' * 30}] 20/20 finished accepted 20\n")
    item = await shown(api, "items", bulk["id"], "--state", "accepted")
    assert item["command_id"] == (await items_of(api, bulk["id"]))[-1]["command_id"]


async def test_ids_come_from_arguments_and_files(api: Api, tmp_path: Path) -> None:
    ids = with_tasks(api, 4)
    named = tmp_path / "ids"
    named.write_text(f"{ids[2]}\n\n  {ids[1]}\n")
    bulk = await shown(api, "preview", "task.cancel", "--id", ids[3], "--ids-from", str(named))
    assert [item["id"] for item in await items_of(api, bulk["id"])] == [ids[3], ids[2], ids[1]]
    bulk = await shown(api, "preview", "task.cancel", "--ids-from", "-", given=f"{ids[0]}\nnobody\n")
    assert [item["id"] for item in await items_of(api, bulk["id"])] == [ids[0], "nobody"]
    told = await foldwork(api, "preview", "task.cancel", "--id", "nobody", "--id", ids[0])
    assert told.stdout.splitlines()[1:] == ["  ready 1", "  skipped 1: not-found 1"]


async def test_a_pause_a_resume_and_an_abort(api: Api) -> None:
    with_tasks(api, 60)
    bulk = await shown(api, "preview", "task.cancel", "--filter", "status=open", "--on-change", "run")
    assert (await shown(api, "run", bulk["id"], "--rate", "5"))["state"] == "running"
    assert (await shown(api, "pause", bulk["id"]))["reason"] == "asked"
    watched = await foldwork(api, "watch", bulk["id"])
    assert watched.exit_code == 1
    assert "/60 paused (asked)" in watched.stdout
    assert (await shown(api, "resume", bulk["id"]))["rate"] == "5"
    aborted = await foldwork(api, "abort", bulk["id"])
    assert aborted.exit_code == 0
    bulk = await until(api, bulk["id"])
    assert bulk["state"] == "aborted"
    assert bulk["skipped"]["aborted"] + bulk["counts"]["accepted"] == 60


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("preview", "task.cancel"), "wrong-shape: a bulk has either a filter or ids"),
        (("preview", "task.fly", "--id", "a"), "unknown-type: the commands of a bulk are"),
        (("preview", "task.cancel", "--id", "no id"), "invalid: this is no id (/ids/0)"),
        (("preview", "task.cancel", "--filter", "colour=red"), "unknown-filter"),
        (("preview", "task.cancel", "--filter", "search="), "bad-filter: this filter needs a value (/filter/search)"),
        (("preview", "task.cancel", "--id", "a", "--data", "{"), "not-json"),
        (("preview", "task.cancel", "--id", "a", "--data", '{"x": 1}'), "unknown-field"),
        (("preview", "task.cancel", "--id", "a", "--actor", "no id"), "--actor is"),
        (("preview", "task.cancel", "--ids-from", "/no/such/file"), "cannot read"),
        (("run", "nobody"), "not-found: there is no bulk of this id"),
        (("watch", "\0"), "not-found"),
        (("items", "x" * 100), "not-found"),
    ],
)
async def test_what_is_wrong_is_one_line(api: Api, arguments: tuple[str, ...], said: str) -> None:
    result = await foldwork(api, *arguments)
    assert isinstance(result.exception, OperatorError)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize(
    "arguments", [("run", "a", "--rate", "fast"), ("items", "a", "--state", "odd"), ("preview", "x", "--filter", "y")]
)
async def test_wrong_usage_is_told(api: Api, arguments: tuple[str, ...]) -> None:
    assert (await foldwork(api, *arguments)).exit_code == 2


async def test_without_a_process_that_previews_there_is_no_answer(api: Api) -> None:
    with_tasks(api, 1)
    api.sender.stopped = True
    result = await foldwork(api, "preview", "task.cancel", "--filter", "status=open", "--timeout", "0.2")
    assert result.exit_code == 3
    assert "no answer yet" in result.stdout
