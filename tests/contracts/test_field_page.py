"""The field page's own example, repeated word for word; only ids and clocks may differ."""

from __future__ import annotations

import json
import shlex
from typing import Any
from urllib.parse import urlsplit

import psycopg

from services import keys
from tests.services.http.api import Api

ORGANIZATION = "634e98098ce07d29474a7e20"
# The page's own command; only the host and the token are others here.
CURL = r"""
curl --request POST \
  --url https://apiweb.mile.app/api/v3/activity \
  --header 'Authorization: Bearer <token>' \
  --header 'Content-Type: application/json' \
  --data '
{
  "workflowId": "68f2198aef526585c30e16d2",
  "hubId": "68ff42815ed967adac0f7192",
  "tasks": [
    {
      "customerName": "John Doe",
      "customerAddress": "Jl. Sudirman No. 1, Jakarta",
      "pickupCoordinate": "-6.2088,106.8456",
      "assignee": [
        "driver@example.com"
      ],
      "startTime": "2025-10-31T08:55:00.000+07:00",
      "endTime": "2025-11-01T08:55:00.000+07:00",
      "hubId": "68ff42815ed967adac0f7192",
      "createdFrom": "WEB"
    },
    {
      "recipientName": "Jane Smith",
      "recipientAddress": "Jl. Pajajaran No. 10, Bogor",
      "deliveryCoordinate": "-6.5950,106.8167",
      "assignee": [],
      "startTime": "2025-10-31T08:55:00.000+07:00",
      "endTime": "2025-11-01T08:55:00.000+07:00",
      "hubId": "68ff42815ed967adac0f7192",
      "createdFrom": "WEB"
    }
  ]
}
'
"""
RESPONSE = """{
  "status": true,
  "code": 201,
  "message": "Activity created successfully",
  "data": {
    "_id": "634e98098ce07d29474a7e22",
    "taskType": "activityMaster",
    "title": "Pickup to Delivery",
    "workflowId": "68f2198aef526585c30e16d2",
    "subId": [
      "634e98098ce07d29474a7e23",
      "634e98098ce07d29474a7e24"
    ],
    "status": "ONGOING",
    "assignee": [
      "driver@example.com"
    ],
    "startTime": "2025-10-31T08:55:00.000+07:00",
    "endTime": "2025-11-01T08:55:00.000+07:00",
    "hubId": "68ff42815ed967adac0f7192",
    "organizationId": "634e98098ce07d29474a7e20",
    "createdBy": "admin@example.com",
    "createdTime": "2025-10-31T08:50:00.000+07:00"
  }
}"""


def set_scene(api: Api) -> None:
    """The organization of the page: its workflow, and the administrator whose token is used."""
    admin = {"kind": "member", "id": "admin", "fields": {"email": "admin@example.com"}}
    api.command("directory.register", admin, ORGANIZATION)
    steps = [{"name": name, "flow": f"{name} flow", "flow_id": f"flow-{name}"} for name in ("Pickup", "Delivery")]
    workflow = {"id": "68f2198aef526585c30e16d2", "name": "Pickup to Delivery", "steps": steps}
    api.command("workflow.define", workflow, ORGANIZATION)
    with psycopg.connect(api.url) as conn:
        _, api.tokens["admin"] = keys.create(conn, ORGANIZATION, "admin")


def _printed() -> tuple[str, str, dict[str, str], str]:
    """Return what the page's command sends: method, path, headers, body."""
    words = iter(shlex.split(CURL.replace("\\\n", " ")))
    assert next(words) == "curl"
    options = list(zip(words, words, strict=True))
    headers = dict(text.split(": ", 1) for name, text in options if name == "--header")
    given = {name: text for name, text in options if name != "--header"}
    return given["--request"], urlsplit(given["--url"]).path, headers, given["--data"]


async def _post(api: Api) -> Any:
    method, path, headers, body = _printed()
    headers["Authorization"] = headers["Authorization"].replace("<token>", api.tokens["admin"])
    response = await api.client.request(method, path, content=body, headers=headers)
    assert response.status_code == 201, response.text
    assert response.headers["content-type"] == "application/json"
    return response


def _with_places(response: Any) -> str:
    """Return the answer as the page prints it, with the page's own ids and clock in their places."""
    shown = json.loads(response.text)
    data, page = shown["data"], json.loads(RESPONSE)["data"]
    ids = [data["_id"], *data["subId"]]
    assert len(set(ids)) == len(page["subId"]) + 1
    data["_id"], data["subId"], data["createdTime"] = page["_id"], page["subId"], page["createdTime"]
    return json.dumps(shown, indent=2, ensure_ascii=False)


async def test_the_example_of_the_page_from_the_view(api: Api) -> None:
    assert _with_places(await _post(api)) == RESPONSE


async def test_the_example_of_the_page_from_the_commands_own_events(api: Api) -> None:
    api.sender.late = {"activities", "tasks", "directory"}
    with psycopg.connect(api.url) as conn:
        behind = conn.execute("SELECT count(*) FROM entries WHERE kind = 'member'").fetchone()
    assert behind == (1,)
    assert _with_places(await _post(api)) == RESPONSE


async def test_what_the_page_sends_is_there_again(api: Api) -> None:
    created = (await _post(api)).json()["data"]
    for index, sent in enumerate(json.loads(_printed()[3])["tasks"]):
        response = await api.get(f"/api/v3/task/{created['subId'][index]}", api.tokens["admin"])
        task = response.json()["task"]
        assert {name: task[name] for name in sent} == sent
        assert task["parentId"] == created["_id"]
        assert task["taskType"] == "activityChild"
        name = ("Pickup", "Delivery")[index]
        assert (task["flow"], task["flowId"]) == (f"{name} flow", f"flow-{name}")
        assert task["status"] == ("ONGOING" if index == 0 else "UNASSIGNED")
    response = await api.get(f"/api/v3/task/{created['_id']}", api.tokens["admin"])
    master = response.json()["task"]
    # What the page shows comes first, in its order; then how far the activity is.
    assert list(master.items())[: len(created)] == list(created.items())
    more = ["subStatus", "currentStep", "progress", "overdue", "updatedTime", "updatedBy", "orderIndex"]
    assert list(master)[len(created) :] == more


async def test_the_master_moves_only_as_its_tasks_do(api: Api) -> None:
    created = (await _post(api)).json()["data"]
    token = api.key(ORGANIZATION)
    for task, status in zip(created["subId"], ("ONGOING", "DONE"), strict=True):
        # The second task is nobody's, as the page sends it, and its day lies in the past.
        body = {"status": "DONE", **({"assignee": ["driver@example.com"]} if status == "DONE" else {})}
        done = await api.client.put(f"/api/v3/task/{task}", json=body, headers=api.by(token))
        assert done.json()["task"]["status"] == "DONE", done.text
        master = await api.get(f"/api/v3/task/{created['_id']}", api.tokens["admin"])
        assert master.json()["task"]["status"] == status
