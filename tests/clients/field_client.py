"""A client of the field API that knows nothing but what the original's documentation says.

Each method is one documented request, checks the documented status and envelope, and returns what is in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

Json = dict[str, Any]


@dataclass(slots=True)
class FieldClient:
    """The documented address is `https://apiweb.mile.app/api/v3`; only the host is another one."""

    host: str
    token: str
    session: requests.Session = field(default_factory=requests.Session)

    def call(self, method: str, path: str, expected: int = 200, body: Any = None, **query: Any) -> Json:
        """Send a request and return the body of its answer."""
        response = self.session.request(
            method,
            f"{self.host}/api/v3{path}",
            params=query,
            json=body,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=30,
        )
        assert response.status_code == expected, f"{method} {path}: {response.status_code} {response.text}"
        found: Json = response.json()
        return found

    def refused(self, method: str, path: str, status: int, body: Any = None, **query: Any) -> str:
        """Send a request that is refused, and return the message."""
        found = self.call(method, path, status, body, **query)
        assert found["status"] is False
        message: str = found["message"]
        return message

    def _task(self, method: str, path: str, body: Any = None, expected: int = 200, message: str = "Success") -> Json:
        found = self.call(method, path, expected, body)
        assert (found["status"], found["message"]) == (True, message)
        task: Json = found["task"]
        assert isinstance(task["_id"], str)
        assert task["status"] in ("UNASSIGNED", "ONGOING", "DONE", "CANCELED", "FAILED")
        if task["taskType"] != "activityMaster":
            assert isinstance(task["orderIndex"], (int, float))
            given = {"assignedTo", "assignedBy", "assignedTime"}
            assert given & set(task) == (given if task["assignee"] else set())
            assert ({"doneBy", "doneTime"} <= set(task)) is (task["status"] == "DONE")
        assert ("hub" in task) is (task["hubId"] is not None)
        assert task.get("hub", {"_id": None})["_id"] == task["hubId"]
        return task

    # Activities and workflows.

    def create_workflow(self, body: Mapping[str, Any]) -> Json:
        found = self.call("POST", "/internal/workflows", 201, body)
        assert (found["status"], found["code"], found["message"]) == (True, 201, "Workflow created successfully")
        workflow: Json = found["workflow"]
        # A step's mapping is the name of a sub-status.
        names = {status["name"] for status in workflow["customStatuses"]}
        assert {"Unassigned", "Ongoing", "Done"} <= names
        assert {step["statusMapping"] for step in workflow["steps"]} - {None} <= names
        return workflow

    def create_activity(self, body: Mapping[str, Any]) -> Json:
        found = self.call("POST", "/activity", 201, body)
        assert (found["status"], found["code"], found["message"]) == (True, 201, "Activity created successfully")
        data: Json = found["data"]
        assert data["taskType"] == "activityMaster"
        assert len(data["subId"]) == len(body["tasks"])
        return data

    # Tasks.

    def task(self, task_id: str) -> Json:
        return self._task("GET", f"/task/{task_id}")

    def create_task(self, body: Mapping[str, Any]) -> Json:
        return self._task("POST", "/task", body, 201, "Task has been created")

    def replace_task(self, task: Mapping[str, Any]) -> Json:
        return self._task("PUT", f"/task/{task['_id']}", task)

    def change_task(self, task_id: str, **changes: Any) -> Json:
        return self._task("PATCH", f"/task/{task_id}", changes)

    def assign_task(self, task_id: str, *emails: str) -> Json:
        return self._task("PUT", f"/task/{task_id}/assign", {"assignee": emails})

    def move_task(self, task_id: str, hub_id: str) -> Json:
        return self._task("PUT", f"/task/{task_id}/move", {"hubId": hub_id})

    def delete_task(self, task_id: str) -> Json:
        return self._task("DELETE", f"/task/{task_id}")

    def create_tasks(self, tasks: Sequence[Json]) -> list[Json]:
        found = self.call("POST", "/tasks/bulk/", 201, {"background": False, "tasks": tasks})
        results: list[Json] = found["tasks"]
        assert (found["success"], found["failed"]) == (len(tasks), 0), found
        for sent, result in zip(tasks, results, strict=True):
            assert (result["status"], result["message"]) == (True, "Task has been created")
            assert result.get("refId") == sent.get("refId")
        return results

    # Lists.

    def tasks(self, **query: Any) -> Json:
        """Return a page as Laravel shows it."""
        found = self.call("GET", "/tasks", **query)
        assert (found["status"], found["message"]) == (True, "Success.")
        page: Json = found["tasks"]
        assert page["path"] == f"{self.host}/api/v3/tasks"
        assert page["links"][0]["label"] == "&laquo; Previous"
        assert page["links"][-1] == {"url": page["next_page_url"], "label": "Next &raquo;", "active": False}
        return page

    def all_tasks(self, **query: Any) -> list[Json]:
        """Return the tasks of all pages, following the addresses."""
        page = self.tasks(**query)
        rows: list[Json] = page["data"]
        while page["next_page_url"] is not None:
            url: str = page["next_page_url"]
            page = self.call("GET", url.removeprefix(f"{self.host}/api/v3"))["tasks"]
            rows += page["data"]
        assert len(rows) == page["total"]
        return rows

    def tasks_after(self, limit: int, **query: Any) -> list[Json]:
        """Return the tasks of all pages, each asked for by the last task of the one before."""
        rows: list[Json] = []
        cursor: Json = {}
        while True:
            page = self.tasks(lazyLoad=1, limit=limit, **cursor, **query)["data"]
            rows += page
            if len(page) < limit:
                return rows
            cursor = {"cursor": page[-1]["_id"]}

    # What an organization has.

    def flows(self) -> list[Json]:
        found = self.call("GET", "/flows", sort_by="orderIndex", sort_order="desc")
        assert (found["status"], found["message"]) == (True, "Success")
        flows: list[Json] = found["flows"]["data"]
        assert all(
            {"_id", "name", "pages", "orderIndex", "organizationId", "createdTime"} <= set(flow) for flow in flows
        )
        return flows

    def flow_fields(self, name: str) -> list[str]:
        found = self.call("GET", f"/flow/{name}/fields")
        assert (found["status"], found["message"]) == (True, "Success")
        assert {"_id", "flow", "workflow"} <= set(found["reservedKey"])
        return [part["id"] for part in found["flowFields"]]

    def hubs(self, **query: Any) -> list[Json]:
        found = self.call("GET", "/hubs", **query)
        assert set(found) == {"data", "status"}
        hubs: list[Json] = found["data"]
        return hubs

    def hub(self, hub_id: str) -> Json:
        hub: Json = self.call("GET", f"/hub/{hub_id}/")["data"]
        return hub

    def me(self) -> Json:
        """Return the user whose token is used, in no envelope."""
        user = self.call("GET", "/user")
        assert user["status"] == "active"
        return user

    def user_of(self, email: str) -> Json:
        (user,) = self.call("GET", "/users", q=email)["data"]
        assert self.call("GET", f"/user/{user['_id']}")["user"] == user
        return dict(user)
