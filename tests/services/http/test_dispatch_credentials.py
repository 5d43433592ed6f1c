"""Credentials of a provider: they come in the clear, and leave the process that receives them encrypted only."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import psycopg
import pytest
from pydantic import SecretStr

from domain.plan import Provider
from domain.task import DispatchRequested
from services.broker.sender import Outgoing
from services.credentials import MAX_LENGTH, place_of
from services.encryption import Keyring
from services.processors.providers import Call, Providers
from services.store import log
from tests.services.answering import Answering
from tests.services.harness import settings
from tests.services.http.api import KEY, Api, opened
from tests.services.http.dispatch_scene import BODY, DISPATCH_CONFIG, failure, furnish
from tests.services.http.many import done_of

CANARY = "c4n4ry-of-the-key"
CONFIGS, CONFIGURATIONS = "/api/dispatch-configs", "/api/dispatch-configurations"
NATIVE = "/v1/directory/dispatch"
GIVEN = {**DISPATCH_CONFIG, "channel": "SMS", "credentials": {"apiKey": CANARY}}
HTTP = {"provider": "http", "url": "https://provider.example.com"}
FIELDS = {**HTTP, "credentials": {"apiKey": CANARY}}

set_scene = furnish


def everything(url: str) -> str:
    """Return every value of every row of every table, as text."""
    found = []
    with psycopg.connect(url) as conn:
        # What is stored as bytes is shown as the text that it is.
        conn.execute("SET bytea_output = 'escape'")
        tables = conn.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for (table,) in tables:
            found += [text for (text,) in conn.execute(f"SELECT t::text FROM {table} t").fetchall()]
    assert len(tables) > 10
    return "\n".join(found)


def nowhere(api: Api, *answers: httpx.Response) -> None:
    """Expect the credentials in no table, no command and no answer."""
    stored = everything(api.url)
    assert "Corner shop" in stored
    for text in (
        stored,
        *(sent.body.decode() for sent in api.sender.sent),
        *(each.text for each in answers),
    ):
        assert CANARY not in text


def kept(api: Api, channel: str = "SMS", tenant: str = "acme") -> Any:
    """Return the credentials of a channel as they are recorded last, decrypted."""
    with psycopg.connect(api.url) as conn:
        rows = [row.recorded() for row in log.read(conn, 0, 100_000)]
    changes = [
        getattr(row.data, "fields", None) or getattr(row.data, "new", {}) for row in rows if row.entity_id == channel
    ]
    text, url = ([change[name] for change in changes if name in change][-1] for name in ("credentials", "url"))
    return msgspec.json.decode(Keyring([SecretStr(KEY)]).decrypt(place_of(tenant, channel, url), text))


WAYS: list[tuple[str, str, Any]] = [
    ("POST", CONFIGS, GIVEN),
    ("POST", CONFIGURATIONS, {"channel": "SMS", **FIELDS}),
    ("POST", NATIVE, {"id": "SMS", "fields": FIELDS}),
    ("POST", NATIVE, {"entries": [{"id": "SMS", "fields": FIELDS}]}),
    ("POST", NATIVE, {"entries": [{"id": "SMS", "fields": FIELDS}], "background": True}),
    (
        "POST",
        "/v1/commands",
        {"type": "directory.register", "data": {"kind": "dispatch", "id": "SMS", "fields": FIELDS}},
    ),
]


@pytest.mark.parametrize(
    ("method", "path", "body"), WAYS, ids=[f"{path} {number}" for number, (_, path, _) in enumerate(WAYS)]
)
async def test_credentials_are_encrypted_whichever_way_they_come(api: Api, method: str, path: str, body: Any) -> None:
    response = await api.client.request(method, path, json=body, headers=api.by())
    assert response.status_code in (200, 201, 202), response.text
    if response.status_code == 202:
        await done_of(api, response.json()["receipt"])
    nowhere(api, response)
    assert kept(api) == {"apiKey": CANARY}
    read = [await api.get(f"{path}{one}") for path in (CONFIGURATIONS, NATIVE) for one in ("", "/SMS")]
    read += [await api.get(CONFIGS), await api.get("/v1/events?after=0")]
    nowhere(api, *read)
    assert read[1].json()["credentials"] is True
    assert read[3].json()["fields"]["credentials"] is True
    assert [each["credentials"] for each in read[4].json()] == [False, True]


async def test_credentials_are_changed_and_removed(api: Api) -> None:
    await api.post(CONFIGURATIONS, {"channel": "SMS", **FIELDS})
    place = f"{CONFIGURATIONS}/SMS"

    async def change(**fields: Any) -> httpx.Response:
        return await api.client.patch(place, json=fields, headers=api.by())

    assert (await change(timeout_seconds=3)).json()["credentials"] is True
    moved = await change(url="https://elsewhere.example.com")
    assert failure(moved, 400).endswith("(/credentials)")
    assert (await api.get(place)).json()["url"] == HTTP["url"]
    again = await change(url="https://elsewhere.example.com", credentials={"username": "u", "password": CANARY})
    assert (again.status_code, again.json()["credentials"]) == (200, True)
    assert kept(api) == {"username": "u", "password": CANARY}
    # They belong to an address, which a change of them alone does not tell.
    alone = await change(credentials={"apiKey": CANARY})
    assert failure(alone, 400).endswith("(/url)")
    gone = await change(credentials=None)
    assert gone.json()["credentials"] is False
    nowhere(api, moved, again, gone)


async def test_what_is_recorded_of_them_is_of_no_use_for_another_address(api: Api, provider: Answering) -> None:
    """Whoever may send commands over the broker reads the ciphertext in events, and could move it."""
    await api.post(CONFIGURATIONS, {"channel": "SMS", **FIELDS})
    text = msgspec.json.decode(api.sender.sent[-1].body)["fields"]["credentials"]
    moved = {"url": provider.url, "credentials": text}
    api.command("directory.change", {"kind": "dispatch", "id": "SMS", "fields": moved})
    used = settings(api.url, "amqp://localhost/", dispatch_hosts=("127.0.0.1",), secret_key=(SecretStr(KEY),))
    async with Providers(used) as providers:
        call = Call("acme", "SMS", "acme/t/1", Provider("http", provider.url, credentials=text), b"{}")
        outcome = await providers.call(call)
    assert (outcome.succeeded, outcome.code) == (False, "bad-credentials")
    assert provider.received == []


async def test_nulls_among_them_are_not_given(api: Api) -> None:
    given = {"channel": "SMS", **HTTP, "credentials": {"apiKey": CANARY, "token": None}}
    assert (await api.post(CONFIGURATIONS, given)).status_code == 201
    assert kept(api) == {"apiKey": CANARY}


async def test_the_same_request_is_the_same_command(api: Api) -> None:
    key = {"Idempotency-Key": "once"}
    first, second = [await api.post(CONFIGURATIONS, {"channel": "SMS", **FIELDS}, headers=key) for _ in range(2)]
    assert (first.status_code, second.status_code, first.json()) == (201, 201, second.json())
    # And without a key, registering the same again changes nothing, whatever the order of the names.
    for credentials in ({"apiKey": CANARY, "token": "t"}, {"token": "t", "apiKey": CANARY}):
        body = {"channel": "EMAIL", **HTTP, "credentials": credentials}
        assert (await api.post(CONFIGURATIONS, body)).status_code == 201
    others = {"channel": "SMS", **HTTP, "credentials": {"apiKey": "another"}}
    failure(await api.post(CONFIGURATIONS, others), 409)
    failure(await api.post(CONFIGURATIONS, others, headers=key), 409)
    assert kept(api) == {"apiKey": CANARY}


async def test_two_tenants_with_the_same_credentials_have_nothing_in_common(api: Api) -> None:
    for token in (None, api.key("other")):
        await api.post(CONFIGS, GIVEN, token)
    assert kept(api, tenant="other") == {"apiKey": CANARY}
    bodies = [msgspec.json.decode(sent.body)["fields"]["credentials"] for sent in api.sender.sent]
    assert len(set(bodies)) == 2
    # What another tenant's command carries is of no use here.
    stolen = {"kind": "dispatch", "id": "EMAIL", "fields": {**HTTP, "credentials": bodies[1]}}
    for path, body in (
        (NATIVE, {"id": "EMAIL", "fields": stolen["fields"]}),
        ("/v1/commands", {"type": "directory.register", "data": stolen}),
    ):
        refused = await api.post(path, body)
        assert (refused.status_code, refused.json()["pointer"].rpartition("/fields")[2]) == (422, "/credentials")


async def test_without_a_key_of_the_service_credentials_are_refused(migrated_url: str) -> None:
    async with opened(migrated_url, secret_key="") as api:
        furnish(api)
        for path, body in ((CONFIGS, GIVEN), (CONFIGURATIONS, {"channel": "SMS", **FIELDS})):
            message = failure(await api.post(path, body), 400)
            assert message == "the service has no key to encrypt with (/credentials)"
        assert api.sender.sent == []
        without = {name: value for name, value in GIVEN.items() if name != "credentials"}
        assert (await api.post(CONFIGS, without)).status_code == 201


async def test_an_entry_with_credentials_is_given_its_id(api: Api) -> None:
    refused = await api.post(NATIVE, {"fields": FIELDS}, headers={"Idempotency-Key": "k"})
    assert (refused.status_code, refused.json()["pointer"]) == (422, "/id")
    bad = await api.post(
        "/v1/commands", {"type": "directory.register", "data": {"kind": "dispatch", "id": 7, "fields": FIELDS}}
    )
    assert bad.status_code == 422
    assert api.sender.sent == []
    nowhere(api, refused, bad)


async def test_credentials_that_come_by_a_queue_in_the_clear_are_refused(api: Api) -> None:
    """Nobody encrypts them there, so they must not become part of anything that is kept."""
    data = msgspec.json.encode({"kind": "dispatch", "id": "SMS", "fields": FIELDS})
    (reply,) = api.sender.work([Outgoing("directory.register", data, "acme", actor="system")])
    assert reply.error is not None
    assert (reply.error.code, reply.error.pointer) == ("invalid", "/fields/credentials")
    nowhere(api)


async def test_a_dispatch_carries_them_to_the_provider_and_nowhere_else(api: Api, provider: Answering) -> None:
    provider.answer = lambda _: (401, {}, b'{"message": "unknown key c4n4ry-of-the-key"}')
    config = {**GIVEN, "channel": "SALESMAN", "base_url": provider.url}
    assert (await api.post(CONFIGS, config)).status_code == 201
    created = (await api.post("/api/activities/tasks", BODY)).json()["id"]
    asked = await api.post(f"/api/activities/tasks/{created}/dispatch", None)
    with psycopg.connect(api.url) as conn:
        events = [row.recorded().data for row in log.read(conn, 0, 100_000)]
    (requested,) = [event for event in events if isinstance(event, DispatchRequested)]
    used = settings(api.url, "amqp://localhost/", dispatch_hosts=("127.0.0.1",), secret_key=(SecretStr(KEY),))
    async with Providers(used) as providers:
        outcome = await providers.call(Call("acme", requested.channel, "k", requested.provider, b"{}"))
    assert provider.received[0].headers["x-api-key"] == CANARY
    report = {"id": created, "attempt": 1, "succeeded": False, "code": outcome.code, "message": outcome.message}
    api.command("task.report-dispatch", report)
    history = await api.get(f"/v1/tasks/{created}/history")
    told = await api.get(f"/api/activities/{created}/status-events")
    assert told.json()[-1]["errorMessage"] == "the provider answered 401: unknown key ***"
    nowhere(api, asked, history, told)


async def test_the_longest_credentials(api: Api) -> None:
    longest = dict.fromkeys(("apiKey", "username", "password"), '"' * MAX_LENGTH)
    assert (await api.post(CONFIGS, {**GIVEN, "credentials": longest})).status_code == 201
    assert kept(api) == longest
    longer = {**longest, "apiKey": "a" * (MAX_LENGTH + 1)}
    assert failure(await api.post(CONFIGS, {**GIVEN, "credentials": longer}), 400).endswith("(/credentials/apiKey)")
