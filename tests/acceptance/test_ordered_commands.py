"""Ordered commands over HTTP and on the command line: what is said while they wait, and what the receipt says then."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from services import keys
from services.roles import make_role
from tests.acceptance.test_dead_letters_commands import put
from tests.eventually import PATIENCE, eventually_async
from tests.services.harness import created, settings, working
from tests.services.http.test_dead_letters import letter
from tests.services.parking import eventually_parked, parked, policing
from tests.services.processes import free_port, nursery


async def test_a_command_that_waits_is_parked_and_its_receipt_says_what_becomes_of_it(
    migrated_url: str, amqp_url: str, tmp_path: Path
) -> None:
    (first,) = put(migrated_url, letter())
    with psycopg.connect(migrated_url) as conn:
        _, token = keys.create(conn, "acme", "system", ("read", "write", "operate"))
    port = free_port()
    http = make_role("http", settings(migrated_url, amqp_url, http_port=port))
    serving = asyncio.create_task(http.run())
    by = {"Authorization": f"Bearer {token}"}
    try:
        async with (
            working(migrated_url, amqp_url),
            policing(migrated_url, amqp_url),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=by) as client,
        ):
            await eventually_async(lambda: not http.unready)
            command: dict[str, Any] = {"type": "task.create", "data": {"id": "t1"}, "id": "w1", "ordered": True}
            answer = await client.post("/v1/commands", json=command)
            assert (answer.status_code, answer.headers["Location"]) == (202, "/v1/commands/w1")
            assert (answer.json()["outcome"], answer.json()["error"]["code"]) == ("parked", "waits")
            assert first in answer.json()["error"]["detail"]
            tried = await client.post("/v1/commands?dry_run=true", json=command)
            assert (tried.status_code, tried.json()["outcome"]) == (200, "parked")
            refused = await client.post("/v1/commands", json={**command, "ordered": "yes"})
            assert refused.status_code == 422

            sent = ("send", "task.change", "--tenant", "acme", "--ordered", "--id", "w2", "--wait")
            data = ("--data", '{"id": "t1", "title": "x"}')
            env = {"database_url": migrated_url, "amqp_url": amqp_url}
            run = await asyncio.to_thread(nursery().run, tmp_path, *sent, *data, "--json", env=env)
            assert (run.returncode, json.loads(run.stdout)["outcome"]) == (3, "parked")

            await eventually_parked(migrated_url, 3)
            assert (await client.get("/v1/commands/w2")).json()["outcome"] == "parked"
            stuck = (await client.get("/v1/stuck?cause=command-waits")).json()["data"]
            assert len(stuck) == 2
            assert {each["remedy"]["cli"] for each in stuck} == {f"foldwork dead-letters retry {first}"}
            done = await client.post(f"/v1/dead-letters/{first}/discard", json={"reason": "a test"})
            assert done.is_success
            await eventually_async(lambda: parked(migrated_url, "outcome")[1:] == [("accepted",), ("accepted",)])
            assert created(migrated_url) == ["t1"]
            assert (await client.get("/v1/commands/w2")).json()["outcome"] == "accepted"
            assert (await client.get("/v1/stuck?cause=command-waits")).json()["data"] == []
    finally:
        await http.stop()
        await asyncio.wait_for(serving, PATIENCE)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_the_flag_is_a_boolean_in_the_contract(value: Any) -> None:
    from services.http.core.errors import ApiError
    from services.http.native.models import Command

    with pytest.raises(ApiError, match="true or false"):
        Command.read({"type": "task.create", "data": {}, "ordered": value})
