"""The field dialect's requests on tasks and activities as the data of commands, all pure; each raises `Refused`.

Nothing that a caller sends is dropped: a key that the dialect does not know is a field of the task's flow.
"""

from __future__ import annotations

from typing import Any

from services.commands.wire import pointer_of
from services.http.field.shapes import DONE, LEFT_OUT, MORE_OF_MASTER, MORE_OF_TASK
from services.http.problems import Refused

# Of a bulk request: its tasks, and the characters of a task's `refId`.
MOST_TASKS = 2000
MOST_REF = 255
_COMMON = ("_id", "taskType", "status", "organizationId", "createdBy", "createdTime", "subId", "parentId")
# What the service says of a master or a task, and so nobody can set.
DERIVED_OF_MASTER = frozenset({*_COMMON, *MORE_OF_MASTER, LEFT_OUT, "assignee", "startTime", "endTime"})
DERIVED_OF_TASK = frozenset({*_COMMON, *MORE_OF_TASK, "workflowId"})
_FLOW_KEYS = {"flow": "flow", "flowId": "flow_id"}
_TASK_KEYS = {"startTime": "start", "endTime": "end", "hubId": "hub", "title": "title"}
_MASTER_KEYS = {"hubId": "hub", "title": "title"}


def new_activity(body: Any) -> dict[str, Any]:
    """Return the data of `activity.create` that a create request means."""
    data: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, value in _object(body).items():
        if key == "workflowId":
            data["workflow_id"] = _text(value, f"/{key}")
        elif key in _MASTER_KEYS:
            _put(data, _MASTER_KEYS[key], value, f"/{key}")
        elif key in DERIVED_OF_MASTER:
            raise Refused("derived", f"{key} follows from the tasks", f"/{key}")
        elif key != "tasks":
            own[key] = value
    if "workflow_id" not in data:
        raise Refused("wrong-shape", "workflowId is required", "/workflowId")
    if not isinstance(body.get("tasks"), list):
        raise Refused("wrong-shape", "tasks is a list, with a task for each step", "/tasks")
    data["tasks"] = [_child(task, f"/tasks/{index}") for index, task in enumerate(body["tasks"])]
    return _with_fields(data, own)


def _child(task: Any, pointer: str) -> dict[str, Any]:
    for key in _FLOW_KEYS:
        if key in _object(task, pointer):
            raise Refused("derived", f"{key} is given by the workflow's step", f"{pointer}/{key}")
    return _new_task(task, pointer)


def new_task(body: Any) -> dict[str, Any]:
    """Return the data of `task.create` that a create request means; a title that is left out is the flow's name."""
    data: dict[str, Any] = {}
    for key, name in _FLOW_KEYS.items():
        _put(data, name, _object(body).get(key), f"/{key}")
    if not data.get("flow"):
        raise Refused("wrong-shape", "flow is required", "/flow")
    own = {key: value for key, value in body.items() if key not in _FLOW_KEYS}
    return {"title": data["flow"], **data, **_new_task(own, "")}


def _new_task(task: dict[str, Any], pointer: str) -> dict[str, Any]:
    data: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for key, value in task.items():
        at = pointer + pointer_of((key,))
        if key == "assignee":
            if value is not None:
                data["assignees"] = _people(value, at)
        elif key in _TASK_KEYS:
            _put(data, _TASK_KEYS[key], value, at)
        elif key in DERIVED_OF_TASK:
            raise Refused("derived", f"{key} is given by the service", at)
        else:
            # `createdFrom` too: the page knows it, and nothing but showing it again hangs on it.
            fields[key] = value
    return _with_fields(data, fields)


def changed_task(body: Any) -> dict[str, Any]:
    """Return the data of `task.change`, but for the id, that a request means; null takes away what it stands for."""
    data: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for key, value in _object(body).items():
        at = pointer_of((key,))
        if key == "status":
            if value != DONE:
                raise Refused("derived", f"a status follows from what is done; only {DONE} is given, to complete", at)
            data["complete"] = True
        elif key == "assignee":
            data["assignees"] = None if value is None else _people(value, at)
        elif key in _TASK_KEYS:
            data[_TASK_KEYS[key]] = None if value is None else _text(value, at)
        elif key in DERIVED_OF_TASK or key in _FLOW_KEYS:
            raise Refused("derived", f"{key} is given by the service", at)
        else:
            fields[key] = value
    return _with_fields(data, fields)


def changed_activity(body: Any) -> dict[str, Any]:
    """Return the data of `activity.change`, but for the id, that a request means; null takes away a hub or a field."""
    data: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for key, value in _object(body).items():
        at = pointer_of((key,))
        if key == "title" and value is None:
            raise Refused("invalid", "an activity always has a title", at)
        if key in _MASTER_KEYS:
            data[_MASTER_KEYS[key]] = None if value is None else _text(value, at)
        elif key in DERIVED_OF_MASTER or key in ("workflowId", "tasks"):
            raise Refused("derived", f"{key} of an activity follows from its workflow and its tasks", at)
        else:
            fields[key] = value
    return _with_fields(data, fields)


def _with_fields(data: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    return {**data, "fields": fields} if fields else data


def _object(value: Any, pointer: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused("wrong-shape", "a task is an object" if pointer else "the body is an object", pointer)
    return value


def _people(value: Any, pointer: str) -> list[str]:
    if not isinstance(value, list):
        raise Refused(
            "wrong-shape", "assignee is a list of e-mails, member ids, account:<number> or operator:<id>", pointer
        )
    return [_text(item, f"{pointer}/{index}") for index, item in enumerate(value)]


def _put(data: dict[str, Any], name: str, value: Any, pointer: str) -> None:
    if value is not None:
        data[name] = _text(value, pointer)


def _text(value: Any, pointer: str) -> str:
    if not isinstance(value, str):
        raise Refused("wrong-shape", "this is a text", pointer)
    return value
