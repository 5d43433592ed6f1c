"""The demonstration shows what it has done, however late the read models are."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from services.dev.play import Play

EVENT: dict[str, Any] = {"position": 7, "type": "task.created", "data": {"id": "t"}}
SHOWN: dict[str, Any] = {
    "/api/v3/task/t": {"task": {"status": "ONGOING"}},
    "/api/activities/t": {"status": "READY"},
    "/api/v3/workflow/activities/t": {"data": {"attributes": {"status": "pending"}}},
    "/v1/activities/t": {"progress": {"completed": 0, "total": 1}},
    "/v1/activities/t/explain": {"rule": "U10", "rule_text": "no other rule"},
}


async def test_every_read_waits_for_what_was_done_before() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params["min_position"] == "7", request.url
        asked.append(request.url.path)
        # A view that is late says so, and is asked again.
        return httpx.Response(503) if asked.count(request.url.path) == 1 else httpx.Response(200, json=SHOWN[asked[-1]])

    sender: Any = None
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://demo") as http:
        play = Play(sender, http, asyncio.Queue())
        assert await play.one_task(EVENT) == ("ONGOING", "READY", "pending")
        assert await play.status("t", 7) == "ONGOING"
    assert {path: asked.count(path) for path in asked} == {path: 3 if "v3/task" in path else 2 for path in SHOWN}
