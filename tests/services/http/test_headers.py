"""What every dialect does with headers, and how each answers for what it does not serve."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from services.broker.sender import Outgoing
from services.commands.wire import Reply
from services.http.core.app import OPERATIONS, envelope
from services.http.core.middleware import LISTS, READ, Envelope
from tests.services.http.api import Api, opened
from tests.services.http.contract import CASES, READS, WITH_BODY, WRITES, Case, documented, name_of, refused, send

pytestmark = pytest.mark.asyncio(loop_scope="module")
EVERY = pytest.mark.parametrize("case", CASES, ids=name_of)
# A dialect's own beginnings of paths, with and without what follows.
BELOW: dict[str, Envelope] = {
    f"{path.rstrip('/')}{rest}": operation.dialect.envelope
    for operation in OPERATIONS
    for path in operation.dialect.paths
    for rest in ("", "/", "/no", "/no/such/endpoint", "/no/such/endpoint/")
}
_SERVED = {each for one in OPERATIONS for each in (one.path, one.path.replace("{id}", "no"))}
UNSERVED = {path: spoken for path, spoken in BELOW.items() if path not in _SERVED}
# Paths that look like those of a dialect, and are another's.
BESIDE = {f"{path.rstrip('/')}x": path for one in OPERATIONS for path in one.dialect.paths if path != "/"}


@pytest.mark.parametrize("path", [path for path in UNSERVED if path])
async def test_a_path_that_nobody_serves_is_answered_by_its_dialect(scene_api: Api, path: str) -> None:
    response = await scene_api.get(path)
    native = UNSERVED[path] is BELOW["/"]
    refused(response, UNSERVED[path], "not-found" if native else "no-endpoint")
    assert response.status_code == 404
    assert response.headers["cache-control"] == "no-store"


async def test_a_dialect_begins_where_a_part_of_the_path_does() -> None:
    for path, other in BESIDE.items():
        assert envelope(path) is not envelope(other) or path.startswith("/v1"), path


@EVERY
async def test_a_method_that_nobody_serves_is_answered_by_its_dialect(scene_api: Api, case: Case) -> None:
    for method in ("TRACE", "OPTIONS", "FOO"):
        response = await scene_api.client.request(method, case.at(), headers=scene_api.by())
        refused(response, case.operation.dialect.envelope, "method-not-allowed")
        assert response.status_code == 405
        assert case.operation.method in response.headers["allow"].split(", ")


def _bare(response: httpx.Response) -> dict[str, str]:
    """Return the headers but for the request's own id."""
    return {name: value for name, value in response.headers.items() if name != "x-request-id"}


@pytest.mark.parametrize("case", READS, ids=name_of)
async def test_head_is_answered_as_get_without_its_body(scene_api: Api, case: Case) -> None:
    for path in (case.at(), f"{case.at()}?colour=red"):
        got = await scene_api.get(path)
        head = await scene_api.client.head(path, headers=scene_api.by())
        assert (head.status_code, _bare(head), head.content) == (got.status_code, _bare(got), b"")
        if not (case.operation.lasts and got.status_code == 200):
            assert int(head.headers["content-length"]) == len(got.content) > 0
    unknown = await scene_api.client.head(case.at())
    assert (unknown.status_code, unknown.content) == (401, b"")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/docs/docs.js", "/openapi.json"])
async def test_head_is_served_beside_the_dialects(scene_api: Api, path: str) -> None:
    got, head = await scene_api.client.get(path), await scene_api.client.head(path)
    assert got.status_code == 200
    assert head.headers["content-length"] == got.headers["content-length"]
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("case", WRITES, ids=name_of)
async def test_head_where_there_is_no_get_is_no_method(scene_api: Api, case: Case) -> None:
    if any(one.path == case.operation.path and one.method == "GET" for one in OPERATIONS):
        return
    response = await scene_api.client.head(case.at(), headers=scene_api.by())
    if response.status_code == 405:
        assert "HEAD" not in response.headers["allow"]
        assert response.content == b""
    else:
        # Another operation's path has a parameter where this one has a word.
        assert response.status_code in (200, 404)
    assert scene_api.sender.sent == []


