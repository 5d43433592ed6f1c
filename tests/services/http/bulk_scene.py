"""What the tests of previewed bulks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg

from services.broker.sender import Outgoing
from tests.eventually import eventually_async
from tests.services.http.api import Api

BULK = "/v1/bulk"
ENDED = ("finished", "aborted", "expired")


def with_tasks(api: Api, count: int, prefix: str = "t", tenant: str = "acme", **rest: Any) -> list[str]:
    """Create open tasks, and return their ids in order."""
    ids = [f"{prefix}{number:05}" for number in range(1, count + 1)]
    sent = [Outgoing("task.create", msgspec.json.encode({"id": each, **rest}), tenant) for each in ids]
    for start in range(0, count, 500):
        for reply in api.sender.work(sent[start : start + 500]):
            assert reply.accepted, reply
    return ids


def operator(api: Api, tenant: str = "acme", actor: str = "system") -> str:
    """Return a token that may preview bulks and run them, the same one each time."""
    name = f"operator {tenant} {actor}"
    if name not in api.tokens:
        api.tokens[name] = api.key(tenant, actor, "read", "write", "operate")
    return api.tokens[name]


async def previewed(api: Api, body: dict[str, Any], token: str | None = None) -> dict[str, Any]:
    """Preview a bulk, and return it when it is previewed."""
    token = token or operator(api)
    response = await api.post(BULK, body, token)
    assert response.status_code == 201, response.text
    return await until(api, response.json()["id"], token, "previewed")


async def until(api: Api, bulk_id: str, token: str | None = None, *states: str) -> dict[str, Any]:
    """Wait until a bulk is in one of these states, by default until it has ended."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        found.append((await api.get(f"{BULK}/{bulk_id}", token or operator(api))).json())
        return found[-1]["state"] in (states or ENDED)

    await eventually_async(there)
    return found[-1]


async def act(api: Api, bulk_id: str, verb: str, body: Any = None, token: str | None = None) -> dict[str, Any]:
    """Do something with a bulk."""
    response = await api.post(f"{BULK}/{bulk_id}/{verb}", {} if body is None else body, token or operator(api))
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


async def items_of(api: Api, bulk_id: str, query: str = "") -> list[dict[str, Any]]:
    """Return all items of a bulk, page by page."""
    path, found = f"{BULK}/{bulk_id}/items?limit=200{query}", []
    while path:
        response = await api.get(path, operator(api))
        assert response.status_code == 200, response.text
        found += response.json()["data"]
        path = response.json()["next"]
    return found


def recorded(api: Api, name: str, ids: Sequence[str] | None = None) -> list[str]:
    """Return the ids of the streams with events of a type, once for each event, in the order of the log."""
    with psycopg.connect(api.url) as conn:
        rows = conn.execute(
            "SELECT originator_id FROM stored_events WHERE topic = %s ORDER BY notification_id", (name,)
        ).fetchall()
    found = [stream.partition("-")[2] for (stream,) in rows]
    return found if ids is None else [each for each in found if each in ids]
