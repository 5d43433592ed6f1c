"""One search: things by id, name and value, of the tenant alone, and of no kind that the key may not read."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
import psycopg
import pytest

from projections import suffix
from projections.task import table as tasks
from services import keys
from services.broker.sender import Outgoing
from services.http.core.app import OPERATIONS
from services.http.native.search import KINDS, MOST
from services.keys import PERMISSIONS
from services.store import webhooks
from tests.services.http.api import Api, problem, with_activity, with_workflow

PATH = "/v1/search"


async def found(api: Api, text: str, token: str | None = None) -> dict[str, list[tuple[str, str, str]]]:
    """Return (id, why, path) of what is found, by kind."""
    response = await api.get(PATH, token, params={"q": text})
    assert response.status_code == 200, response.text
    return {
        each["kind"]: [(hit["id"], hit["match"], hit["path"]) for hit in each["hits"]]
        for each in response.json()["data"]
    }


async def test_a_thing_is_found_by_its_id_and_is_where_the_path_says(api: Api) -> None:
    with_workflow(api)
    with_activity(api, "order-7")
    for name, data in (
        ("task.create", {"id": "same"}),
        ("directory.register", {"kind": "hub", "id": "same", "fields": {"name": "North"}}),
        ("directory.register", {"kind": "member", "id": "same", "fields": {"email": "s@example.com"}}),
        ("workflow.define", {"id": "same", "name": "Same", "steps": [{"name": "One"}]}),
    ):
        api.command(name, data)
    (reply,) = api.sender.work([Outgoing("task.create", b"{}", "acme", command_id="same")])
    assert reply.accepted
    everything = api.key("acme", "system", *PERMISSIONS)
    with psycopg.connect(api.url) as conn:
        webhooks.create(conn, "acme", "same", "https://example.com/", {}, "", "system")
        conn.execute(
            "INSERT INTO bulk_actions (tenant, id, command, data, asked, on_change, actor, state, rate, total)"
            " VALUES ('acme', 'same', 'task.cancel', '{}', '{}', 'skip', 'system', 'finished', 'all', 1)"
        )
        conn.execute(
            "INSERT INTO dead_letters (id, tenant, arrived, key, message_id, headers, body, bytes, sha256, code,"
            " detail, pointer, fingerprint)"
            " VALUES ('same', 'acme', '1', 'k', 'm1', '{}', '{}', 2, '', 'poison', '', '', '')"
        )
    hits = await found(api, " same ", everything)
    assert list(hits) == ["task", "workflow", "hub", "member", "command", "dead-letter", "webhook", "bulk"]
    for kind, ((own_id, match, path), *more) in hits.items():
        # The workflow's name begins so, too.
        assert (own_id, match, more) == ("same", "id", []), kind
        answer = await api.get(path, everything)
        assert answer.status_code == 200, (kind, answer.text)
    # An activity and a task have no id in common.
    assert await found(api, "order-7") == {"activity": [("order-7", "id", "/v1/activities/order-7")]}
    assert await found(api, "m1", everything) == {"dead-letter": [("same", "message_id", "/v1/dead-letters/same")]}


async def test_a_retired_entry_is_found_where_it_can_be_read(api: Api) -> None:
    api.command("directory.register", {"kind": "hub", "id": "h1"})
    api.command("directory.retire", {"kind": "hub", "id": "h1"})
    ((_, _, path),) = (await found(api, "h1"))["hub"]
    assert (await api.get(path)).json()["retired"] is True


async def test_a_command_is_found_by_its_idempotency_key(api: Api) -> None:
    body = {"type": "task.create", "data": {"id": "t1"}}
    sent = await api.post("/v1/commands", body, headers={"Idempotency-Key": "order 4711"})
    command_id = sent.json()["command_id"]
    assert await found(api, "order 4711") == {
        "command": [(command_id, "idempotency_key", f"/v1/commands/{command_id}")]
    }
    assert await found(api, "order 471") == {}


async def test_a_member_is_found_by_every_reference(api: Api) -> None:
    fields = {"email": "Ann@Example.com", "account_id": 42, "operator_id": "Op-7", "external_id": "x 9", "name": "Ann"}
    api.command("directory.register", {"kind": "member", "id": "ann", "fields": fields})
    path = "/v1/directory/member/ann"
    for text, match in (
        ("ann", "id"), ("ann@example.COM", "email"), ("account:42", "account"), ("operator:op-7", "operator"),
        ("x 9", "external_id"),
    ):  # fmt: skip
        assert await found(api, text) == {"member": [("ann", match, path)]}, text
    for text in ("account:43", "operator:7", "bob@example.com", "account:x", "@", "account:"):
        assert await found(api, text) == {}, text


async def test_titles_are_found_in_any_case_by_a_part_of_them(api: Api) -> None:
    with_workflow(api)
    with_activity(api, "a1", title="Größe 50%")
    for number in range(MOST + 2):
        api.command("task.create", {"id": f"t{number:02}", "title": f"GRÖSSE {number:02}"})
    api.command("task.create", {"id": "else", "title": "Die Größe"})
    hits = await found(api, "grösse")
    assert hits["activity"] == [("a1", "title", "/v1/activities/a1")]
    assert [own_id for own_id, *_ in hits["task"]] == [f"t{number:02}" for number in range(MOST)]
    more = {each["kind"]: each["more"] for each in (await api.get(PATH, params={"q": "größe"})).json()["data"]}
    assert more == {"activity": False, "task": True}
    assert await found(api, "größe 50%") == {"activity": hits["activity"]}
    # Those that begin with the text come first, and what is shorter than three characters is a beginning.
    api.command("task.create", {"id": "first", "title": "Sendung der Größe"})
    assert (await found(api, "sen"))["task"][0] == ("first", "title", "/v1/tasks/first")
    assert await found(api, "ösSE 07") == {"task": [("t07", "title", "/v1/tasks/t07")]}
    assert [own_id for own_id, *_ in (await found(api, "die"))["task"]] == ["else"]
    assert [own_id for own_id, *_ in (await found(api, "die g"))["task"]] == ["else"]
    assert await found(api, "07") == {}
    # No pattern.
    for text in ("gr%", "gr_sse", "*", "%", "größe 5__"):
        assert await found(api, text) == {}, text


async def test_what_is_found_twice_is_shown_once_by_its_id(api: Api) -> None:
    api.command("task.create", {"id": "visit", "title": "Visit"})
    assert await found(api, "visit") == {"task": [("visit", "id", "/v1/tasks/visit")]}


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("customer=Jane Doe", True),
        (" customer = Jane Doe ", True),
        ("count=3", True),
        ("code=007", True),
        ("signed=true", True),
        ("signed=True", False),
        ("customer=Jane", False),
        ("customer=jane doe", False),
        ("Customer=Jane Doe", False),
        ("count=4", False),
        ("note=a=b", True),
        ("deep={}", False),
        ("customer=", False),
        ("=Jane Doe", False),
        ("=", False),
        (f"count={'9' * 190}", False),
        (f"{'n' * 65}=1", False),
        ("count=1e999", False),
        (f"count={'[' * 180}", False),
    ],
)
async def test_tasks_are_found_by_a_value_of_their_data(api: Api, text: str, is_found: bool) -> None:
    fields = {"customer": "Jane Doe", "count": 3, "code": "007", "signed": True, "note": "a=b", "deep": {"a": 1}}
    api.command("task.create", {"id": "t1", "fields": fields})
    api.command("task.create", {"id": "t1", "fields": fields}, "other")
    api.command("task.create", {"id": "t2", "fields": {}})
    assert await found(api, text) == ({"task": [("t1", "field", "/v1/tasks/t1")]} if is_found else {})


async def test_nothing_of_another_tenant_is_found(api: Api) -> None:
    with_workflow(api, "other", name="secret")
    with_activity(api, "secret", "other", title="secret")
    for name, data in (
        ("task.create", {"id": "s1", "title": "secret", "fields": {"a": "secret"}}),
        ("directory.register", {"kind": "member", "id": "s1", "fields": {"email": "secret@example.com"}}),
        ("directory.register", {"kind": "hub", "id": "s2", "fields": {"external_id": "secret"}}),
    ):
        api.command(name, data, "other")
    api.sender.work([Outgoing("task.create", b"{}", "other", command_id="secret", idempotency_key="secret-key")])
    with psycopg.connect(api.url) as conn:
        info, _ = keys.create(conn, "other", "system", ["read"])
        webhooks.create(conn, "other", "secret", "https://example.com/", {}, "", "system")
    everything, theirs = api.key("acme", "system", *PERMISSIONS), api.key("other", "system", *PERMISSIONS)
    for text in ("secret", "s1", "w1", "a=secret", "secret@example.com", "secret-key", info.id):
        assert await found(api, text, everything) == {}, text
        assert await found(api, text, theirs) != {}, text


async def test_kinds_that_the_key_may_not_read_are_left_out(api: Api) -> None:
    with psycopg.connect(api.url) as conn:
        info, _ = keys.create(conn, "acme", "system", ["read"], "my key")
        keys_id = info.id
        webhooks.create(conn, "acme", keys_id, "https://example.com/", {}, "", "system")
        conn.execute(
            "INSERT INTO dead_letters (id, tenant, arrived, key, headers, body, bytes, sha256, code, detail, pointer,"
            " fingerprint) VALUES (%s, 'acme', '1', 'k', '{}', '{}', 2, '', 'poison', '', '', '')",
            (keys_id,),
        )
    assert await found(api, keys_id) == {}
    for permission, kind in (("operate", "dead-letter"), ("webhooks", "webhook"), ("keys", "key")):
        assert list(await found(api, keys_id, api.key("acme", "system", "read", permission))) == [kind]
    problem(await api.get(f"{PATH}?q=x", api.key("acme", "system", "keys")), 403, "forbidden")


def test_the_permission_of_a_kind_is_that_of_its_path() -> None:
    needed = {each.path.replace(":path", ""): each.permission for each in OPERATIONS if each.method == "GET"}
    for kind, each in KINDS.items():
        path = each.path.partition("?")[0]
        general = path.replace(f"/directory/{kind}/", "/directory/{kind}/").replace("{id}", "{id}")
        known = needed.get(general) or needed.get(general.replace("{id}", "{letter}"))
        assert known == each.permission, kind


@pytest.mark.parametrize("text", ["", " ", "x" * 201, "\0", "a\0b", "\ud800"])
async def test_what_cannot_be_searched_for_is_refused(api: Api, text: str) -> None:
    sent = text.encode("utf-8", "surrogatepass")
    refused = await api.get(f"{PATH}?q={quote(sent)}")
    if text == "\ud800":
        # What is no UTF-8 is read with marks in its place.
        assert (refused.status_code, refused.json()) == (200, {"data": []})
    else:
        problem(refused, 400, "bad-filter", parameter="q")


async def test_the_question_is_needed_once(api: Api) -> None:
    problem(await api.get(PATH), 400, "bad-filter", parameter="q")
    problem(await api.get(f"{PATH}?q=a&q=b"), 400, "bad-filter", parameter="q")
    problem(await api.get(f"{PATH}?q=a&kind=task"), 400, "unknown-parameter", parameter="kind")


@pytest.mark.parametrize(
    "text", ["'", '"; DROP TABLE tasks; --', "%s", "%(q)s", "\\", "\U0010ffff", "a\nb", "{}", "x" * 200]
)
async def test_odd_texts_are_texts(api: Api, text: str) -> None:
    data: dict[str, Any] = {"id": "odd", "title": text}
    api.command("task.create", data)
    hits = await found(api, text)
    wanted = [("odd", "title", "/v1/tasks/odd")] if text.strip() == text else []
    assert hits == {"task": wanted}, msgspec.json.encode(data)


async def test_what_this_version_searches_by_is_being_built(api: Api) -> None:
    # The tables of the version before serve meanwhile.
    api.command("task.create", {"id": "t1", "title": "A visit"})
    with psycopg.connect(api.url) as conn:
        row = conn.execute(
            "SELECT string_agg(column_name, ', ' ORDER BY ordinal_position) FROM information_schema.columns"
            " WHERE table_name = 'tasks' AND column_name <> 'grams'"
        ).fetchone()
        assert row is not None
        conn.execute("DROP VIEW tasks")
        conn.execute(f"CREATE VIEW tasks AS SELECT {row[0]} FROM tasks_{suffix(tasks)}".encode())
    assert [task["id"] for task in (await api.get("/v1/tasks")).json()["data"]] == ["t1"]
    for path in ("/v1/tasks?search=visit", f"{PATH}?q=visit"):
        problem(await api.get(path), 503, "unavailable", detail="a read model is being built for this version")
    assert (await api.get("/v1/tasks?search=vi")).status_code == 200
