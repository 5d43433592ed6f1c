"""What holds for every operation that is an act of an operator: it is recorded, and its key is not ignored."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tests.acceptance.running import ROOT
from tests.services.harness import rows
from tests.services.http.api import Api, problem
from tests.services.http.contract import CASES, Case, able, name_of, refused, send
from tests.services.http.contract_scene import set_the_scene

set_scene = set_the_scene
# A rebuild is of no tenant, whose audit therefore has it not, and recorded by the role that does it.
APART = {"rebuild_projection"}
ACTS = [case for case in CASES if case.operation.act and case.name not in APART]
WITH_PART = [case for case in ACTS if case.parts]
# What a part of the path may be, if that is no id of anybody's choice; empty if Foldwork brings all that there is.
UNKNOWN = {"position": "999", "revoke_key": "0" * 16, "retry_projection": ""}
KEYED = [case for case in ACTS if case.operation.keyed]
# It waits for a receiver, and changes nothing in the database.
WITHOUT_ROWS = {"ping_webhook"}
# The states in which a bulk is changed by what is done with it; in the scene it is not.
STATES = {"run_bulk": "previewed", "resume_bulk": "paused", "pause_bulk": "running", "abort_bulk": "running"}
KEY = {"Idempotency-Key": "key-1"}
# Lets nothing be written but the log.
REFUSING = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'out of order'; END $$;
DO $$ DECLARE each text; BEGIN
    FOR each IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'stored_events'
    LOOP
        EXECUTE format('CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON %I EXECUTE FUNCTION refuse()', each);
    END LOOP;
END $$"""


def prepared(api: Api, case: Case) -> Case:
    """Return the case as one that changes something; what asks for it has its keys."""
    able(api, case)
    auditor(api)
    if case.name not in STATES:
        return case
    with psycopg.connect(api.url) as conn:
        # The process must not take it meanwhile.
        conn.execute(
            "UPDATE bulk_actions SET state = %s, due_at = now() + interval '1 day' WHERE id = %s",
            (STATES[case.name], case.parts["id"]),
        )
    return case


def auditor(api: Api) -> str:
    """Return a token that may read the audit, the same one each time."""
    return api.tokens.get("audit") or api.tokens.setdefault("audit", api.key("acme", "system", "audit"))


async def acts(api: Api) -> list[dict[str, Any]]:
    """Return the acts that somebody did with a key, the newest first."""
    answer = await api.get("/v1/audit?limit=500", auditor(api))
    assert answer.status_code == 200, answer.text
    return [each for each in answer.json()["data"] if each["key_id"] is not None]


def key_of(api: Api, case: Case) -> str:
    """Return the id of the key that a case is done with."""
    token = able(api, case)
    assert token is not None
    return token.split("_")[1]


@pytest.mark.parametrize("case", ACTS, ids=name_of)
async def test_what_is_done_is_recorded_once_with_who_did_it(api: Api, case: Case) -> None:
    response = await send(api, prepared(api, case))
    assert response.status_code == case.operation.status, response.text
    found = await acts(api)
    assert [each["outcome"] for each in found] in (["succeeded"], ["succeeded", "started"])
    assert {(each["actor"], each["key_id"]) for each in found} == {("system", key_of(api, case))}
    (act,) = {each["act"] for each in found}
    assert f"`{act}`" in (ROOT / "docs/audit.md").read_text("utf-8"), "docs/audit.md lists every act"


