"""Liveness, readiness, figures, and a process that starts before its servers."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import AsyncMock
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import httpx
import msgspec
import psycopg
import pytest

import projections
from projections.task import table as tasks
from services.broker.command_queue import BrokerAway, CommandQueue
from services.broker.names import COMMAND_QUEUE
from services.broker.sender import CommandSender
from services.health.probe import probe_app, probing
from services.http.core.app import create_app
from services.http.core.service import make_service
from services.store.pool import Pool
from services.store.unavailable import StoreUnavailable
from tests.eventually import PATIENCE, eventually_async
from tests.services.http.api import (
    Api,
    InProcess,
    Queue,
    opened,
    problem,
    settings_for,
    with_activity,
    with_workflow,
)
from tests.services.test_connections import with_options

TASKS = projections.follower_name(tasks, projections.suffix(tasks))


async def test_ready(api: Api) -> None:
    response = await api.client.get("/readyz")
    body = response.json()
    assert response.status_code == 200, body
    assert (body["status"], body["not_ready"]) == ("ready", [])
    models = projections.READ_MODELS
    serving = {projections.follower_name(model, projections.suffix(model)) for model in models}
    assert set(body["followers"]) == serving | {"webhooks"}
    assert body["consumers"] == {"status": "ready", "count": 1}


async def _not_ready(api: Api) -> list[str]:
    response = await api.client.get("/readyz")
    assert response.status_code == 503
    assert response.headers["retry-after"]
    found: list[str] = response.json()["not_ready"]
    return found


async def test_what_is_missing_is_named(api: Api) -> None:
    api.queue.count = 0
    assert await _not_ready(api) == ["consumers"]


async def test_a_broker_that_is_away(api: Api) -> None:
    api.queue.away = api.sender.unreachable = True
    assert await _not_ready(api) == ["broker", "consumers", "sender"]


async def test_a_broker_that_blocks_publishers(api: Api) -> None:
    api.sender.blocked = "low on memory"
    assert await _not_ready(api) == ["sender"]
    part = (await api.client.get("/readyz")).json()["sender"]
    assert part["cause"] == "the broker blocks its connection: low on memory"


async def test_commands_without_an_answer(api: Api) -> None:
    for seconds, status in ((None, "ready"), (4.0, "ready"), (6.0, "degraded"), (600.0, "degraded")):
        api.sender.unanswered = seconds
        answer = await eventually_async(partial(_said_of_answers, api, status))
        assert (answer["status"], answer["answers"].get("since") is None) == (status, status == "ready")


async def _said_of_answers(api: Api, status: str) -> dict[str, Any]:
    """Return what readiness says; it asks anew after half a second."""
    response = await api.client.get("/readyz")
    found: dict[str, Any] = response.json()
    assert response.status_code == 200
    assert found["answers"]["status"] == status
    return found


async def test_a_follower_that_is_halted_or_far_behind(migrated_url: str) -> None:
    async with opened(migrated_url, ready_lag=1) as api:
        api.sender.late = {"tasks"}
        with_workflow(api)
        with_activity(api)
        with psycopg.connect(migrated_url) as conn:
            # Nobody queues for webhooks here.
            conn.execute("DELETE FROM followers WHERE name = 'webhooks'")
            conn.execute("UPDATE followers SET halted_at = 9, error = 'the inside' WHERE name = 'history_v1'")
            conn.execute("INSERT INTO followers (name) VALUES ('tasks_v0')")
        response = await api.client.get("/readyz")
        body = response.json()
        assert sorted(body["not_ready"]) == ["history_v1", TASKS]
        assert body["followers"]["history_v1"]["halted_at"] == 9
        assert body["followers"][TASKS]["lag"] == 7
        assert body["followers"]["tasks_v0"]["status"] == "ready"
        assert "the inside" not in response.text


async def test_a_follower_that_stands_still_before_an_event_is_not_ready(migrated_url: str) -> None:
    async with opened(migrated_url, degraded_after=1.0, unready_after=2.0) as api:
        api.sender.late = {"tasks"}
        with psycopg.connect(migrated_url, autocommit=True) as conn:
            conn.execute("DELETE FROM followers WHERE name = 'webhooks'")
            # Those that have nothing to do need not move, and tables that do not serve do not count.
            conn.execute("UPDATE followers SET updated_at = now() - interval '1 hour'")
            conn.execute("INSERT INTO followers (name, updated_at) VALUES ('tasks_v0', now() - interval '1 hour')")
            assert (await api.client.get("/readyz")).json()["status"] == "ready"
            with_workflow(api)
            with_activity(api)

            async def judged(status: str) -> dict[str, dict[str, object]]:
                body = (await api.client.get("/readyz")).json()
                found: dict[str, dict[str, object]] = body["followers"]
                assert [each for each in body[status] if each in found] == [TASKS]
                return found

            followers = await eventually_async(lambda: judged("not_ready"))
            assert followers[TASKS]["cause"] == "it does not move, although there are events"
            assert followers[TASKS]["since"]
            assert followers["history_v1"]["status"] == "ready"
            assert followers["tasks_v0"]["status"] == "ready"

            async def moved() -> None:
                # Once more for each look, which may be late on a busy machine.
                conn.execute(
                    "UPDATE followers SET updated_at = now(), position = 1 - position WHERE name = %s", (TASKS,)
                )
                followers = await judged("degraded")
                assert "behind" in str(followers[TASKS]["cause"])

            # It moves, however far it lies behind.
            await eventually_async(moved)


async def test_a_follower_that_holds_something_back_is_degraded_and_ready(migrated_url: str) -> None:
    name = projections.follower_name(tasks, projections.suffix(tasks))
    async with opened(migrated_url) as api:
        with psycopg.connect(migrated_url, autocommit=True) as conn:
            for number, entity in enumerate(("secret/task-a", "secret/task-b")):
                conn.execute(
                    "INSERT INTO held_entities (follower, entity, position, error, since, retry_at)"
                    " VALUES (%s, %s, %s, %s, %s, now())",
                    (name, entity, 7 + number, f"Error{number}: the inside", f"2025-10-31T08:00:0{number}Z"),
                )
            conn.execute("UPDATE followers SET held = held + 1 WHERE name = %s", (name,))
        response = await api.client.get("/readyz")
        body = response.json()
        assert response.status_code == 200
        assert (body["status"], body["not_ready"], body["degraded"]) == ("degraded", [], [name])
        part = body["followers"][name]
        held_back = {"entities": 2, "since": "2025-10-31T08:00:00Z", "position": 7, "error": "Error0"}
        assert (part["status"], part["cause"], part["held_back"]) == ("degraded", "it holds entities back", held_back)
        assert "held_back" not in body["followers"]["history_v1"]
        # Anyone may ask, so neither a tenant nor its data is named.
        assert "the inside" not in response.text
        assert "secret" not in response.text
        figures = (await api.client.get("/metrics")).text
        assert f'foldwork_follower_held_back{{follower="{name}"}} 2.0' in figures
        assert 'foldwork_follower_held_back{follower="history_v1"} 0.0' in figures
        with psycopg.connect(migrated_url, autocommit=True) as conn:
            conn.execute("DELETE FROM held_entities")

        async def ready() -> bool:
            body = (await api.client.get("/readyz")).json()
            return bool(body["status"] == "ready" and body["degraded"] == [])

        await eventually_async(ready)
        figures = (await api.client.get("/metrics")).text
        assert f'foldwork_follower_held_back{{follower="{name}"}} 0.0' in figures


async def test_a_database_without_tables(database_url: str) -> None:
    async with opened(database_url) as api:
        response = await api.client.get("/readyz")
        assert response.json()["not_ready"] == ["database"]
        assert "foldwork db upgrade" in response.json()["database"]["cause"]


async def test_a_statement_that_the_database_refuses_is_told_as_that(migrated_url: str) -> None:
    async with opened(with_options(migrated_url, "-c role=pg_monitor")) as api:
        response = await api.client.get("/readyz")
        assert response.status_code == 503
        assert "lacks a privilege" in response.json()["database"]["cause"]


async def test_alive_and_unready_while_nothing_is_there_then_back(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    name = urlsplit(url).path
    gone = urlunsplit(urlsplit(url)._replace(path=f"{name}_not_there"))
    async with opened(gone) as api:
        response = await api.client.get("/readyz")
        assert "database" in response.json()["not_ready"]
        assert (await api.client.get("/livez")).status_code == 200
        anyone = {"Authorization": "Bearer fw_0123456789abcdef_" + "x" * 43}
        response = await api.client.get("/v1/tasks", headers=anyone)
        problem(response, 503, "unavailable")
        assert response.headers["retry-after"]


async def test_connections_that_are_cut_come_back(migrated_url: str) -> None:
    database = Pool(migrated_url, 5.0, size=2)
    database.start()
    try:
        assert await database.fetch("SELECT 1") == [(1,)]
        with psycopg.connect(migrated_url, autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
                " WHERE application_name = 'foldwork-http' AND datname = current_database()"
            )
        assert await database.fetch("SELECT 1") == [(1,)]
    finally:
        await database.close()


async def test_a_question_that_takes_too_long_is_refused(migrated_url: str) -> None:
    database = Pool(migrated_url, 5.0, size=1)
    database.start()
    try:
        with pytest.raises(StoreUnavailable, match="in time"):
            await database.fetch("SELECT pg_sleep(2)", (), 0.05)
    finally:
        await database.close()


async def test_figures(api: Api) -> None:
    await api.get("/v1/tasks/secret-id")
    await api.get("/v1/nowhere")
    text = (await api.client.get("/metrics")).text
    assert 'foldwork_http_requests_total{method="GET",route="/v1/tasks/{id}",status="404"} 1.0' in text
    assert 'route="unmatched"' in text
    assert f'foldwork_follower_lag_events{{follower="{TASKS}"}} 0.0' in text
    assert "foldwork_http_request_seconds_bucket" in text
    assert "foldwork_http_in_flight" in text
    assert "secret-id" not in text


async def test_the_look_at_a_real_queue(amqp_url: str) -> None:
    queue = CommandQueue(amqp_url)
    assert await queue.counts() == (0, 0, 0)
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(COMMAND_QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        assert await queue.counts() == (0, 0, 0)

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            await message.ack()

        await declared.consume(take)
        assert await queue.counts() == (1, 0, 0)
    await queue.close()


async def test_a_real_queue_on_a_broker_that_is_away() -> None:
    queue = CommandQueue("amqp://guest:secret@127.0.0.1:1/")
    with pytest.raises(BrokerAway) as away:
        await queue.counts()
    assert "secret" not in str(away.value)
    await queue.close()


async def test_what_a_lost_connection_raises_is_a_broker_that_is_away(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # aiormq ends some calls so when their connection is lost.
    monkeypatch.setattr(aio_pika.Channel, "declare_queue", AsyncMock(side_effect=Exception()))
    queue = CommandQueue(amqp_url)
    with pytest.raises(BrokerAway, match="the connection was lost"):
        await queue.counts()
    await queue.close()


async def test_a_part_that_fails_unexpectedly_is_not_ready_and_the_others_are_shown(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(api.queue), "counts", AsyncMock(side_effect=ValueError("canary")))
    assert await _not_ready(api) == ["broker"]
    answer = await api.client.get("/readyz")
    assert answer.json()["broker"]["cause"] == "it cannot be asked: ValueError"
    assert answer.json()["database"]["status"] == "ready"
    assert "canary" not in answer.text
    assert (await api.client.get("/metrics")).status_code == 200


async def test_the_real_sender_connects_by_itself(migrated_url: str, amqp_url: str) -> None:
    app = create_app(settings_for(migrated_url, amqp_url=amqp_url))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://foldwork.test") as client:

            async def connected() -> None:
                assert (await client.get("/readyz")).json()["sender"]["status"] == "ready"

            await eventually_async(connected)


async def test_the_probe_of_another_role(migrated_url: str) -> None:
    app = probe_app(settings_for(migrated_url), lambda: {"worker": []}, broker=Queue())
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://foldwork.test") as client:
            assert (await client.get("/livez")).json() == {"status": "live"}
            assert (await client.get("/readyz")).status_code == 200
            assert "foldwork_up" in (await client.get("/metrics")).text


async def test_a_role_that_is_not_ready_itself(migrated_url: str) -> None:
    app = probe_app(settings_for(migrated_url), lambda: {"worker": ["it is tired"]}, broker=Queue())
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://foldwork.test") as client,
    ):
        response = await client.get("/readyz")
        assert (response.status_code, response.json()["not_ready"]) == (503, ["worker"])
        assert response.json()["worker"]["cause"] == "it is tired"


def test_the_probe_serves_on_its_port(migrated_url: str) -> None:
    with probing(settings_for(migrated_url)) as port:
        assert port is None
    with probing(settings_for(migrated_url, probe_port=0)) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=PATIENCE) as answer:
            assert msgspec.json.decode(answer.read()) == {"status": "live"}
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE)
        assert "broker" in msgspec.json.decode(refused.value.read())["not_ready"]


async def test_the_documentation(api: Api) -> None:
    document = (await api.client.get("/openapi.json")).json()
    create = document["paths"]["/api/v3/activity"]["post"]
    example = create["requestBody"]["content"]["application/json"]["example"]
    assert example["tasks"][0]["assignee"] == ["driver@example.com"]
    assert {"201", "202", "400", "401", "403", "404", "409", "413", "415", "422", "429", "500", "503"} <= set(
        create["responses"]
    )
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["tags"], path
            if operation["tags"] != ["operations"]:
                # Whoever logs in has no token yet.
                assert operation["security"] == (
                    [] if path.endswith("/login") else [{"apiKey": []}, {"apiKeyHeader": []}]
                ), path
                assert {"401", "403", "500", "503"} <= set(operation["responses"]), path
            names = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "path"}
            assert names == set(re.findall(r"{(\w+)}", path))


def test_the_sender_of_the_settings_is_the_default(migrated_url: str) -> None:
    assert isinstance(make_service(settings_for(migrated_url)).sender, CommandSender)
    sender = InProcess(migrated_url)
    assert make_service(settings_for(migrated_url), sender).sender is sender
