"""The answer to a write when its read model cannot show it: the resource from the command's events, or the receipt."""

from __future__ import annotations

import psycopg

from tests.services.http.api import Api

TASKS, HUBS = "/api/v3/task", "/v1/directory/hub"


async def test_a_new_entity_that_is_held_back_is_shown_from_its_events(api: Api) -> None:
    api.sender.held.add("h1")
    created = await api.post(HUBS, {"id": "h1", "fields": {"name": "North"}})
    assert (created.status_code, created.json()["fields"]) == (201, {"name": "North"})
    # The read model has passed its position, without its row.
    assert (await api.get(f"{HUBS}/h1?min_position={created.json()['position']}")).status_code == 404


async def test_a_change_that_is_held_back_is_shown_from_its_events(api: Api) -> None:
    task = (await api.post(TASKS, {"flow": "Visit", "title": "Old"})).json()["task"]
    api.sender.held.add(task["_id"])
    changed = await api.client.put(f"{TASKS}/{task['_id']}", json={"title": "New"}, headers=api.by())
    assert (changed.status_code, changed.json()["task"]["title"]) == (200, "New")
    assert (await api.get(f"{TASKS}/{task['_id']}")).json()["task"]["title"] == "Old"


async def test_a_row_that_cannot_be_read_back_leaves_the_receipt(api: Api) -> None:
    with psycopg.connect(api.url, autocommit=True) as conn:
        conn.execute("ALTER VIEW tasks RENAME TO tasks_away")
        answer = await api.post(TASKS, {"flow": "Visit"})
        conn.execute("ALTER VIEW tasks_away RENAME TO tasks")
    assert answer.status_code == 202, answer.text
    receipt = (await api.get(answer.headers["location"])).json()
    assert receipt["outcome"] == "accepted"
    assert [event["type"] for event in receipt["events"]] == ["task.created"]
