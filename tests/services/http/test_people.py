"""People and names in requests: filters take every form of a reference, and what null takes away is nowhere shown."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.services.http.api import Api, problem

WORKFLOW = "/api/v3/workflow/activities"
# Each names ann, who has or had it; gone had them all until he was retired.
ANNS = ("ann", "Ann@X.vn", "account:42", "operator:OP-1")
GONES = ("gone", "gone@x.vn", "account:7", "operator:op-7")
NOBODYS = ("zoe", "zoe@x.vn", "account:9", "operator:op-9", "system", "9")
IMPOSSIBLE = ("a b", "account:042", "account:x", "phone:112", "operator:", "a@b@c", "x" * 65)
COMPOSED, DECOMPOSED = "Caf\u00e9", "Cafe\u0301"


def set_scene(api: Api) -> None:
    for name, account, operator in (("ann", 42, "op-1"), ("bob", 43, "op-2"), ("gone", 7, "op-7")):
        fields = {"email": f"{name}@x.vn", "account_id": account, "operator_id": operator}
        api.command("directory.register", {"kind": "member", "id": name, "fields": fields})


async def ids(api: Api, path: str) -> list[str]:
    response = await api.get(path)
    assert response.status_code == 200, response.text
    return sorted(found["id"] for found in response.json()["data"])


async def test_a_list_of_tasks_is_asked_for_a_person_by_every_form(api: Api) -> None:
    api.command("workflow.define", {"id": "w", "name": "Visit", "steps": [{"name": "A"}]})
    for who in ("ann", "bob", "gone"):
        api.command("task.create", {"id": f"t-{who}", "assignees": [who]})
        api.command("activity.create", {"id": f"a-{who}", "workflow_id": "w", "tasks": [{"assignees": [who]}]})
    api.command("task.create", {"id": "t-none"})
    api.command("directory.retire", {"kind": "member", "id": "gone"})
    for who, forms in (("ann", ANNS), ("gone", GONES)):
        for form in forms:
            assert f"t-{who}" in await ids(api, f"/v1/tasks?assignee={quote(form)}")
            assert await ids(api, f"/v1/activities?assignee={quote(form)}") == [f"a-{who}"]
    for form in NOBODYS:
        assert await ids(api, f"/v1/tasks?assignee={quote(form)}") == []
    assert await ids(api, "/v1/activities?assignee=ann@x.vn&assignee=account:43&assignee=zoe") == ["a-ann", "a-bob"]
    assert await ids(api, "/v1/tasks?assignee=") == ["t-none"]
    for form in IMPOSSIBLE:
        response = await api.get(f"/v1/tasks?assignee=ann&assignee={quote(form)}")
        problem(response, 400, "bad-filter", parameter="assignee")


@pytest.mark.parametrize("name", ["whitelisted_ids", "blacklisted_ids", "assigned_account_id"])
async def test_the_workflow_api_is_asked_for_a_person_by_every_form(api: Api, name: str) -> None:
    field = {"whitelisted_ids": "whitelist", "blacklisted_ids": "blacklist"}.get(name, "assignees")
    for who in ("ann", "bob", "gone"):
        api.command("task.create", {"id": f"t-{who}", field: [f"{who}@x.vn"]})
    api.command("directory.retire", {"kind": "member", "id": "gone"})
    for who, forms in (("ann", (*ANNS, "42")), ("gone", (*GONES, "7"))):
        for form in forms:
            assert await ids(api, f"{WORKFLOW}?filter[{name}]={quote(form)}") == [f"t-{who}"], form
            others = sorted({"t-ann", "t-bob", "t-gone"} - {f"t-{who}"})
            assert await ids(api, f"{WORKFLOW}?filter[{name}__neq]={quote(form)}") == others
    several = f"{WORKFLOW}?filter[{name}__in][]=ann@x.vn&filter[{name}__in][]=operator:op-2&filter[{name}__in][]=zoe"
    if field == "assignees":
        assert await ids(api, several) == ["t-ann", "t-bob"]
    for form in NOBODYS:
        assert await ids(api, f"{WORKFLOW}?filter[{name}]={quote(form)}") == []


async def test_a_list_by_e_mail_is_shown_in_each_dialects_own_form(api: Api) -> None:
    steps = [{"name": "A", "whitelist": ["ANN@x.vn", "account:43"], "blacklist": ["operator:op-7"]}]
    response = await api.post("/api/v3/internal/workflows", {"name": "Visit", "steps": steps})
    assert response.status_code == 201, response.text
    step = response.json()["workflow"]["steps"][0]
    assert (step["whitelist"], step["blacklist"]) == (["ann@x.vn", "bob@x.vn"], ["gone@x.vn"])
    api.command("task.create", {"id": "t", "whitelist": ["ann@x.vn"], "blacklist": ["bob@x.vn"]})
    task = (await api.get("/v1/tasks/t")).json()
    assert (task["whitelist"], task["blacklist"]) == (["ann"], ["bob"])
    attributes = (await api.get(f"{WORKFLOW}/t")).json()["data"]["attributes"]
    assert (attributes["whitelisted_ids"], attributes["blacklisted_ids"]) == ([42], [43])


@pytest.mark.parametrize("name", ["whitelist", "blacklist"])
async def test_a_list_that_names_nobody_is_refused_in_the_dialects_words(api: Api, name: str) -> None:
    for who, status, code in (("zoe@x.vn", 404, "member-001"), ("a b", 400, "activity-005")):
        steps = [{"name": "A", name: ["ann", who]}]
        response = await api.post("/api/v3/internal/workflows", {"name": "Visit", "steps": steps})
        assert (response.status_code, response.json()["failedCode"]) == (status, code)
        assert f"/steps/0/{name}/1" in response.json()["message"]


async def test_titles_roles_and_flows_are_found_in_every_normal_form(api: Api) -> None:
    api.command("task.create", {"id": "t1", "title": COMPOSED, "flow": COMPOSED, "roles": [COMPOSED]})
    api.command("task.create", {"id": "t2", "title": DECOMPOSED, "flow": DECOMPOSED, "roles": [DECOMPOSED]})
    api.command("task.create", {"id": "t3", "title": "Cafe", "flow": "Cafe", "roles": ["Cafe"]})
    both = ["t1", "t2"]
    for text in (quote(COMPOSED), quote(DECOMPOSED)):
        for asked in ("name", "name__match", "name__prefix", "name__suffix", "actor_roles"):
            assert await ids(api, f"{WORKFLOW}?filter[{asked}]={text}") == both, asked
        assert await ids(api, f"{WORKFLOW}?filter[name__neq]={text}") == ["t3"]
        assert await ids(api, f"/v1/tasks?flow={text}") == both
        assert await ids(api, f"/v1/tasks?search={text}") == both
        assert await ids(api, f"/v1/tasks?search={quote(COMPOSED.upper())}") == both
    # Shown as they were written.
    assert [(await api.get(f"/v1/tasks/{one}")).json()["title"] for one in both] == [COMPOSED, DECOMPOSED]


async def test_what_null_takes_away_is_shown_by_no_dialect(api: Api) -> None:
    api.command("task.create", {"id": "t", "assignees": ["ann"], "fields": {"note": "n", "kept": 1}})
    api.command("task.save", {"id": "t", "data": {"note": "draft", "own": 2}})
    api.command("task.save", {"id": "t", "data": {"note": None, "own": None}})
    task = (await api.get("/v1/tasks/t")).json()
    assert (task["fields"], task["data"]) == ({"kept": 1}, {})
    shown = (await api.get(f"{WORKFLOW}/t")).json()["data"]["attributes"]["data"]
    assert shown == {"kept": 1}
    whole = quote('{"kept":1}')
    assert await ids(api, f"{WORKFLOW}?filter[data]={whole}") == ["t"]
    field = (await api.get("/api/v3/task/t")).json()["task"]
    assert (field["kept"], "note" in field, "own" in field) == (1, False, False)
    api.command("task.complete", {"id": "t", "data": {"kept": None, "signed": True}})
    shown = (await api.get(f"{WORKFLOW}/t")).json()["data"]["attributes"]
    assert (shown["data"], shown["output"]) == ({"signed": True}, {"kept": None, "signed": True})
    field = (await api.get("/api/v3/task/t")).json()["task"]
    assert ("kept" in field, field["signed"]) == (False, True)


@pytest.mark.parametrize(
    ("name", "data", "pointer"),
    [
        ("workflow.change", {"id": "w", "name": None}, "/name"),
        ("workflow.change", {"id": "w", "steps": None}, "/steps"),
        ("workflow.change", {"id": "w", "gating": None}, "/gating"),
        ("workflow.change", {"id": "w", "failure": None}, "/failure"),
        ("activity.change", {"id": "a", "title": None}, "/title"),
        ("activity.change", {"id": "a", "fields": None}, "/fields"),
        ("task.change", {"id": "t", "fields": None}, "/fields"),
        ("task.change", {"id": "t", "complete": None}, "/complete"),
        ("task.change", {"id": None, "title": "T"}, "/id"),
        ("task.save", {"id": "t", "data": None}, "/data"),
        ("task.complete", {"id": "t", "data": None}, "/data"),
        ("directory.change", {"kind": "hub", "id": "h", "fields": None}, "/fields"),
    ],
)
async def test_null_is_refused_where_nothing_can_be_taken_away(
    api: Api, name: str, data: dict[str, object], pointer: str
) -> None:
    response = await api.post("/v1/commands", {"type": name, "data": data})
    problem(response, 422, "wrong-shape", pointer=f"/data{pointer}")


async def test_what_is_read_and_written_back_unchanged_registers_nobody(api: Api) -> None:
    api.command("task.create", {"id": "t", "title": "Visit", "assignees": ["gone", "bob"]})
    step = {"name": "A", "assignees": ["gone"], "whitelist": ["gone"]}
    api.command("workflow.define", {"id": "w", "name": "Visit", "steps": [step]})
    api.command("directory.retire", {"kind": "member", "id": "gone"})
    shown = (await api.get("/api/v3/task/t")).json()["task"]
    assert shown["assignee"] == ["gone@x.vn", "bob@x.vn"]
    told = (await api.get("/api/v3/workflow/w")).json()["workflow"]
    assert (told["steps"][0]["assignee"], told["steps"][0]["whitelist"]) == (["gone@x.vn"], ["gone@x.vn"])
    body = {"title": shown["title"], "assignee": shown["assignee"]}
    written = await api.client.put("/api/v3/task/t", json=body, headers=api.by())
    assert written.status_code == 200, written.text
    put = await api.client.put("/api/v3/workflow/w", json={"steps": told["steps"]}, headers=api.by())
    assert put.status_code == 200, put.text
    assert (await api.get("/v1/tasks/t")).json()["assignees"] == ["gone", "bob"]
    assert (await api.get("/api/v3/workflow/w")).json()["workflow"] == told
    members = (await api.get("/v1/directory/member?retired=true")).json()["data"]
    assert [each["id"] for each in members] == ["ann", "bob", "gone"]
    refused = await api.post("/v1/commands", {"type": "task.create", "data": {"assignees": ["gone@x.vn"]}})
    problem(refused, 404, "not-found", pointer="/data/assignees/0", detail="member gone@x.vn was retired")
