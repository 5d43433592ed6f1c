"""Who is let in: keys, permissions, tenants; every dialect says it in its own envelope, and nothing leaks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from services import keys
from services.http.core.authenticator import Authenticator
from services.http.core.errors import ApiError
from services.store.pool import Pool
from tests.services.http.api import Api, field_failure, opened, problem


async def test_keys_are_stored_as_digests_and_listed_without_secrets(api: Api) -> None:
    token = api.key("acme", "ann", "read")
    with psycopg.connect(api.url) as conn:
        stored = conn.execute("SELECT api_keys::text FROM api_keys").fetchall()
        assert token.split("_", 2)[2] not in str(stored)
        (info,) = keys.list_keys(conn, "acme")
        assert (info.tenant, info.actor, info.permissions) == ("acme", "ann", ("read",))
        assert keys.list_keys(conn, "other") == []
    assert token not in repr(info)


@pytest.mark.parametrize(
    "given",
    [
        {"tenant": "Not A Tenant"},
        {"tenant": "acme", "actor": "a b"},
        {"tenant": "acme", "permissions": ()},
        {"tenant": "acme", "permissions": ("everything",)},
        {"tenant": "acme", "actor": "ann", "permissions": ("impersonate",)},
        {"tenant": "acme", "expires_at": datetime(2020, 1, 1, tzinfo=UTC)},
        {"tenant": "acme", "expires_at": datetime(2999, 1, 1)},  # noqa: DTZ001
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(migrated_url: str, given: dict[str, object]) -> None:
    with psycopg.connect(migrated_url) as conn:
        with pytest.raises(ValueError, match=r"a tenant|an actor|permissions|only a key|expiry"):
            keys.create(conn, **given)  # type: ignore[arg-type]
        assert keys.list_keys(conn) == []


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Pool]:
    database = Pool(migrated_url, 5.0, size=1)
    database.start()
    yield database
    await database.close()


async def test_a_check_is_believed_until_its_time_is_over_and_then_a_revocation_counts(
    migrated_url: str, database: Pool
) -> None:
    with psycopg.connect(migrated_url) as conn:
        info, token = keys.create(conn, "acme")
    header = f"Bearer {token}".encode()
    believing, doubting = Authenticator(database, cache_seconds=5.0), Authenticator(database, cache_seconds=0.0)
    for gate in (believing, doubting):
        assert (await gate.caller(header)).tenant == "acme"
    with psycopg.connect(migrated_url) as conn:
        assert keys.revoke(conn, info.id)
        assert not keys.revoke(conn, info.id)
    assert (await believing.caller(header)).tenant == "acme"
    with pytest.raises(ApiError, match="unauthorized"):
        await doubting.caller(header)


async def test_the_key_of_a_retired_member_lets_nobody_in(api: Api) -> None:
    api.command("directory.register", {"kind": "member", "id": "ann"})
    token = api.key("acme", "ann")
    assert (await api.get("/v1/tasks", token)).status_code == 200
    gone = await api.client.delete("/v1/directory/member/ann", headers=api.by())
    assert gone.status_code == 200
    problem(await api.get("/v1/tasks", token), 401, "unauthorized")
    field_failure(await api.get("/api/v3/tasks", token), 401, "auth-001")
    # Another process, which has seen nothing of the retirement and whose directory is behind, asks the log.
    database = Pool(api.url, 5.0, size=1)
    database.start()
    with pytest.raises(ApiError, match="unauthorized"):
        await Authenticator(database).caller(api.by(token)["Authorization"].encode())
    await database.close()
    # Nor does one that is made meanwhile, until the member is back; one from before the retirement never does again.
    meanwhile = api.key("acme", "ann")
    problem(await api.get("/v1/tasks", meanwhile), 401, "unauthorized")
    api.command("directory.register", {"kind": "member", "id": "ann"})
    problem(await api.get("/v1/tasks", token), 401, "unauthorized")
    for made_since in (meanwhile, api.key("acme", "ann")):
        assert (await api.get("/v1/tasks", made_since)).status_code == 200
    # What has happened to the member since changes nothing of that.
    api.command("directory.change", {"kind": "member", "id": "ann", "fields": {"name": "Ann"}})
    problem(await api.get("/v1/tasks", token), 401, "unauthorized")


async def test_the_key_of_another_tenants_member_of_that_id_stays(api: Api) -> None:
    for tenant in ("acme", "other"):
        api.command("directory.register", {"kind": "member", "id": "ann"}, tenant)
    api.command("directory.retire", {"kind": "member", "id": "ann"}, "other")
    assert (await api.get("/v1/tasks", api.key("acme", "ann"))).status_code == 200
    assert (await api.get("/v1/tasks", api.key("other", "ann"))).status_code == 401


async def test_a_key_ends_when_it_expires_even_while_it_is_believed(migrated_url: str, database: Pool) -> None:
    with psycopg.connect(migrated_url) as conn:
        info, token = keys.create(conn, "acme", expires_at=datetime.now(UTC) + timedelta(hours=1))
    gate = Authenticator(database)
    header = f"Bearer {token}".encode()
    assert (await gate.caller(header)).key_id == info.id
    with psycopg.connect(migrated_url) as conn:
        conn.execute("UPDATE api_keys SET expires_at = now() - interval '1 second'")
    with pytest.raises(ApiError, match="unauthorized"):
        await Authenticator(database).caller(header)


async def test_no_token_reaches_a_log_or_an_error(migrated_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with opened(migrated_url) as api:
        token = api.key()
        canary = token.split("_", 2)[2]
        with psycopg.connect(migrated_url, autocommit=True) as conn:
            conn.execute("DROP VIEW tasks")
        response = await api.get("/v1/tasks/t1", token)
        problem(response, 500, "internal")
        assert "tasks" not in response.text
        said = capsys.readouterr()
        assert response.headers["x-request-id"] in said.out + said.err
        assert canary not in said.out + said.err + response.text


def _part(value: bytes | dict[str, str]) -> str:
    text = json.dumps(value).encode() if isinstance(value, dict) else value
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "HS512", "RS256", "ES256", ""])
@pytest.mark.parametrize("key_id", ["{id}", "../../dev/null"])
async def test_a_json_web_token_is_no_key(api: Api, algorithm: str, key_id: str) -> None:
    token = api.key()
    own = keys.id_of(token)
    head = _part({"alg": algorithm, "kid": key_id.format(id=own)})
    claims = _part({"sub": own, "tenant": "acme"})
    with psycopg.connect(api.url) as conn:
        row = conn.execute("SELECT digest FROM api_keys WHERE id = %s", (own,)).fetchone()
    assert row is not None
    # Unsigned, signed with what is stored of the key, and with its id.
    for secret in (None, bytes(row[0]), own.encode()):
        mark = b"" if secret is None else hmac.new(secret, f"{head}.{claims}".encode(), hashlib.sha256).digest()
        forged = f"{head}.{claims}.{_part(mark)}"
        problem(await api.get("/v1/tasks", forged), 401, "unauthorized")
        problem(await api.get("/v1/tasks", f"fw_{own}_{forged}"), 401, "unauthorized")


async def test_a_key_in_a_header_of_its_own(api: Api) -> None:
    token = api.key()
    for headers, status in (
        ({"X-API-Key": token}, 200),
        ({"X-API-Key": f" {token} "}, 200),
        ({"X-API-Key": token, **api.by(token)}, 200),
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": f"{token}x"}, 401),
        ({"X-API-Key": f"Bearer {token}"}, 401),
        ({"X-API-Key": token, "Authorization": "Bearer x"}, 400),
        ({"X-API-Key": "x", **api.by(token)}, 400),
        ({"X-API-Key": token, "Authorization": "Basic eDp5"}, 401),
    ):
        response = await api.client.get("/v1/tasks", headers=headers)
        assert response.status_code == status, headers
        if status == 400:
            problem(response, 400, "bad-header")
