"""What requests hold in memory is bounded in bytes: pages end with the row that fills them, bodies wait."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator
from io import StringIO
from typing import Any

import pytest

from services.http.core import call, loader, members
from services.http.core.errors import ApiError
from services.http.core.shares import Budget
from services.http.field import export
from tests.services.http.api import Api, opened, problem, with_activity, with_workflow

# Characters of a field; documents have some hundred more.
LARGE, PAGE = 10_000, 25_000
TASKS = [f"t{number}" for number in range(5)]


@pytest.fixture
def large(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """Five tasks and five hubs, of which a page holds three."""
    monkeypatch.setattr(call, "PAGE_BYTES", PAGE)
    for task_id in TASKS:
        api.command("task.create", {"id": task_id, "title": task_id, "fields": {"x": "y" * LARGE}})
        api.command("directory.register", {"kind": "hub", "id": task_id, "fields": {"y": "y" * LARGE}})
    return api


async def followed(api: Api, path: str, name: str = "data") -> list[list[Any]]:
    """Return the pages of a list, each by what the one before it says."""
    pages: list[list[Any]] = []
    following: str | None = path
    while following is not None:
        page = (await api.get(following)).json()
        pages.append(page[name])
        following = page["next"]
    return pages


@pytest.mark.parametrize("path", ["/v1/tasks?sort=created_at", "/v1/directory/hub"])
@pytest.mark.parametrize("limit", [3, 4, 50])
async def test_a_page_with_a_cursor_ends_with_the_row_that_fills_it(large: Api, path: str, limit: int) -> None:
    mark = "&" if "?" in path else "?"
    pages = await followed(large, f"{path}{mark}limit={limit}")
    assert [[row["id"] for row in page] for page in pages] == [TASKS[:3], TASKS[3:]]
    # A row that is larger than a page is one.
    call.PAGE_BYTES = 10
    assert [[row["id"] for row in page] for page in await followed(large, path)] == [[each] for each in TASKS]


async def test_a_history_and_the_log_go_on_after_the_event_that_fills_an_answer(large: Api) -> None:
    for number in range(4):
        large.command("task.change", {"id": "t1", "fields": {"x": f"{number}" * LARGE}})
    pages = await followed(large, "/v1/tasks/t1/history")
    # An event of a change holds the value before as well.
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [entry["version"] for page in pages for entry in page] == [1, 2, 3, 4, 5]
    found, after = [], 0
    while True:
        answer = (await large.get(f"/v1/events?after={after}")).json()
        assert len(answer["events"]) <= 3
        found += answer["events"]
        after = answer["next"]
        if not answer["events"]:
            break
    assert [event["position"] for event in found] == list(range(1, answer["head"] + 1))


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/api/v3/tasks?taskType=task", "limit", 400),
        ("/api/v3/tasks", "limit", 400),
        ("/api/v3/hubs", "limit", 400),
        ("/api/activities", "per_page", 400),
        ("/api/v3/workflow/activities", "page[size]", 422),
    ],
)
async def test_a_page_that_is_counted_is_refused_and_says_by_what_to_ask_for_less(
    large: Api, path: str, size: str, status: int
) -> None:
    refused = await large.get(path)
    assert refused.status_code == status, refused.text
    assert size in refused.text
    assert f"{PAGE} bytes" in refused.text
    assert (await large.get(path, params={size: 2})).status_code == 200


async def test_what_goes_on_after_a_row_is_not_counted(large: Api) -> None:
    path: str | None = "/api/v3/tasks?taskType=task&lazyLoad=1&sortOrder=asc"
    found = []
    while path is not None:
        page = (await large.get(path)).json()["tasks"]
        found.append([row["_id"] for row in page["data"]])
        path = page["next_page_url"]
    assert found == [TASKS[:3], TASKS[3:]]


async def test_an_export_has_all_rows_a_few_bytes_at_a_time(large: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "BYTES", PAGE)
    with_workflow(large)
    for number in range(3):
        with_activity(large, f"a{number}", fields={"x": "y" * LARGE})
    response = await large.get("/api/v3/tasks?format=csv&fields=_id&sortOrder=asc")
    rows = [row[0] for row in csv.reader(StringIO(response.text, newline=""))]
    assert sorted(rows) == sorted(["_id", *TASKS, *(f"a{n}{end}" for n in range(3) for end in ("", "-t1", "-t2"))])


async def test_what_is_included_is_bounded_too(large: Api) -> None:
    with_workflow(large)
    for number in range(4):
        with_activity(large, f"a{number}", fields={"x": "y" * LARGE})

    def path(*units: str) -> str:
        return "/api/v3/workflow/activities?" + "&".join(f"filter[work_unit_id][]={unit}" for unit in units)

    units = [f"a{number}" for number in range(4)]
    refused = await large.get(f"{path(*units)}&included=work_unit")
    assert refused.status_code == 422, refused.text
    assert "included" in refused.text
    assert (await large.get(path(*units))).status_code == 200
    found = await large.get(f"{path('a1', 'a2')}&included=work_unit")
    assert [each["id"] for each in found.json()["included"]] == ["a1", "a2"]


async def test_single_resources_that_are_asked_for_at_once_are_read_a_few_bytes_at_a_time(
    large: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "BYTES", PAGE)
    answers = await asyncio.gather(*(large.get(f"/v1/tasks/{each}") for each in (*TASKS, "nobody", *TASKS)))
    assert [answer.status_code for answer in answers] == [*[200] * 5, 404, *[200] * 5]
    assert [answer.json().get("id") for answer in answers] == [*TASKS, None, *TASKS]


@pytest.mark.parametrize("most", [10, 1 << 20])
async def test_people_are_looked_up_a_few_bytes_at_a_time(api: Api, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(members, "BYTES", most)
    # Little enough that what is kept is forgotten now and then.
    monkeypatch.setattr(members, "MAX_CHARACTERS", 500)
    for number in range(8):
        api.command("task.create", {"id": f"t{number}", "assignees": [f"p{number}@example.com"]})
    for _ in range(2):
        rows = (await api.get("/api/v3/tasks?taskType=task&sortOrder=asc")).json()["tasks"]["data"]
        assert [row["assignee"] for row in rows] == [[f"p{number}@example.com"] for number in range(8)]


async def test_a_large_answer_is_whole(api: Api) -> None:
    for number in range(12):
        api.command("task.create", {"id": f"t{number}", "fields": {"x": f"{number}" * 20_000}})
    for path in ("/v1/tasks", "/api/v3/tasks?taskType=task", "/api/v3/workflow/activities"):
        answer = await api.get(path)
        assert int(answer.headers["content-length"]) == len(answer.content) > 3 * call.LARGE
        assert answer.json()


def test_a_budget_is_shared_and_one_tenant_has_half_of_it() -> None:
    budget = Budget(100)
    with budget.holding("acme") as first, budget.holding("acme") as second, budget.holding("globex") as third:
        # Alone, whatever it takes.
        first.hold(300)
        first.hold(40)
        with pytest.raises(ApiError, match="this tenant") as refused:
            second.take(11)
        assert (refused.value.code, refused.value.headers) == ("too-many-requests", {"Retry-After": "1"})
        second.take(10)
        third.hold(50)
        with budget.holding("initech") as fourth, pytest.raises(ApiError, match="memory") as refused:
            fourth.take(1)
        assert (refused.value.code, refused.value.headers) == ("overloaded", {"Retry-After": "1"})
        first.hold(0)
        third.take(0)
        second.take(30)
        assert budget.held == 90
    assert budget.held == 0


async def test_bodies_are_refused_before_they_are_read_while_others_take_the_memory(module_url: str) -> None:
    async with opened(module_url, http_memory=1 << 20, http_body_limit=1 << 20) as api:
        begun, over = asyncio.Event(), asyncio.Event()
        read: list[str] = []

        async def slow() -> AsyncIterator[bytes]:
            yield b'{"type":"task.create","data":{"fields":{"a":"' + b"x" * 300_000
            begun.set()
            await over.wait()
            yield b'"}}}'

        async def whole(name: str) -> AsyncIterator[bytes]:
            read.append(name)
            yield b"{" + b" " * 199_999

        async def send(token: str, content: AsyncIterator[bytes], **headers: str) -> Any:
            own = {**api.by(token), "Content-Type": "application/json", **headers}
            return await api.client.post("/v1/commands", content=content, headers=own)

        ours, theirs = api.key(), api.key("globex")
        held = asyncio.create_task(send(ours, slow()))
        await begun.wait()
        for token, status, code in ((ours, 429, "too-many-requests"), (theirs, 503, "overloaded")):
            response = await send(token, whole(code), **{"Content-Length": "200000"})
            problem(response, status, code)
            assert response.headers["retry-after"] == "1"
        assert read == []
        # Of one that does not say how long it is, no more is kept than there is room for.
        problem(await send(theirs, whole("unsaid"), **{"Transfer-Encoding": "chunked"}), 503, "overloaded")
        # A small one has room.
        small = await api.post("/v1/commands", {"type": "task.create", "data": {}}, theirs)
        assert small.status_code == 200
        over.set()
        assert (await held).status_code == 413
        response = await send(theirs, whole("later"), **{"Content-Length": "200000"})
        problem(response, 400, "not-json")
        assert read == ["unsaid", "later"]
