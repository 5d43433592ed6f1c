"""Looking back at long histories: what was folded is gone on from, shows the same, and bounds what a page reads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import msgspec
import psycopg
import pytest

from services.broker.sender import Outgoing
from services.http.core import call, checkpoints, past
from services.http.core.checkpoints import Checkpoints
from services.store.log import LogRow
from services.store.pool import Pool
from tests.services.http.api import NOW, Api, problem, with_activity, with_workflow

# Of two activities; the events of the second one are three times as many.
SHORT, LONG = 450, 1350


def changed(api: Api, activity: str, count: int) -> None:
    """Change the tasks of an activity so often."""
    give = [
        ("task.change", {"id": f"{activity}-t{1 + number % 2}", "title": f"Title {number}"}) for number in range(count)
    ]
    sent = [Outgoing(name, msgspec.json.encode(data), "acme", routing_key=activity) for name, data in give]
    for first in range(0, count, 100):
        assert all(reply.accepted for reply in api.sender.work(sent[first : first + 100]))


def set_scene(api: Api) -> None:
    with_workflow(api)
    for activity in ("short", "long"):
        with_activity(api, activity)
    changed(api, "short", SHORT)
    changed(api, "long", LONG)


async def shown(api: Api, position: int) -> list[Any]:
    """Return the long activity, why it has its status, and its tasks, as they were."""
    own, asked = "/v1/activities/long", {"as_of": position}
    answers = [
        await api.get(path, params={**query, **asked})
        for path, query in ((own, {}), (f"{own}/explain", {}), ("/v1/tasks", {"activity_id": "long"}))
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    return [answer.json() for answer in answers]


async def positions(api: Api, activity: str) -> list[int]:
    """Return the positions of the events of an activity."""
    found, address = list[int](), f"/v1/activities/{activity}/history?limit=500"
    while address:
        page = (await api.get(address)).json()
        found += [event["position"] for event in page["data"]]
        address = page["next"]
    return found


async def test_a_history_is_read_from_its_end_too(api: Api) -> None:
    found, address = list[int](), "/v1/activities/long/history?limit=500&sort=-position"
    while address:
        page = (await api.get(address)).json()
        found += [event["position"] for event in page["data"]]
        address = page["next"]
    assert found[::-1] == await positions(api, "long")
    for wrong in ("time", "", "-"):
        problem(await api.get(f"/v1/tasks/long-t1/history?sort={wrong}"), 400, "bad-filter")


async def test_from_any_checkpoint_the_same_is_shown(api: Api) -> None:
    at = await positions(api, "long")
    chosen = random.Random(4).sample(at, 8) + at[-2:]
    with patch.object(checkpoints.Checkpoints, "before", lambda *_: None):
        wanted = [await shown(api, position) for position in chosen]
    with patch.object(past, "EVENTS", 70), patch.object(past, "LEAST_EVENTS", 20):
        # The second time nearly all is gone on from.
        assert [await shown(api, position) for position in chosen] == wanted
        assert [await shown(api, position) for position in chosen] == wanted


async def test_what_is_too_large_to_be_shown_is_left_out_of_checkpoints_and_shown_beside(api: Api) -> None:
    last = (await positions(api, "long"))[-1]
    with psycopg.connect(api.url) as conn:
        sizes = [
            conn.execute(f"SELECT sum(octet_length(doc)) FROM {view} WHERE {of} = 'long'".encode()).fetchone()
            for view, of in (("activities", "id"), ("tasks", "activity_id"))
        ]
    (activity, tasks) = (each[0] for each in sizes if each is not None)
    assert activity != tasks
    paths = (f"/v1/activities/long?as_of={last}", f"/v1/tasks?activity_id=long&as_of={last}")
    small, large = paths if activity < tasks else paths[::-1]
    with patch.object(call, "PAGE_BYTES", (activity + tasks) // 2), patch.object(past, "LEAST_EVENTS", 20):
        for _ in range(2):
            answer = await api.get(small)
            assert answer.status_code == 200, answer.text
            problem(await api.get(large), 400, "bad-limit")
    assert (await api.get(large)).status_code == 200


async def test_a_log_that_was_restored_is_folded_anew(api: Api) -> None:
    last = (await positions(api, "long"))[-1]
    before = await shown(api, last)
    with psycopg.connect(api.url) as conn:
        conn.execute(
            "UPDATE stored_events"
            " SET state = convert_to(replace(convert_from(state, 'UTF8'), 'Title', 'Another'), 'UTF8')"
            " WHERE originator_id = 'acme/task-long-t2'"
        )
    after = await shown(api, last)
    for found, word in ((before, "Title"), (after, "Another")):
        assert {task["id"]: task["title"] for task in found[2]["data"]}["long-t2"] == f"{word} {LONG - 1}"


def test_the_place_of_checkpoints_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "MOST_BYTES", 10_000)
    kept = Checkpoints()
    for number in range(1000):
        event = LogRow(number, "s", number, "n", b"", NOW)
        kept.keep(f"stream-{number % 40}", event, {"tasks": {}}, 100 + number % 900)
        assert 0 <= kept.size <= 10_000
    newest = kept.before("stream-39", 999, "tasks")
    assert newest is not None
    assert newest.position == 999
    assert kept.before("stream-39", 5, "tasks") is None
    assert kept.before("stream-39", 999, "activities") is None
    # One that would take the place of most others is not kept.
    monkeypatch.setattr(checkpoints, "MOST_OF_ONE", 5_000)
    before = kept.size
    kept.keep("large", LogRow(1000, "s", 1000, "n", b"", NOW), {"tasks": {}}, 3_000)
    assert kept.before("large", 1000, "tasks") is None
    assert kept.size == before
    for number in range(40):
        kept.forget(f"stream-{number}")
    assert kept.size == 0


@contextmanager
def counted() -> Iterator[list[int]]:
    """Note the rows of each statement of the HTTP process."""
    found, fetch = list[int](), Pool.fetch

    async def noted(pool: Pool, *given: Any, **rest: Any) -> Any:
        rows = await fetch(pool, *given, **rest)
        found.append(len(rows))
        return rows

    with patch.object(Pool, "fetch", noted):
        yield found


async def test_a_page_of_an_activity_is_there_before_its_history(api: Api) -> None:
    login = await api.client.post("/console/login", data={"key": api.key("acme", "system", "read"), "next": ""})
    cookie = {"Cookie": login.headers["set-cookie"].partition(";")[0]}
    api.sender.late = {"history"}
    with_activity(api, "new")
    for query in ("", f"?as_of={(await api.get('/v1/activities/new')).json()['position']}"):
        page = await api.client.get(f"/console/activities/new{query}", headers=cookie)
        assert page.status_code == 200, page.text[-2000:]


@pytest.mark.parametrize("query", ["", "?as_of={last}", "?as_of={middle}", "?cursor={middle}"])
async def test_a_page_of_an_activity_reads_no_more_for_a_longer_history(api: Api, query: str) -> None:
    login = await api.client.post("/console/login", data={"key": api.key("acme", "system", "read"), "next": ""})
    assert login.status_code == 303
    cookie = {"Cookie": login.headers["set-cookie"].partition(";")[0]}
    read = dict[str, tuple[int, int]]()
    for activity in ("short", "long"):
        at = await positions(api, activity)
        asked = query.format(last=at[-1], middle=at[len(at) // 2])
        for _ in range(2):
            with counted() as asked_rows:
                page = await api.client.get(f"/console/activities/{activity}{asked}", headers=cookie)
            assert page.status_code == 200
        assert page.text.count('<li id="p') == 100
        read[activity] = len(asked_rows), sum(asked_rows)
    # The key of the session is asked for again every few seconds.
    assert abs(read["long"][0] - read["short"][0]) <= 2
    # Between two checkpoints there are a few events.
    assert read["long"][1] <= read["short"][1] + 4 * checkpoints.LEAST_EVENTS
    assert read["long"][1] < LONG * 2