async def test_what_head_asks_for_is_counted_as_head(scene_api: Api) -> None:
    await scene_api.client.head("/v1/tasks/t1", headers=scene_api.by())
    figures = (await scene_api.client.get("/metrics")).text
    assert 'foldwork_http_requests_total{method="HEAD",route="/v1/tasks/{id}",status="200"}' in figures


@EVERY
async def test_every_answer_says_how_it_may_be_kept_and_what_it_is(scene_api: Api, case: Case) -> None:
    scene_api.sender.stopped = True
    for response in (await send(scene_api, case), await send(scene_api, case, headers={"Authorization": None})):
        assert response.headers.get_list("x-content-type-options") == ["nosniff"]
        kept = "etag" in response.headers and response.status_code == 200
        assert response.headers.get_list("cache-control") == ["private, no-cache" if kept else "no-store"]


# What each header is sent with, where any value would not do.
_TWO = {
    "Content-Length": ("2", "3"),
    "Content-Type": ("application/json", "text/plain"),
    "x-tenant-id": ("acme", "other"),
}


@EVERY
async def test_two_values_of_one_header_are_refused(scene_api: Api, case: Case) -> None:
    said = [each["name"] for each in case.said.get("parameters", ()) if each["in"] == "header"]
    own = [(name, value) for name, value in scene_api.by().items() if name != "Authorization"]
    token = scene_api.by()["Authorization"]
    for name in {*READ.values(), *said} - {READ[name] for name in LISTS}:
        one, other = _TWO.get(name, ("one", "two"))
        first = [("Authorization", token)] if name != "Authorization" else []
        response = await _raw(scene_api, case, [*own, *first, (name, one), (name.lower(), other)])
        refused(response, case.operation.dialect.envelope, "bad-header", parameter=name)
        documented(case, response)
    assert scene_api.sender.sent == []


async def test_one_value_said_twice_is_one_value(scene_api: Api) -> None:
    headers = [*scene_api.by().items(), *scene_api.by().items(), ("X-Request-Id", "r-1"), ("X-Request-Id", "r-1")]
    response = await scene_api.client.get("/v1/tasks/t1", headers=headers)
    assert (response.status_code, response.headers["x-request-id"]) == (200, "r-1")
    # What nobody reads may say anything.
    headers = [*scene_api.by().items(), ("X-Other", "1"), ("X-Other", "2")]
    assert (await scene_api.client.get("/v1/tasks/t1", headers=headers)).status_code == 200


async def _raw(api: Api, case: Case, headers: list[tuple[str, str]]) -> httpx.Response:
    return await api.client.request(case.operation.method, case.at(), content=case.content, headers=headers)


async def test_a_process_that_is_full_says_so_in_every_dialect(module_url: str) -> None:
    async with opened(module_url, http_in_flight=1) as api:
        entered, release = asyncio.Event(), asyncio.Event()

        async def hold(outgoing: Outgoing, timeout: float) -> Reply | None:
            entered.set()
            await release.wait()
            return None

        api.sender.send = hold  # type: ignore[method-assign]
        held = asyncio.create_task(api.post("/v1/commands", {"type": "task.create", "data": {}}))
        await entered.wait()
        for case in CASES:
            if case.operation.lasts:
                continue
            response = await send(api, case)
            refused(response, case.operation.dialect.envelope, "overloaded")
            documented(case, response)
        release.set()
        assert (await held).status_code == 202


@pytest.mark.parametrize("case", WITH_BODY, ids=name_of)
async def test_a_body_that_is_refused_is_refused_by_the_dialect(scene_api: Api, case: Case) -> None:
    spoken = case.operation.dialect.envelope
    refused(await send(scene_api, case, content=b" " * (64 * 1024 + 1)), spoken, "too-large")
    plain = await send(scene_api, case, headers={"Content-Type": "text/plain"}, content=b"{}")
    refused(plain, spoken, "unsupported-media-type", parameter="Content-Type")
    assert scene_api.sender.sent == []
