"""The workflow dialect's queries: pages, what is included, and what cannot be asked."""

from __future__ import annotations

import psycopg

from projections import suffix
from projections.task import table as tasks
from tests.services.http.api import Api, opened
from tests.services.http.workflow_scene import (
    LIST,
    furnish,
    refused,
    shown,
)

set_scene = furnish


async def test_what_is_included_stands_there_once(api: Api) -> None:
    api.command("task.create", {"id": "u", "project": "p"})
    body = (await api.get(f"{LIST}?included=project,work_unit&included[]=node&sort=id")).json()
    assert [(found["type"], found["id"]) for found in body["included"]] == [
        ("workflow/projects", "p"),
        ("workflow/work_units", "a"),
        ("workflow/nodes", "w:0"),
        ("workflow/nodes", "w:1"),
    ]
    by_id = {found["id"]: found["attributes"] for found in body["included"]}
    assert (by_id["p"]["name"], by_id["a"]["status"], by_id["w:1"]["name"]) == ("North", "pending", "Come")
    related = {found["id"]: found["relationships"] for found in body["data"]}
    assert related["a2"]["node"] == {"data": {"type": "workflow/nodes", "id": "w:1"}}
    assert related["u"]["work_unit"] == {"data": None}
    assert "included" not in (await api.get(LIST)).json()
    assert (await api.get(f"{LIST}?included=node&filter[id]=t")).json()["included"] == []
    one = (await api.get(f"{LIST}/a1?included=node,work_unit&fields[workflow/nodes]=flow,name")).json()
    assert [list(found["attributes"]) for found in one["included"]][1] == ["name", "flow"]


async def test_pages_and_links(api: Api) -> None:
    seen: list[str] = []
    follow: str | None = f"{LIST}?page[size]=1&sort=id&count=true&filter[created_at__gte]=2025-01-01T00:00:00%2B00:00"
    while follow is not None:
        body = (await api.get(follow)).json()
        seen += [found["id"] for found in body["data"]]
        assert body["meta"] == {"page": {"number": len(seen), "size": 1}, "count": 3}
        assert (body["links"]["prev"] is None) is (len(seen) == 1)
        follow = body["links"]["next"]
    assert seen == ["a1", "a2", "t"]
    beyond = (await api.get(f"{LIST}?page[number]=9")).json()
    assert (beyond["data"], beyond["links"]["next"]) == ([], None)
    assert "count" not in beyond["meta"]


async def test_a_tenant_never_sees_anothers(api: Api) -> None:
    other = api.key("other")
    api.command("directory.register", {"kind": "member", "id": "ann", "fields": {"account_id": 42}}, "other")
    api.command("task.create", {"id": "theirs", "assignees": ["ann"], "fields": {"kg": 2}}, "other")
    for query in (
        "",
        "?filter[assigned_account_id]=42",
        '?filter[data__contains]={"kg":2}',
        "?filter[id__in]=t,theirs",
    ):
        found = (await api.get(f"{LIST}{query}", other)).json()["data"]
        assert [task["id"] for task in found] == ["theirs"]


