"""A day's work of the original's client against a server that listens on a port."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.field_client import FieldClient
from tests.services.http.served import served

DRIVER, OTHER = "driver@example.com", "leandro@mile.app"
HUB = {"name": "Neo Soho", "address": "Jl. Letjen S. Parman", "lat": -6.17434, "lng": 106.79028}


@pytest.fixture
def client(migrated_url: str) -> Iterator[FieldClient]:
    """A client of an organization with a hub and two users."""
    with served(migrated_url) as running:
        for kind, own, fields in (
            ("hub", "h1", HUB),
            ("hub", "h2", {"name": "Bogor"}),
            ("member", "u1", {"email": DRIVER, "name": "Driver"}),
            ("member", "u2", {"email": OTHER, "name": "Leandro"}),
        ):
            running.api.command("directory.register", {"kind": kind, "id": own, "fields": fields})
        yield FieldClient(running.url, running.api.key("acme"))


def test_tasks_are_created(client: FieldClient) -> None:
    sent = {
        "flow": "Visit",
        "hubId": "h1",
        "startTime": "2022-07-13 03:16:40",
        "endTime": "2022-07-13T10:16:40+07:00",
        "assignee": [DRIVER],
        "field1": "Jack",
    }
    task = client.create_task(sent)
    assert {name: task[name] for name in ("flow", "hubId", "assignee", "field1")} == {
        name: sent[name] for name in ("flow", "hubId", "assignee", "field1")
    }
    assert (task["startTime"], task["status"]) == ("2022-07-13T03:16:40+00:00", "ONGOING")
    assert client.task(task["_id"]) == task
    client.create_tasks([{"flow": "Visit", "hubId": "h1"}, {"flow": "Visit", "hubId": "h1", "refId": "66544e"}])
    assert client.refused("GET", "/task/nobody", 404)


def test_a_task_is_changed_assigned_moved_and_finished(client: FieldClient) -> None:
    task = client.create_task({"flow": "Visit", "hubId": "h1", "field1": "Jack", "field2": "B"})
    assert task["status"] == "UNASSIGNED"
    task = client.change_task(task["_id"], field1="Jack Ward")
    assert (task["field1"], task["field2"]) == ("Jack Ward", "B")
    task.pop("field2")
    task["label"] = "Urgent"
    task = client.replace_task(task)
    assert ("field2" in task, task["label"]) == (False, "Urgent")
    task = client.assign_task(task["_id"], OTHER)
    assert (task["status"], task["assignee"]) == ("ONGOING", [OTHER])
    assert {name: task["assignedTo"][name] for name in ("_id", "name", "email")} == {
        "_id": "u2", "name": "Leandro", "email": OTHER,
    }  # fmt: skip
    task = client.move_task(task["_id"], "h2")
    assert (task["hubId"], task["hub"]) == ("h2", {"_id": "h2", "name": "Bogor"})
    done = client.replace_task({**client.task(task["_id"]), "status": "DONE"})
    assert done["status"] == "DONE"
    assert client.refused("PATCH", f"/task/{task['_id']}", 409, {"field1": "too late"})
    assert client.delete_task(client.create_task({"flow": "Visit"})["_id"])["status"] == "CANCELED"


def test_an_activity_is_done_when_its_tasks_are(client: FieldClient) -> None:
    steps = [{"name": name, "flow": f"{name} flow", "flowId": f"f-{name}"} for name in ("Pickup", "Delivery")]
    steps[0]["statusMapping"] = "Picked up"
    workflow = client.create_workflow({"name": "Pickup to Delivery", "steps": steps})
    day = {"startTime": "2025-10-31 08:55:00", "endTime": "2025-11-01 08:55:00"}
    tasks = [{"customerName": "John Doe", "assignee": DRIVER, **day}, {"recipientName": "Jane", "assignee": []}]
    activity = client.create_activity({"workflowId": workflow["_id"], "hubId": "h1", "tasks": tasks})
    for child in activity["subId"]:
        assert client.task(activity["_id"])["status"] == "ONGOING"
        client.assign_task(child, OTHER)
        client.replace_task({**client.task(child), "status": "DONE"})
    master = client.task(activity["_id"])
    assert (master["status"], master["subStatus"], master["hub"]["name"]) == ("DONE", "Picked up", "Neo Soho")


def test_tasks_are_listed(client: FieldClient) -> None:
    names = [f"Customer {number}" for number in range(5)]
    client.create_tasks([{"flow": "Visit", "hubId": "h1", "assignee": [DRIVER], "customer": name} for name in names])
    client.create_tasks([{"flow": "Survey", "hubId": "h2"}])
    found = client.all_tasks(flow="Visit", hubId="h1", assignee=DRIVER, status="ONGOING", limit=2, fields="customer")
    assert [set(row) for row in found] == [{"_id", "customer"}] * 5
    assert sorted(row["customer"] for row in found) == names
    now = {"timeBy": "createdTime", "timeFrom": "2020-01-01 00:00:00", "timeTo": "2099-01-01 00:00:00"}
    assert client.tasks(**now)["total"] == 6
    assert client.refused("GET", "/tasks", 400, timeBy="createdTime", timeFrom="someday")


def test_tasks_are_put_in_order_and_read_one_after_another(client: FieldClient) -> None:
    made = client.create_tasks([{"flow": "Visit", "hubId": "h1", "orderIndex": place} for place in (3, 1, 2)])
    first, second, third = made[1]["_id"], made[2]["_id"], made[0]["_id"]
    found = client.tasks_after(2, sortBy="orderIndex", sortOrder="asc")
    assert [task["_id"] for task in found] == [first, second, third]
    client.change_task(first, orderIndex=4.5)
    for task in (third, second):
        client.assign_task(task, DRIVER)
        client.replace_task({**client.task(task), "status": "DONE"})
    found = client.tasks_after(2, sortBy="doneTime", sortOrder="desc")
    assert [task["_id"] for task in found] == [second, third, first]
    assert {task["_id"] for task in client.all_tasks(doneBy="Driver")} == {second, third}
    assert {task["doneBy"] for task in found if task["status"] == "DONE"} == {DRIVER}


def test_an_organization_is_read(client: FieldClient) -> None:
    mapping = [{"step": 0, "fromField": "parcel", "toField": "package"}]
    steps = [{"name": "Pickup", "flow": "Pickup"}, {"name": "Delivery", "flow": "Delivery", "fieldMapping": mapping}]
    client.create_workflow({"name": "Pickup to Delivery", "steps": steps})
    assert {flow["name"] for flow in client.flows()} == {"Pickup", "Delivery"}
    assert (client.flow_fields("Pickup"), client.flow_fields("Delivery")) == (["parcel"], ["package"])
    first, second = client.hubs(limit=10, fields="name")
    assert (first["name"], second["name"]) == ("Bogor", "Neo Soho")
    assert {name: client.hub("h1")[name] for name in HUB} == HUB
    assert client.user_of(OTHER)["name"] == "Leandro"
    assert client.refused("GET", "/flow/nothing", 404) == "Data not found"
