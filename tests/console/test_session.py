"""The log-in, and what protects the pages behind it; asked as a browser asks, without one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from services import keys
from services.http.console import session
from services.http.console.app import SCREENS
from services.http.console.session import Sessions
from tests.eventually import eventually_async
from tests.services.http.api import KEY, Api

COOKIE = "foldwork-console"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SAME, OTHER = {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "cross-site"}


async def logged_in(api: Api, *permissions: str, actor: str = "system") -> httpx.AsyncClient:
    """Return a client with a session."""
    client = httpx.AsyncClient(transport=httpx.ASGITransport(api.app), base_url="http://localhost")
    answer = await client.post("/console/login", data={"key": api.key("acme", actor, *permissions)}, headers=SAME)
    assert answer.status_code == 303, answer.text
    return client


async def csrf(client: httpx.AsyncClient) -> str:
    page = (await client.get("/console")).text
    found = re.search(r'"X-CSRF-Token": "([^"]+)"', page)
    assert found is not None, page
    return found[1]


async def test_a_key_opens_a_session_and_its_cookie_says_nothing(api: Api) -> None:
    token = api.key()
    answer = await api.client.post("/console/login", data={"key": token}, headers=SAME)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")
    cookie = answer.headers["set-cookie"]
    for part in (f"{COOKIE}=", "HttpOnly", "SameSite=strict", "Path=/console", "Secure", "Max-Age=43200"):
        assert part in cookie
    assert token not in cookie
    assert token.split("_", 2)[2] not in cookie


async def test_only_on_loopback_a_cookie_goes_without_tls(api: Api) -> None:
    for host, secure in (("localhost:8000", False), ("127.0.0.1", False), ("foldwork.example", True)):
        answer = await api.client.post("/console/login", data={"key": api.key()}, headers={**SAME, "Host": host})
        assert ("Secure" in answer.headers["set-cookie"]) is secure


@pytest.mark.parametrize("key", ["", "no key", "fw_0123456789abcdef_" + "x" * 43, "x" * 3000, "käse", "a\r\nb: c"])
async def test_what_is_no_key_opens_nothing(api: Api, key: str) -> None:
    answer = await api.client.post("/console/login", data={"key": key}, headers=SAME)
    assert answer.status_code == 401
    assert "unknown, expired or revoked" in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"key=" + b"x" * 5000, FORM, 400),
        (b"{}", {"Content-Type": "application/json"}, 400),
        (b"key=%ff", FORM, 400),
        (b"key=a", {**FORM, **OTHER}, 403),
        (b"key=a", {**FORM, "Origin": "http://elsewhere.example"}, 403),
    ],
)
async def test_a_log_in_that_is_no_form_of_ours_is_refused(
    api: Api, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = await api.client.post("/console/login", content=body, headers=headers)
    assert answer.status_code == status
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-type"].startswith("text/html")


async def test_every_screen_asks_for_a_log_in_and_comes_back_to_itself(api: Api) -> None:
    for screen in SCREENS:
        path = re.sub(r"\{[^}]+\}", "x", screen.path)
        answer = await api.client.request(screen.method, path, headers=SAME)
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/console/login")
    answer = await api.client.get("/console/tasks?status=open&search=a%20b")
    wanted = answer.headers["location"]
    assert wanted == "/console/login?next=%2Fconsole%2Ftasks%3Fstatus%3Dopen%26search%3Da%2520b"
    page = (await api.client.get(wanted)).text
    assert 'name="next" value="/console/tasks?status=open&amp;search=a%20b"' in page
    answer = await api.client.get("/console/tasks", headers={"HX-Request": "true"})
    assert answer.headers["hx-redirect"] == "/console/login"


@pytest.mark.parametrize(
    "elsewhere",
    [
        *("https://elsewhere.example/console", "//elsewhere.example/console", "/\\elsewhere.example", "/consoleX", "/"),
        *("javascript:alert(1)", "/console/\nx", "/console/../v1/tasks\\", "http:/console"),
    ],
)
async def test_a_log_in_leads_nowhere_else(api: Api, elsewhere: str) -> None:
    body = {"key": api.key(), "next": elsewhere}
    answer = await api.client.post("/console/login", data=body, headers=SAME)
    assert answer.headers["location"] == "/console"


async def test_a_ticket_opens_one_session(api: Api) -> None:
    ticket = Sessions.of((SecretStr(KEY),)).ticket(api.key())
    first = await api.client.get("/console/login", params={"ticket": ticket})
    assert first.status_code == 200
    assert COOKIE in first.headers["set-cookie"]
    assert "url=/console" in first.text
    second = await api.client.get("/console/login", params={"ticket": ticket})
    assert second.status_code == 403
    assert "set-cookie" not in second.headers
    broken = await api.client.get("/console/login", params={"ticket": ticket[:-3] + "xyz"})
    assert broken.status_code == 403


@contextmanager
def at(moment: float) -> Iterator[list[float]]:
    yield [moment]


def test_sessions_and_tickets_end() -> None:
    with at(1_000_000.0) as now:
        sessions = Sessions.of((), lambda: now[0])
        begun = sessions.begin("token")
        cookie = sessions.seal(begun)
        assert sessions.open(cookie) == begun
        assert sessions.renewed(begun) is None
        now[0] += session.IDLE_SECONDS - 1
        used = sessions.renewed(begun)
        assert used is not None
        now[0] += 2
        assert sessions.open(cookie) is None
        assert sessions.open(sessions.seal(used)) == used
        while now[0] < 1_000_000.0 + session.LIFE_SECONDS:
            found = sessions.open(sessions.seal(used))
            assert found is not None
            now[0] += session.IDLE_SECONDS / 2
            used = sessions.renewed(found) or used
        assert sessions.open(sessions.seal(used)) is None
        ticket = sessions.ticket("token")
        now[0] += session.TICKET_SECONDS + 1
        assert sessions.redeem(ticket) is None


def test_what_another_process_sealed_is_read_by_the_same_keys_alone() -> None:
    one, other = SecretStr(KEY), SecretStr("YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=")
    begun = Sessions.of((one,)).begin("token")
    cookie = Sessions.of((one,)).seal(begun)
    assert Sessions.of((other, one)).open(cookie) == begun
    assert Sessions.of((other,)).open(cookie) is None
    assert Sessions.of(()).open(cookie) is None
    # A ticket is no session.
    assert Sessions.of((one,)).open(Sessions.of((one,)).ticket("token")) is None
    for broken in ("", "v1", "v1.x.y", cookie[:-2], "é", cookie + "A" * 9000):
        assert Sessions.of((one,)).open(broken) is None


async def test_a_revoked_key_ends_its_sessions(api: Api) -> None:
    client = await logged_in(api)
    page = await client.get("/console")
    assert page.status_code == 200
    with psycopg.connect(api.url) as conn:
        for key in keys.list_keys(conn):
            keys.revoke(conn, key.id)

    async def ended() -> bool:
        return (await client.get("/console")).status_code == 303

    await eventually_async(ended)


async def test_what_changes_something_needs_the_proof_of_a_page(api: Api) -> None:
    client = await logged_in(api, "read", "write")
    proof = await csrf(client)
    body = {"type": "task.create", "data": '{"id": "t1"}'}
    for headers in (SAME, {**SAME, "X-CSRF-Token": "x"}, {**OTHER, "X-CSRF-Token": proof}):
        answer = await client.post("/console/commands", data=body, headers=headers)
        assert "was not sent by a page of the session" in answer.text
    assert (await api.get("/v1/tasks/t1")).status_code == 404
    answer = await client.post("/console/commands", data=body, headers={**SAME, "X-CSRF-Token": proof})
    assert "recorded task.created" in answer.text
    assert (await api.get("/v1/tasks/t1")).status_code == 200


async def test_another_session_has_another_proof(api: Api) -> None:
    one, other = await logged_in(api), await logged_in(api)
    body = {"type": "task.create", "data": '{"id": "t1"}'}
    headers = {**SAME, "X-CSRF-Token": await csrf(one)}
    answer = await other.post("/console/commands", data=body, headers=headers)
    assert "was not sent by a page of the session" in answer.text


async def test_a_key_that_reads_sees_no_action_and_can_take_none(api: Api) -> None:
    api.command("task.create", {"id": "t1"})
    client = await logged_in(api, "read")
    page = (await client.get("/console/tasks/t1")).text
    assert "hx-post" not in page
    headers = {**SAME, "X-CSRF-Token": await csrf(client)}
    body = {"type": "task.cancel", "data": '{"id": "t1"}', "sure": "yes"}
    answer = await client.post("/console/commands", data=body, headers=headers)
    assert "this needs the permission write" in answer.text
    assert (await api.get("/v1/tasks/t1")).json()["status"] == "open"


async def test_the_menu_has_what_the_key_may_see(api: Api) -> None:
    client = await logged_in(api, "CREATE_ACTIVITY")
    answer = await client.get("/console")
    assert answer.status_code == 403
    assert 'href="/console/tasks"' not in answer.text


async def test_every_answer_has_the_policy(api: Api) -> None:
    client = await logged_in(api)
    for path in ("/console", "/console/tasks", "/console/tasks/none", "/console/login", "/console/static/console.css"):
        answer = await client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        kept = "immutable" if "static" in path else "no-store"
        assert kept in answer.headers["cache-control"]


async def test_no_page_has_what_the_policy_would_refuse(api: Api) -> None:
    client = await logged_in(api)
    for path in ("/console", "/console/tasks", "/console/stuck", "/console/commands?type=task.create"):
        page = (await client.get(path)).text
        assert not re.search(r"<script(?![^>]*\bsrc=)", page)
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style", page)
        assert not re.search(r'(?:src|href|action)="(?!/console|#)', page)


async def test_a_log_out_ends_the_session_in_the_browser(api: Api) -> None:
    client = await logged_in(api)
    answer = await client.post("/console/logout", headers=SAME)
    assert answer.status_code == 303
    assert (await client.get("/console")).status_code == 303


async def test_an_address_that_is_none_is_refused(api: Api) -> None:
    client = await logged_in(api)
    for cookie in (client.cookies[COOKIE], ""):
        answered: list[Any] = []
        headers = [(b"host", b"localhost"), (b"cookie", f"{COOKIE}={cookie}".encode())]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/console/tasks",
            "raw_path": b"/console/tasks",
            "root_path": "",
            "client": ("127.0.0.1", 1),
            "query_string": b"search=\xff\xc3",
            "headers": headers,
            "server": ("127.0.0.1", 80),
        }

        async def send(message: Any, answered: list[Any] = answered) -> None:
            answered.append(message)

        await api.app(scope, nothing, send)
        assert answered[0]["status"] == 400


async def nothing() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


@pytest.mark.parametrize("name", ["../app.py", "%2e%2e%2fapp.py", "none.css", "console.css/x"])
async def test_no_other_file_is_served(api: Api, name: str) -> None:
    answer = await api.client.get(f"/console/static/{name}")
    assert answer.status_code == 404
    assert b"import" not in answer.content
