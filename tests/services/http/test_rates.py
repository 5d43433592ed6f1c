"""What a tenant sends is limited over time, and what it has at work, so that others are not far behind it."""

from __future__ import annotations

import asyncio
import time

import psycopg
import pytest

from services.broker.sender import Outgoing
from services.commands.wire import Reply
from services.http.core import bulk_sender, rates, service
from services.http.core.errors import ApiError
from services.http.core.rates import BURST, Rate
from tests.eventually import SLOWNESS, eventually_async
from tests.services.http.api import opened, problem
from tests.services.http.many import HUBS, KINDS, TASKS, Holding, Kind, done_of, of_each
from tests.services.http.test_shares import COMMAND, WAITING


def test_a_bucket_holds_ten_seconds_and_says_when_it_is_no_longer_overdrawn() -> None:
    now = [100.0]
    rate = Rate("commands", 5.0, lambda: now[0])
    rate.spend("acme", 5 * BURST)
    rate.demand("acme")
    rate.spend("acme", 17)
    with pytest.raises(ApiError, match="5 commands per second") as refused:
        rate.demand("acme")
    assert (refused.value.code, refused.value.headers) == ("too-many-requests", {"Retry-After": "4"})
    rate.demand("globex")
    # It is true: a second earlier is too early.
    now[0] += 3
    with pytest.raises(ApiError):
        rate.demand("acme")
    now[0] += 1
    rate.demand("acme")
    now[0] += 1000
    rate.spend("acme", 5 * BURST)
    rate.demand("acme")
    rate.spend("acme", 0.1)
    with pytest.raises(ApiError):
        rate.demand("acme")


def test_a_tenant_whose_bucket_is_full_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_TENANTS", 2)
    now = [0.0]
    rate = Rate("commands", 1.0, lambda: now[0])
    rate.spend("a", 1)
    rate.spend("b", 100)
    now[0] = 2.0
    rate.spend("c", 1)
    assert rate.tenants == 2
    with pytest.raises(ApiError):
        rate.demand("b")