QUESTIONS: list[tuple[str, str, str | None]] = [
    ("filter[colour]=red", "unknown-filter", "filter[colour]"),
    ("filter[status__like]=red", "unknown-filter", "filter[status__like]"),
    ("filter=red", "unknown-filter", "filter"),
    ("filter[]=red", "unknown-filter", "filter[]"),
    ("filter[status", "unknown-filter", "filter[status"),
    ("filter[status]=a&filter[status][]=b", "bad-filter", None),
    ("filter[created_at]=now", "bad-filter", "filter[created_at]"),
    ("filter[created_at__lt]=2025-10-31T08:00:00", "bad-filter", "filter[created_at__lt]"),
    ("filter[created_at__lt]=", "bad-filter", "filter[created_at__lt]"),
    ("filter[created_at__exists]=maybe", "bad-filter", "filter[created_at__exists]"),
    ("filter[created_at__exists][]=true&filter[created_at__exists][]=false", "bad-filter", None),
    ("filter[name__match][]=a&filter[name__match][]=b", "bad-filter", None),
    ("filter[working_seconds]=fast", "bad-filter", "filter[working_seconds]"),
    ("filter[working_seconds]=1e400", "bad-filter", "filter[working_seconds]"),
    ("filter[live_seconds__gt]=NaN", "bad-filter", "filter[live_seconds__gt]"),
    ("filter[assigned_account_id]=a b", "bad-filter", "filter[assigned_account_id]"),
    ("filter[assigned_account_id]=account:042", "bad-filter", "filter[assigned_account_id]"),
    ("filter[blacklisted_ids]=phone:112", "bad-filter", "filter[blacklisted_ids]"),
    ("filter[whitelisted_ids]=operator:%00", "bad-filter", "filter[whitelisted_ids]"),
    ("filter[assigned_account_id__gt]=%C2%B2", "bad-filter", "filter[assigned_account_id__gt]"),
    ("filter[whitelisted_ids__contains]=1,x/y", "bad-filter", "filter[whitelisted_ids__contains]"),
    ("filter[data]=x", "bad-filter", "filter[data]"),
    ("filter[data]=[1]", "bad-filter", "filter[data]"),
    ('filter[data]={"a":1e999}', "number-out-of-range", "filter[data]"),
    ('filter[data]={"a":"%5Cu0000"}', "nul", "filter[data]"),
    ("filter[name]=%00", "bad-filter", "filter[name]"),
    (f"filter[name]={'x' * 1001}", "bad-filter", "filter[name]"),
    (f"filter[id__in]={','.join(['a'] * 1001)}", "bad-filter", "filter[id__in]"),
    ("&".join(["filter[id__in][]=a"] * 1101), "bad-filter", None),
    ("sort=colour", "bad-sort", "sort"),
    ("sort=--name", "bad-sort", "sort"),
    ("sort=actor_roles", "bad-sort", "sort"),
    ("page[size]=0", "bad-limit", "page[size]"),
    ("page[size]=1001", "bad-limit", "page[size]"),
    ("page[size]=1&page[size]=2", "bad-filter", "page[size]"),
    ("page[number]=0", "bad-limit", "page[number]"),
    ("page[number]=x", "bad-limit", "page[number]"),
    ("page[number]=1000001", "bad-limit", "page[number]"),
    ("page[limit]=1", "unknown-parameter", "page[limit]"),
    ("count=yes", "bad-filter", "count"),
    ("include=project", "unknown-parameter", "include"),
    ("included=colour", "bad-filter", "included"),
    ("fields[colour]=id", "bad-filter", "fields[colour]"),
    ("fields[workflow/activities]=colour", "bad-filter", "fields[workflow/activities]"),
    ("fields=id", "bad-filter", "fields"),
    ("min_position=x", "bad-position", "min_position"),
]


async def test_a_question_that_cannot_be_asked(api: Api) -> None:
    for query, code, parameter in QUESTIONS:
        source = {} if parameter is None else {"parameter": parameter}
        refused(await api.get(f"{LIST}?{query}"), 422, code, **source)


async def test_the_seconds_run_while_it_is_worked_on(migrated_url: str) -> None:
    async with opened(migrated_url) as api:
        api.command("directory.register", {"kind": "member", "id": "ann", "fields": {"account_id": 42}})
        api.command("task.create", {"id": "t", "assignees": ["ann"]})
        api.command("task.process", {"id": "t"})
        with psycopg.connect(migrated_url) as conn:
            conn.execute(
                f"UPDATE tasks_{suffix(tasks)} SET started_at = started_at - interval '30 s',"
                " doc = replace(doc, 'T01:50:00.000Z', 'T01:49:30.000Z')"
            )
        attributes = shown(await api.get(f"{LIST}/t"))
        assert (attributes["working_seconds"], attributes["live_seconds"], attributes["status"]) == (
            30,
            30,
            "in-progress",
        )
        found = (await api.get(f"{LIST}?filter[working_seconds__gte]=29.5&filter[live_seconds]=30")).json()
        assert [task["id"] for task in found["data"]] == ["t"]
