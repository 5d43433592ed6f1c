"""A list as CSV: all rows, in a form that spreadsheets read, and nothing that they would run."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any

import pytest
import requests

from services.http.field import export
from services.store.pool import Pool
from services.store.unavailable import StoreUnavailable
from tests.services.http.api import Api, field_failure, with_activity, with_workflow
from tests.services.http.served import served

PATH = "/api/v3/tasks"


async def exported(api: Api, token: str | None = None, **query: Any) -> list[list[str]]:
    response = await api.get(PATH, token, params={"format": "csv", **query})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert response.headers["content-disposition"] == 'attachment; filename="tasks.csv"'
    assert response.text.endswith("\r\n")
    return list(csv.reader(StringIO(response.text, newline="")))


async def test_the_columns_are_the_documented_ones_or_those_asked_for(api: Api) -> None:
    with_workflow(api)
    with_activity(api)
    api.command("task.create", {"id": "t1", "title": "One", "fields": {"floor": 7, "a,b": 'say "hi"\r\nthere'}})
    rows = await exported(api)
    assert rows[0] == list(export.COLUMNS)
    listed = (await api.get(PATH)).json()["tasks"]["data"]
    assert [row[0] for row in rows[1:]] == [each["_id"] for each in listed]
    (master,) = (row for row in rows if row[0] == "a1")
    assert (master[1], master[rows[0].index("parentId")]) == ("activityMaster", "")
    found = await exported(api, fields="floor,status,_id,nothing,floor", taskType="task")
    assert found == [["_id", "floor", "status", "nothing"], ["t1", "7", "UNASSIGNED", ""]]
    response = await api.get(PATH, params={"format": "csv", "fields": "title", "taskType": "task"})
    assert response.content == b"_id,title\r\nt1,One\r\n"
    assert await exported(api, taskType="activityMaster", flow="Visit", fields="title") == [["_id", "title"]]
    assert await exported(api, api.key("other"), fields="title") == [["_id", "title"]]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("plain", "plain"),
        ('a "b", c\r\nd', 'a "b", c\r\nd'),
        ("=1+1", "'=1+1"),
        ('=HYPERLINK("http://evil","x")', '\'=HYPERLINK("http://evil","x")'),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("-6.2088,106.8456", "-6.2088,106.8456"),
        ("+6281163137712", "+6281163137712"),
        (-5, "-5"),
        (2.5, "2.5"),
        (True, "true"),
        (None, ""),
        ([], "[]"),
        (["=1", "b"], "'=1,b"),
        ({"=a": "=1"}, '{"=a":"=1"}'),
        ("Grüße 🚚", "Grüße 🚚"),
    ],
)
async def test_values_are_texts_that_no_spreadsheet_runs(api: Api, value: Any, cell: str) -> None:
    api.command("task.create", {"id": "t1", "fields": {"note": value}})
    assert await exported(api, fields="note") == [["_id", "note"], ["t1", cell]]


@pytest.mark.parametrize("sort", ["createdTime", "title", "endTime", "orderIndex"])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_all_rows_are_sent_a_few_at_a_time(
    api: Api, sort: str, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "ROWS", 3)
    with_workflow(api)
    with_activity(api)
    for number in range(8):
        # Some are alike in what they are sorted by, and some have none of it.
        end = {"end": f"2030-01-0{1 + number % 3}T00:00:00+00:00"} if number % 2 else {}
        api.command("task.create", {"id": f"t{number}", "title": f"Task {number % 3}", **end})
    listed = (await api.get(PATH, params={"sortBy": sort, "sortOrder": order})).json()["tasks"]["data"]
    found = await exported(api, sortBy=sort, sortOrder=order, fields="title")
    assert [row[0] for row in found[1:]] == [each["_id"] for each in listed]
    assert len(found) == 1 + len({row[0] for row in found[1:]}) == 1 + len(listed)


async def test_more_than_a_merged_page_can_have(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    fetch = Pool.fetch

    async def counted(self: Pool, *question: Any, **rest: Any) -> Any:
        rows = await fetch(self, *question, **rest)
        asked.append(len(rows))
        return rows

    monkeypatch.setattr(Pool, "fetch", counted)
    for _ in range(2):
        await api.post(f"{PATH}/bulk", {"tasks": [{"flow": "Visit"}] * 600})
    asked.clear()
    assert len(await exported(api, fields="title")) == 1201
    assert max(asked) == export.ROWS


async def test_filters_and_positions_are_those_of_the_list(api: Api) -> None:
    api.command("task.create", {"id": "t1", "flow": "Visit"})
    position = api.command("task.create", {"id": "t2", "flow": "Survey", "fields": {"floor": 2}}).position
    assert [row[0] for row in (await exported(api, flow="Survey", min_position=position))[1:]] == ["t2"]
    assert [row[0] for row in (await exported(api, **{"field[floor]": "2"}))[1:]] == ["t2"]
    for query in ({"page": 2}, {"limit": 5}, {"lazyLoad": "1"}, {"cursor": "t1"}, {"colour": "red"}, {"sortBy": "x"}):
        response = await api.get(PATH, params={"format": "csv", **query})  # type: ignore[dict-item]
        assert f"({next(iter(query))})" in field_failure(response, 400, "request-005").replace("(sort)", "(sortBy)")
    assert field_failure(await api.get(f"{PATH}?format=xlsx"), 400, "request-005")


def test_a_database_that_goes_away_breaks_the_answer_off(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "ROWS", 1)
    fetch = Pool.fetch

    async def once(self: Pool, sql: str, *question: Any, **rest: Any) -> Any:
        # What goes on after a row.
        if "(created_at, id) <" in sql:
            raise StoreUnavailable("gone")
        return await fetch(self, sql, *question, **rest)

    monkeypatch.setattr(Pool, "fetch", once)
    with served(migrated_url) as running:
        for number in range(3):
            running.api.command("task.create", {"id": f"t{number}"})
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            requests.get(f"{running.url}{PATH}?format=csv", headers=running.api.by(), timeout=30)
