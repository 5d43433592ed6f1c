"""The list of bulks: the tenant's own, the newest first, in pages that meet while bulks come and go."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import psycopg
import pytest

from services.http.core import call
from tests.services.harness import rows
from tests.services.http.api import Api, problem
from tests.services.http.bulk_scene import BULK, act, operator, previewed, until, with_tasks


def with_bulks(api: Api, *names: str, tenant: str = "acme", state: str = "finished", data: str = "{}") -> None:
    """Store bulks without items, all created at the same time, that no process goes on with."""
    with psycopg.connect(api.url) as conn:
        conn.execute(
            "INSERT INTO bulk_actions (tenant, id, command, data, asked, on_change, actor, state, total, due_at)"
            " SELECT %s, name, 'task.cancel', %s, '{}', 'skip', 'system', %s, 0, 'infinity'"
            " FROM unnest(%s::text[]) AS name",
            (tenant, data.encode(), state, list(names)),
        )


async def page(api: Api, query: str = "", path: str = BULK) -> dict[str, Any]:
    response = await api.get(f"{path}{query}", operator(api))
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def ids(found: dict[str, Any]) -> list[str]:
    return [bulk["id"] for bulk in found["data"]]


async def test_each_is_shown_as_it_is_alone_the_newest_first(api: Api) -> None:
    assert await page(api) == {"data": [], "next": None}
    tasks = with_tasks(api, 3)
    first = await previewed(api, {"command": "task.cancel", "ids": [tasks[0], "nobody"], "data": {"reason": "storm"}})
    await act(api, first["id"], "run", {"rate": "all"})
    done = await until(api, first["id"])
    assert (done["counts"]["accepted"], done["skipped"]) == (1, {"not-found": 1})
    second = await previewed(api, {"command": "task.process", "ids": tasks[1:]})
    listed = await page(api)
    assert listed == {"data": [second, done], "next": None}
    # Who reads one, reads all.
    assert (await api.get(BULK, api.key("acme", "system", "read"))).json() == listed
    problem(await api.get(BULK, api.key("acme", "system", "operate")), 403, "forbidden")


async def test_bulks_of_a_state_or_of_several(api: Api) -> None:
    for state in ("paused", "running", "aborted"):
        with_bulks(api, f"is-{state}", state=state)
    assert ids(await page(api, "?state=paused")) == ["is-paused"]
    assert ids(await page(api, "?state=paused&state=aborted")) == ["is-aborted", "is-paused"]
    assert ids(await page(api, "?state=expired")) == []
    for query, parameter in (("state=lost", "state"), ("state=", "state"), ("colour=red", "colour")):
        refused = await api.get(f"{BULK}?{query}", operator(api))
        problem(refused, 400, refused.json()["code"], parameter=parameter)


async def test_those_of_another_tenant_do_not_exist(api: Api) -> None:
    with_bulks(api, "theirs", tenant="other")
    with_bulks(api, "ours")
    assert ids(await page(api)) == ["ours"]
    theirs = (await api.get(f"{BULK}?limit=1", operator(api, "other"))).json()
    assert (ids(theirs), theirs["next"]) == (["theirs"], None)


async def test_pages_meet_while_bulks_come_and_go(api: Api) -> None:
    names = [f"b{number}" for number in range(7)]
    with_bulks(api, *names)
    found = await page(api, "?limit=3&state=finished")
    seen = ids(found)
    # A new one is before the first page, and the last one seen is deleted.
    with_bulks(api, "new")
    rows(api.url, "DELETE FROM bulk_actions WHERE id = %s RETURNING id", seen[-1])
    while found["next"] is not None:
        assert found["next"].startswith(f"{BULK}?limit=3&state=finished&cursor=")
        found = await page(api, path=found["next"])
        seen += ids(found)
    assert seen == names[::-1]


@pytest.mark.parametrize(
    "cursor", ["", "x", "1", "-b1", "1-", "1-a%2Fb", "1-%00", "9" * 17 + "-b1", "%D9%A1-b1", "1-b1%0A"]
)
async def test_what_is_no_cursor_is_refused(api: Api, cursor: str) -> None:
    problem(await api.get(f"{BULK}?cursor={cursor}", operator(api)), 400, "bad-cursor", parameter="cursor")


async def test_cursors_at_the_ends_of_time(api: Api) -> None:
    with_bulks(api, "b1")
    assert ids(await page(api, "?cursor=0-b1")) == []
    assert ids(await page(api, f"?cursor={'9' * 16}-b1")) == ["b1"]
    for limit in ("0", "101", "x"):
        problem(await api.get(f"{BULK}?limit={limit}", operator(api)), 400, "bad-limit", parameter="limit")


async def test_a_page_ends_with_the_bulk_whose_data_fills_it(api: Api) -> None:
    with_bulks(api, "b1", "b2", "b3", data='{"reason": "' + "x" * 5000 + '"}')
    with patch.object(call, "PAGE_BYTES", 6000):
        first = await page(api)
        assert ids(first) == ["b3", "b2"]
        assert ids(await page(api, path=first["next"])) == ["b1"]


async def test_a_page_ends_with_the_bulk_whose_items_fill_it(api: Api) -> None:
    with_bulks(api, "b1", "b2", "b3", "b4")
    # The oldest one fills a page, too, and has none behind it.
    totals = "CASE id WHEN 'b1' THEN 400000 ELSE 200000 END"
    rows(api.url, f"UPDATE bulk_actions SET total = {totals} WHERE id <> 'b4' RETURNING id")
    first = await page(api)
    assert ids(first) == ["b4", "b3", "b2"]
    second = await page(api, path=first["next"])
    assert (ids(second), second["next"]) == (["b1"], None)
