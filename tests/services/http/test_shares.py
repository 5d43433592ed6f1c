"""What one tenant, one key and one body may take of a process, so that the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest

from services.broker.sender import Outgoing
from services.commands.wire import Reply
from services.http.core import authenticator, service
from services.strict_json import MAX_VALUES, InvalidMessage, load_json
from tests.eventually import eventually_async
from tests.services.http.api import Api, opened, problem
from tests.services.http.contract import WITH_BODY, able, documented, refused

# The other databases of the server are other tests'.
WAITING = """SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
COMMAND = {"type": "task.create", "data": {}}


class Held:
    """Keeps commands from being answered until `release`."""

    def __init__(self, api: Api) -> None:
        self._entered, self._over = asyncio.Semaphore(0), asyncio.Event()
        self.requests: list[asyncio.Task[httpx.Response]] = []
        self._api = api
        api.sender.send = self._send  # type: ignore[method-assign]

    async def _send(self, outgoing: Outgoing, timeout: float) -> Reply | None:
        self._entered.release()
        await self._over.wait()
        return None

    async def add(self, token: str, count: int) -> None:
        for _ in range(count):
            self.requests.append(asyncio.create_task(self._api.post("/v1/commands", COMMAND, token)))
            await self._entered.acquire()

    async def release(self) -> None:
        self._over.set()
        assert {response.status_code for response in await asyncio.gather(*self.requests)} == {202}


async def test_one_tenant_leaves_room_for_others(module_url: str) -> None:
    async with opened(module_url, http_in_flight=6, http_in_flight_per_tenant=4, http_in_flight_per_key=3) as api:
        held, first, second, theirs = Held(api), api.key(), api.key(), api.key("globex")
        await held.add(first, 3)
        response = await api.get("/v1/tasks", first)
        problem(response, 429, "too-many-requests")
        assert "of this key" in response.json()["detail"]
        assert response.headers["retry-after"] == "1"
        assert (await api.get("/v1/tasks", second)).status_code == 200
        await held.add(second, 1)
        response = await api.get("/v1/tasks", second)
        problem(response, 429, "too-many-requests")
        assert "of this tenant" in response.json()["detail"]
        assert (await api.get("/v1/tasks", theirs)).status_code == 200
        await held.add(theirs, 2)
        problem(await api.get("/v1/tasks", theirs), 503, "overloaded")
        # Whoever has no key takes no place, and is told what is wrong.
        problem(await api.get("/v1/tasks", "fw_0_x"), 401, "unauthorized")
        assert b"foldwork_http_in_flight 6.0" in (await api.client.get("/metrics")).content
        await held.release()
        for token in (first, second, theirs):
            assert (await api.get("/v1/tasks", token)).status_code == 200
        assert b"foldwork_http_in_flight 0.0" in (await api.client.get("/metrics")).content


async def test_whoever_has_no_key_takes_no_place_of_the_others(
    module_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_ANONYMOUS", 2)
    log_in, headers = "/api/v3/iam/auth/api/login", {"Content-Type": "application/json"}
    async with opened(module_url, http_in_flight=1) as api:
        reading = asyncio.Semaphore(0)

        async def slow() -> AsyncIterator[bytes]:
            reading.release()
            async for part in endless():
                yield part

        held = [asyncio.create_task(api.client.post(log_in, content=slow(), headers=headers)) for _ in range(2)]
        for _ in held:
            await reading.acquire()
        assert (await api.client.post(log_in, json={"key": "fw_0_x"})).status_code == 503
        assert (await api.get("/v1/tasks")).status_code == 200
        assert (await api.client.get("/livez")).status_code == 200
        for each in held:
            each.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        too_large = await api.client.post(log_in, content=b" " * 5000, headers=headers)
        assert too_large.status_code == 413


async def endless(first: bytes = b"{") -> AsyncIterator[bytes]:
    yield first
    await asyncio.Event().wait()


async def test_a_body_that_does_not_end_is_given_up(module_url: str) -> None:
    async with opened(module_url, http_body_timeout=0.05) as api:
        for case in WITH_BODY:
            headers = {**api.by(able(api, case)), "Content-Type": "application/json"}
            method, path = case.operation.method, case.at()
            response = await api.client.request(method, path, content=endless(), headers=headers)
            refused(response, case.operation.dialect.envelope, "body-late")
            documented(case, response)
            assert response.headers["connection"] == "close"
        assert api.sender.sent == []


async def test_lists_of_one_tenant_keep_nobody_else_waiting(module_url: str) -> None:
    async with opened(module_url, list_timeout=5.0) as api:
        ours, theirs = api.key(), api.key("globex")
        assert (await api.get("/v1/tasks", ours)).status_code == 200
        with psycopg.connect(module_url) as conn:
            conn.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
            slow = [asyncio.create_task(api.get("/v1/tasks", ours)) for _ in range(20)]
            with psycopg.connect(module_url, autocommit=True) as other:
                await eventually_async(lambda: other.execute(WAITING).fetchone() == (2,))
                # Another tenant's list, a key that was never seen, and a probe.
                assert (await api.get("/v1/directory/member", theirs)).status_code == 200
                assert (await api.get("/v1/directory/member", api.key("initech"))).status_code == 200
                assert (await api.client.get("/readyz")).json()["database"] == {"status": "ready"}
                assert other.execute(WAITING).fetchone() == (2,)
            conn.rollback()
        assert {response.status_code for response in await asyncio.gather(*slow)} == {200}


async def test_a_list_that_takes_too_long_is_given_up(module_url: str) -> None:
    async with opened(module_url, list_timeout=0.3) as api:
        assert (await api.get("/v1/hubs")).status_code == 404
        with psycopg.connect(module_url) as conn:
            conn.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
            for path in ("/v1/tasks", "/api/v3/tasks?taskType=task", "/api/activities", "/api/v3/workflow/activities"):
                response = await api.get(path)
                assert response.status_code == 503, path
                assert response.headers["retry-after"] == "1"
            conn.rollback()
        assert (await api.get("/v1/tasks")).status_code == 200


async def test_only_so_many_keys_are_looked_up_at_once(module_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authenticator, "MAX_ASKING", 3)
    async with opened(module_url) as api:
        token = api.key()
        with psycopg.connect(module_url) as conn:
            conn.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
            tries = [asyncio.create_task(api.get("/v1/tasks", f"fw_{number}_x")) for number in range(3)]
            # Two connections check keys, and one token waits for them.
            with psycopg.connect(module_url, autocommit=True) as other:
                await eventually_async(lambda: other.execute(WAITING).fetchone() == (2,))
            problem(await api.get("/v1/tasks", token), 503, "overloaded")
            conn.rollback()
        assert {response.status_code for response in await asyncio.gather(*tries)} == {401}
        assert (await api.get("/v1/tasks", token)).status_code == 200


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b"[" + b"[]," * (MAX_VALUES // 2 - 2) + b"[]]", True),
        (b"[" + b"[]," * (MAX_VALUES // 2) + b"[]]", False),
        (b'{"a":[' + b"1," * MAX_VALUES + b"1]}", False),
        (b'["' + b",[{" * MAX_VALUES + b'"]', True),
        (b'["' + b'\\",' * MAX_VALUES + b'"]', True),
        (b"[" * (MAX_VALUES + 2), False),
    ],
)
def test_a_body_has_only_so_many_values(body: bytes, values: bool) -> None:
    if values:
        assert load_json(body)
        return
    with pytest.raises(InvalidMessage) as raised:
        load_json(body)
    assert raised.value.refusal.code in ("too-large", "too-deep")