async def test_commands_are_counted_and_those_of_bulks_each(module_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(module_url, http_commands_per_second=0.1) as api:
        ours, theirs = api.key(), api.key("globex")
        bulk = {"tasks": [{"flow": "Visit"} for _ in range(2)]}
        assert (await api.post(TASKS, bulk, ours)).status_code == 201
        refused = await api.post("/v1/commands", COMMAND, ours)
        problem(refused, 429, "too-many-requests")
        # The bucket holds one command.
        assert refused.headers["retry-after"] in ("8", "9", "10")
        again = await api.post(TASKS, {**bulk, "background": True}, ours)
        assert again.status_code == 429
        # Questions are no commands, and nobody else has sent anything.
        assert (await api.get("/v1/tasks", ours)).status_code == 200
        assert (await api.post("/v1/commands", COMMAND, theirs)).status_code == 200
        monkeypatch.setattr(rates, "BURST", 1000.0)
        assert (await api.post("/v1/commands", COMMAND, ours)).status_code == 200


async def test_bytes_are_counted(module_url: str) -> None:
    async with opened(module_url, http_bytes_per_second=100.0) as api:
        large = {"type": "task.create", "data": {"title": "x" * 150, "fields": {"a": "x" * 60_000}}}
        assert (await api.post("/v1/commands", large)).status_code == 200
        refused = await api.post("/v1/commands", COMMAND)
        problem(refused, 429, "too-many-requests")
        assert "bytes" in refused.json()["detail"]
        assert 580 <= int(refused.headers["retry-after"]) <= 595


@of_each
async def test_of_all_bulks_of_a_tenant_few_commands_are_at_work(
    module_url: str, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "AT_WORK", 7)
    async with opened(module_url) as api:
        broker = Holding(api, monkeypatch, 0, refuses=False)
        ours, theirs = api.key(), api.key("globex")
        bulks = [asyncio.create_task(kind.post(api, 20, ours, waited=True)) for _ in range(3)]
        await eventually_async(lambda: broker.under_way == 7)
        # Another tenant's are not behind them.
        bulks.append(asyncio.create_task(kind.post(api, 5, theirs, waited=True)))
        await eventually_async(lambda: broker.under_way == 12)
        broker.free.set()
        answers = await asyncio.gather(*bulks)
        assert [answer.json()[kind.done] for answer in answers] == [20, 20, 20, 5]
        assert broker.most == 12


async def test_what_waits_for_a_turn_until_the_end_was_not_taken(
    module_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "AT_WORK", 2)
    async with opened(module_url, reply_timeout=0.3, bulk_item_ms=0.0) as api:
        broker = Holding(api, monkeypatch, 2, refuses=False)
        asyncio.get_running_loop().call_later(0.6 * SLOWNESS, broker.free.set)
        body = {"entries": [{"fields": {"name": f"Hub {number}"}} for number in range(6)]}
        answer = (await api.post(HUBS, body)).json()
        assert "it may be sent again" in str(answer)
        assert len(broker.asked) < 6


async def test_background_bulks_of_tenants_are_sent_in_turn(module_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_sender, "AT_ONCE", 1)
    monkeypatch.setattr(bulk_sender, "PAUSE", 0.01)
    async with opened(module_url) as api:
        sent: list[str] = []
        send = api.sender.send

        async def noting(outgoing: Outgoing, timeout: float, *, wait: bool = True) -> Reply | None:
            sent.append(outgoing.tenant)
            return await send(outgoing, timeout, wait=wait)

        monkeypatch.setattr(api.sender, "send", noting)
        api.sender.unreachable = True
        keys = {name: api.key(name) for name in ("one", "two", "three")}
        receipts = [
            (name, (await KINDS[1].post(api, 2, keys[name])).json()["receipt"])
            for name in ("one", "one", "one", "one", "two", "two", "three")
        ]
        sent.clear()
        api.sender.unreachable = False
        for name, receipt in receipts:
            api.tokens["acme"] = keys[name]
            await done_of(api, receipt)
        order = [name for before, name in zip([None, *sent], sent, strict=False) if name != before]
        # Who has had a turn waits until all others have had one.
        assert order[:3] in (["one", "two", "three"], ["one", "three", "two"])
        assert sent.count("one") == 8
        assert order.index("three") < order.index("one", 1)


async def test_with_all_other_lanes_full_keys_and_probes_are_answered(module_url: str) -> None:
    async with opened(module_url, list_timeout=20.0, read_timeout=20.0) as api:
        tenants = [api.key(f"tenant-{number}") for number in range(5)]
        for token in tenants:
            assert (await api.get("/v1/directory/hub", token)).status_code == 200
        fresh = api.key("fresh")
        with psycopg.connect(module_url) as conn:
            conn.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
            dear = [
                asyncio.create_task(api.get(path, token))
                for token in tenants
                for path in ("/v1/tasks", "/v1/tasks", "/v1/tasks/t1", "/api/v3/tasks?format=csv&taskType=task")
                for _ in range(5)
            ]
            with psycopg.connect(module_url, autocommit=True) as other:
                # Three connections of lists, two of exports, four of single resources.
                await eventually_async(lambda: other.execute(WAITING).fetchone() == (9,))
            began = time.monotonic()
            assert (await api.client.get("/livez")).status_code == 200
            assert (await api.client.get("/readyz")).json()["database"] == {"status": "ready"}
            problem(await api.get("/v1/tasks", "fw_0_x"), 401, "unauthorized")
            response = await api.client.post("/v1/commands", headers=api.by(fresh), content=b"")
            problem(response, 415, "unsupported-media-type")
            assert time.monotonic() - began < 0.5 * SLOWNESS
            conn.rollback()
        assert {response.status_code for response in await asyncio.gather(*dear)} == {200, 404}