@pytest.mark.parametrize("case", [case for case in ACTS if case.name not in WITHOUT_ROWS], ids=name_of)
async def test_what_fails_is_recorded_with_the_reason_and_changes_nothing(api: Api, case: Case) -> None:
    prepared(api, case)
    with psycopg.connect(api.url) as conn:
        conn.execute(REFUSING)
    tables = ("webhooks", "webhook_deliveries", "dead_letters", "bulk_actions", "bulk_items")
    before = {table: rows(api.url, f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in tables}
    response = await send(api, case)
    assert response.status_code == 500, response.text
    (failed,) = await acts(api)
    assert (failed["outcome"], failed["reason"]) == ("failed", "RaiseException: out of order")
    assert (failed["actor"], failed["key_id"]) == ("system", key_of(api, case))
    assert {table: rows(api.url, f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in tables} == before


@pytest.mark.parametrize("case", [case for case in WITH_PART if UNKNOWN.get(case.name, "nobody")], ids=name_of)
async def test_what_is_refused_is_recorded_with_the_reason(api: Api, case: Case) -> None:
    unknown = UNKNOWN.get(case.name, "nobody")
    nobody = replace(case, other=tuple((name, UNKNOWN.get(name, unknown)) for name in case.parts))
    response = await send(api, nobody)
    assert response.status_code == 404, response.text
    failed, *begun = await acts(api)
    assert [each["outcome"] for each in begun] in ([], ["started"])
    assert failed["outcome"] == "failed"
    assert failed["reason"].startswith("not-found: ")
    assert failed["target"].endswith(f"/{unknown}")


async def test_what_cannot_be_an_id_or_is_wrong_in_itself_is_no_act(api: Api) -> None:
    for case in WITH_PART:
        response = await send(api, case, case.at(**dict.fromkeys(case.parts, "%00")))
        assert response.status_code == 404, (case.name, response.text)
    for case in ACTS:
        response = await send(api, case, f"{case.at()}?nonsense=1")
        assert response.status_code == 400, (case.name, response.text)
        without = await send(api, case, headers={"Authorization": f"Bearer {api.key('acme', 'system', 'read')}"})
        assert without.status_code == 403, (case.name, without.text)
    assert await acts(api) == []


async def test_a_refusal_of_what_is_there_is_recorded(api: Api) -> None:
    hooks = api.key("acme", "system", "webhooks")
    taken = await api.post("/v1/webhooks", {"url": "https://example.com/", "id": "h1"}, hooks)
    problem(taken, 409, "taken", pointer="/id")
    operator = api.key("acme", "ann", "operate", "write", "read")
    with psycopg.connect(api.url) as conn:
        conn.execute("UPDATE bulk_actions SET state = 'previewed'")
    others = await api.client.post("/v1/bulk/bulk-paused/run", headers=api.by(operator))
    problem(others, 403, "forbidden")
    found = [(each["act"], each["target"], each["outcome"], each["reason"].split(":")[0]) for each in await acts(api)]
    assert found == [
        ("bulk.run", "bulk/bulk-paused", "failed", "forbidden"),
        ("webhook.create", "webhook/h1", "failed", "taken"),
    ]


@pytest.mark.parametrize("case", ACTS, ids=name_of)
async def test_a_key_is_not_ignored(api: Api, case: Case) -> None:
    prepared(api, case)
    response = await send(api, case, headers=KEY)
    if case.operation.keyed:
        assert response.status_code == case.operation.status, response.text
        assert any(each["name"] == "Idempotency-Key" for each in case.said["parameters"])
        return
    refused(response, case.operation.dialect.envelope, "bad-header", parameter="Idempotency-Key")
    assert await acts(api) == []


@pytest.mark.parametrize("case", KEYED, ids=name_of)
async def test_a_repetition_under_one_key_gets_the_first_answer(api: Api, case: Case) -> None:
    first = await send(api, case, headers=KEY)
    again = await send(api, case, headers=KEY)
    assert (again.status_code, again.headers["location"]) == (case.operation.status, first.headers["location"])
    assert again.json()["id"] == first.json()["id"]
    assert len(await acts(api)) == 1
    other = (
        {**case.body, "on_change": "run"} if "command" in case.body else {**case.body, "url": "https://example.org/"}
    )
    conflict = await send(api, replace(case, body=other), headers=KEY)
    refused(conflict, case.operation.dialect.envelope, "idempotency-conflict")
    for wrong in ("", "x" * 256, "caf\xe9"):
        bad = await send(api, case, headers={"Idempotency-Key": wrong.encode("latin-1")})
        refused(bad, case.operation.dialect.envelope, "bad-header", parameter="Idempotency-Key")


async def test_a_webhook_is_created_once_under_a_key(api: Api) -> None:
    hooks, body = api.key("acme", "system", "webhooks"), {"url": "https://example.com/", "types": ["task.created"]}
    first = (await api.post("/v1/webhooks", body, hooks, headers=KEY)).json()
    # In another order, it is still the same.
    again = (await api.post("/v1/webhooks", dict(reversed(body.items())), hooks, headers=KEY)).json()
    assert again == first
    # It is answered with the webhook as it is now.
    await api.client.patch(f"/v1/webhooks/{first['id']}", json={"state": "paused"}, headers=api.by(hooks))
    rotated = (await api.post(f"/v1/webhooks/{first['id']}/rotate-secret", {}, hooks)).json()
    again = (await api.post("/v1/webhooks", body, hooks, headers=KEY)).json()
    assert (again["id"], again["state"], again["secret"]) == (first["id"], "paused", rotated["secret"])
    # The key of another actor, or another tenant, is another one.
    for other in (api.key("acme", "ann", "webhooks"), api.key("other", "system", "webhooks")):
        assert (await api.post("/v1/webhooks", body, other, headers=KEY)).json()["id"] != first["id"]
    assert rows(api.url, "SELECT count(*) FROM webhooks WHERE url = 'https://example.com/'") == [(3,)]
    # An id of one's own under a key: neither is taken by the other.
    named = {"url": "https://example.com/", "id": "mine"}
    key = {"Idempotency-Key": "key-2"}
    assert [(await api.post("/v1/webhooks", named, hooks, headers=key)).status_code for _ in range(2)] == [201, 201]
    conflict = await api.post("/v1/webhooks", {**named, "id": "yours"}, hooks, headers=key)
    problem(conflict, 409, "idempotency-conflict")
    problem(await api.post("/v1/webhooks", named, hooks), 409, "taken", pointer="/id")
    await api.client.delete("/v1/webhooks/mine", headers=api.by(hooks))
    assert (await api.post("/v1/webhooks", {**named, "id": "yours"}, hooks, headers=key)).status_code == 201


def test_nobody_records_an_act_beside_its_transaction() -> None:
    found = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "services").rglob("*.py"))
        if re.search(r"operations\.record\b|operations import [^\n]*\brecord\b", path.read_text("utf-8"))
    ]
    assert found == []
