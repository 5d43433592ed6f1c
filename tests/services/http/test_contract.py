"""What holds for every operation of every dialect: who may ask, what is refused and how, and what is away.

A test here records nothing, so that all of them share a scene.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from services import keys
from services.http.core import openapi
from services.http.core.middleware import Envelope
from services.keys import PERMISSIONS
from services.store.pool import Pool, Rows
from tests.eventually import eventually_async
from tests.services.http.api import Api
from tests.services.http.contract import (
    CASES,
    DONE_BEFORE,
    OPERATIONS,
    READS,
    WAITING,
    WITH_ID,
    WRITES,
    Case,
    documented,
    name_of,
    refused,
    send,
    without,
)
from tests.services.http.contract_scene import CANARY

pytestmark = pytest.mark.asyncio(loop_scope="module")
EVERY = pytest.mark.parametrize("case", CASES, ids=name_of)
# The caller's own account and last period are no lists; the figures of all tenants are the same for each.
_OWN = ("get_tenants", "field_get_me", "workflow_get_account", "workflow_get_last_period")
LISTS = [case for case in READS if case not in WITH_ID and case.name not in _OWN and not case.operation.lasts]
# Ids that nobody can have.
NO_IDS = ("no%20id", "x" * 65, "%C3%A4", "%ff", "%00")
# The envelope of each dialect below its paths, and outside of all of them.
BELOW: dict[str, Envelope] = {
    **{path: each.dialect.envelope for each in OPERATIONS for path in each.dialect.paths},
}


def key(api: Api, *permissions: str, tenant: str = "acme") -> str:
    """Return a token with these permissions, the same one each time."""
    name = " ".join((tenant, *permissions))
    if name not in api.tokens:
        api.tokens[name] = api.key(tenant, "system", *permissions)
    return api.tokens[name]


def lapsed(api: Api) -> tuple[str, str]:
    """Return a token that has expired and one that was revoked."""
    if "expired" not in api.tokens:
        with psycopg.connect(api.url) as conn:
            for name in ("expired", "revoked"):
                info, api.tokens[name] = keys.create(conn, "acme", "system", PERMISSIONS)
                if name == "revoked":
                    assert keys.revoke(conn, info.id)
                else:
                    past = "UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE id = %s"
                    conn.execute(past, (info.id,))
    return api.tokens["expired"], api.tokens["revoked"]


@EVERY
async def test_who_asks_must_be_known(scene_api: Api, case: Case) -> None:
    token = key(scene_api, *PERMISSIONS)
    wrong = [None, "Basic eDp5", "Bearer", "Bearer x", f"Bearer {token[:-1]}", f"Bearer {token}x", f"Token {token}"]
    for authorization in (*wrong, *(f"Bearer {lost}" for lost in lapsed(scene_api))):
        response = await send(scene_api, case, headers={"Authorization": authorization})
        refused(response, case.operation.dialect.envelope, "unauthorized")
        documented(case, response)
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert token not in response.text
    assert scene_api.sender.sent == []


@EVERY
async def test_a_permission_that_is_missing_is_named(scene_api: Api, case: Case) -> None:
    permission = case.operation.permission
    response = await send(scene_api, case, headers=scene_api.by(key(scene_api, *without(permission))))
    refused(response, case.operation.dialect.envelope, "forbidden")
    documented(case, response)
    assert permission in response.text
    assert scene_api.sender.sent == []
    scene_api.sender.stopped = True
    further = case.operation.further
    for other in further:
        response = await send(scene_api, case, headers=scene_api.by(key(scene_api, *without(other))))
        refused(response, case.operation.dialect.envelope, "forbidden")
        assert other in response.text
    allowed = await send(scene_api, case, headers=scene_api.by(key(scene_api, permission, *further)))
    # What was done before is not done again, which is no question of permissions.
    assert allowed.status_code < 300 or allowed.json().get("code") in DONE_BEFORE, allowed.text


@pytest.mark.parametrize("case", WITH_ID, ids=name_of)
async def test_another_tenants_id_reads_like_one_that_nobody_has(scene_api: Api, case: Case) -> None:
    headers = scene_api.by(key(scene_api, *PERMISSIONS, tenant="other"))
    theirs = await send(scene_api, case, headers=headers)
    unknown = await send(scene_api, case, case.at(id="nobody"), headers=headers)
    assert unknown.status_code == theirs.status_code == 404, theirs.text
    assert unknown.text == theirs.text.replace(case.parts["id"], "nobody")
    for response in (theirs, unknown, *[await send(scene_api, case, case.at(id=other)) for other in NO_IDS]):
        assert response.status_code == 404, response.text
        documented(case, response)


@pytest.mark.parametrize("case", LISTS, ids=name_of)
async def test_a_list_holds_nothing_of_another_tenant(scene_api: Api, case: Case) -> None:
    texts = []
    for tenant in ("acme", "other"):
        answer = await send(scene_api, case, headers=scene_api.by(key(scene_api, *PERMISSIONS, tenant=tenant)))
        documented(case, answer)
        texts.append(answer.text)
    # What the tests before were refused as the other tenant is in its record of acts.
    assert CANARY in texts[0] or len(texts[0]) > len(texts[1])
    assert CANARY not in texts[1]


@EVERY
async def test_a_parameter_that_nobody_knows_is_refused(scene_api: Api, case: Case) -> None:
    # Where parameters are filters, an unknown one is an unknown filter.
    code = "unknown-filter" if case.name in ("list_activities", "list_tasks") else "unknown-parameter"
    for name, sent in (("colour", "colour=red"), ("\0", "%00"), ("\ufffd", "%ff=%ff")):
        response = await send(scene_api, case, f"{case.at()}?{sent}")
        refused(response, case.operation.dialect.envelope, code, parameter=name)
        documented(case, response)
    assert scene_api.sender.sent == []


@pytest.mark.parametrize("case", WAITING, ids=name_of)
async def test_a_position_is_waited_for(scene_api: Api, case: Case) -> None:
    envelope = case.operation.dialect.envelope
    for given, code in (("x", "bad-position"), ("", "bad-position"), ("999999", "position-beyond-head")):
        response = await send(scene_api, case, f"{case.at()}?min_position={given}")
        refused(response, envelope, code, parameter="min_position")
        documented(case, response)
    assert (await send(scene_api, case, f"{case.at()}?min_position=1")).status_code == 200


@EVERY
async def test_a_header_that_is_wrong_is_refused_where_it_is_read(scene_api: Api, case: Case) -> None:
    scene_api.sender.stopped = True
    for given in ("", "x" * 256, "a\tb", "\u00e9".encode("latin-1"), b"\xff"):
        response = await send(scene_api, case, headers={"Idempotency-Key": given})
        if case.operation.writes or openapi.KEY in case.operation.parameters:
            refused(response, case.operation.dialect.envelope, "bad-header", parameter="Idempotency-Key")
            documented(case, response)
        elif not case.operation.act:
            assert response.status_code == 200
    assert scene_api.sender.sent == []


@pytest.mark.parametrize("case", WRITES, ids=name_of)
async def test_a_broker_that_is_away_and_an_answer_that_is_late(scene_api: Api, case: Case) -> None:
    scene_api.sender.unreachable = True
    away = await send(scene_api, case)
    refused(away, case.operation.dialect.envelope, "unavailable")
    assert away.headers["retry-after"] == "1"
    scene_api.sender.unreachable, scene_api.sender.stopped = False, True
    late = await send(scene_api, case)
    assert late.status_code == 202, late.text
    # The parts of a bulk have a receipt each.
    assert late.headers.get("location", '"receipt":"/v1/commands/') in late.text
    for response in (away, late):
        documented(case, response)


@asynccontextmanager
async def cut_off(api: Api) -> AsyncIterator[None]:
    """Take the database away from everybody, and wait until it is used again."""
    name = urlsplit(api.url).path.removeprefix("/")
    with psycopg.connect(api.url, dbname="postgres", autocommit=True) as conn:
        allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        conn.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        try:
            conn.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,))
            yield
        finally:
            conn.execute(allow.format(sql.Identifier(name), sql.SQL("true")))

    async def back() -> bool:
        return (await api.get("/v1/events")).status_code == 200

    await eventually_async(back)


async def test_a_database_that_is_away_is_said_by_every_operation(scene_api: Api) -> None:
    token = key(scene_api, *PERMISSIONS)
    # The token is known, so it is the operation that needs the database.
    assert (await scene_api.get("/v1/events", token)).status_code == 200
    scene_api.sender.stopped = True
    async with cut_off(scene_api):
        responses = await asyncio.gather(*(send(scene_api, case, headers=scene_api.by(token)) for case in CASES))
    for case, response in zip(CASES, responses, strict=True):
        # The system is in no table, and a command reaches the broker without it, unless something is looked up first.
        if case.name == "field_get_me":
            assert response.status_code == 200
        elif not (case.operation.writes and response.status_code == 202):
            refused(response, case.operation.dialect.envelope, "unavailable")
            assert response.headers["retry-after"]
        documented(case, response)


async def test_what_fails_inside_stays_inside(scene_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetch(*_: object) -> Rows:
        raise ZeroDivisionError("the secret of the inside")

    assert (await scene_api.get("/v1/events")).status_code == 200
    scene_api.sender.stopped = True
    monkeypatch.setattr(Pool, "fetch", fetch)
    failed = set()
    # Acts have a connection of their own.
    for case in (each for each in CASES if not each.operation.act):
        response = await send(scene_api, case)
        documented(case, response)
        # The system is in no table.
        if response.status_code != 202 and case.name != "field_get_me":
            failed.add(case.name)
            refused(response, case.operation.dialect.envelope, "internal")
            assert response.headers["x-request-id"] in response.text
        assert "secret" not in response.text
    assert {case.name for case in READS} - {"field_get_me"} <= failed


@pytest.mark.parametrize("below", BELOW)
async def test_what_is_not_served_is_said_in_the_envelope_of_the_dialect(scene_api: Api, below: str) -> None:
    # What is more in a path than an operation has belongs to the dialect still.
    start = below.rstrip("/")
    for path in (f"{start}/no/such/endpoint", f"{start}/no/such/endpoint/"):
        response = await scene_api.get(path)
        refused(response, BELOW[below], "no-endpoint" if path.startswith("/api/") else "not-found")
        assert response.status_code == 404


@EVERY
async def test_a_method_that_a_path_has_not_is_refused_with_those_that_it_has(scene_api: Api, case: Case) -> None:
    path = case.operation.path
    served = {one.method for one in OPERATIONS if one.path == path}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - served:
        response = await scene_api.client.request(method, case.at(), headers=scene_api.by())
        if response.status_code != 405:
            # Another operation's path has a parameter where this one has a word.
            continue
        refused(response, case.operation.dialect.envelope, "method-not-allowed")
        assert response.headers["allow"] == ", ".join(sorted(served | ({"HEAD"} if "GET" in served else set())))
