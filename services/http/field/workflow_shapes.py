"""Workflows in the field dialect's words: its definitions as the data of commands, and ours as it shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.http.problems import Refused

# The dialect's names, in the order in which they are shown, and ours.
_WORKFLOW = {"name": "name", "steps": "steps", "gating": "gating", "failure": "failure", "projectId": "project"}
_STEP = {
    "name": "name",
    "flow": "flow",
    "flowId": "flow_id",
    "assignee": "assignees",
    "statusMapping": "status_mapping",
    "fieldMapping": "field_mapping",
    "roles": "roles",
    "whitelist": "whitelist",
    "blacklist": "blacklist",
}
_MAPPING = {"step": "step", "fromField": "from_field", "toField": "to_field"}
DERIVED = ("_id", "version", "organizationId", "createdBy", "createdTime", "updatedTime")


def definition(body: Any) -> dict[str, Any]:
    """Return the data of `workflow.define` that a request means; types are the wire contract's to check."""
    return _renamed(body, "")


def changed_definition(body: Any) -> dict[str, Any]:
    """Return the data of `workflow.change`, but for the id, that a request means."""
    data = _renamed(body, "")
    if "project" in data:
        raise Refused("fixed", "a workflow keeps its project", "/project")
    for name, value in data.items():
        if value is None:
            raise Refused("wrong-shape", "leave out what is to stay as it is", f"/{name}")
    return data


def _renamed(body: Any, pointer: str) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise Refused("wrong-shape", "the body is an object", pointer)
    for key in body:
        if key in DERIVED:
            raise Refused("derived", f"{key} is given by the service", f"{pointer}/{key}")
    data: dict[str, Any] = _with_our_names(body, _WORKFLOW, "a workflow", pointer)
    steps = data.get("steps")
    if isinstance(steps, list):
        data["steps"] = [_step(step, f"/steps/{index}") for index, step in enumerate(steps)]
    return data


def _step(step: Any, pointer: str) -> Any:
    data = _with_our_names(step, _STEP, "a step", pointer)
    mappings = data.get("field_mapping") if isinstance(data, dict) else None
    if isinstance(mappings, list):
        data["field_mapping"] = [
            _with_our_names(mapping, _MAPPING, "a field mapping", f"{pointer}/field_mapping/{index}")
            for index, mapping in enumerate(mappings)
        ]
    return data


def _with_our_names(given: Any, names: Mapping[str, str], what: str, pointer: str) -> Any:
    if not isinstance(given, dict):
        return given
    for key in given:
        if key not in names:
            # Its place is said in words: in a pointer a name of ours would be shown as the dialect's.
            raise Refused("unknown-field", f"{what} has {', '.join(names)}, and no {key[:100]}", pointer)
    return {names[key]: value for key, value in given.items()}


def people_of(entry: Mapping[str, Any]) -> list[str]:
    """Return the members that a workflow shows."""
    names = ("assignees", "whitelist", "blacklist")
    members = [who for step in entry["fields"]["steps"] for name in names for who in step.get(name, ())]
    return [*members, entry["created_by"]]


def workflow(entry: Mapping[str, Any], tenant: str, emails: Mapping[str, str]) -> dict[str, Any]:
    """Return a workflow as the dialect shows it."""
    fields = entry["fields"]
    return {
        "_id": entry["id"],
        "name": fields["name"],
        "steps": [_shown_step(step, emails) for step in fields["steps"]],
        "gating": fields["gating"],
        "failure": fields["failure"],
        "projectId": fields["project"],
        "version": fields["version"],
        "organizationId": tenant,
        "createdBy": emails.get(entry["created_by"], entry["created_by"]),
        "createdTime": entry["created_at"],
        "updatedTime": entry["updated_at"],
    }


def _shown_step(step: Mapping[str, Any], emails: Mapping[str, str]) -> dict[str, Any]:
    mappings = [{key: mapping[name] for key, name in _MAPPING.items()} for mapping in step.get("field_mapping", ())]

    def people(name: str) -> list[str]:
        return [emails.get(member, member) for member in step.get(name, ())]

    # A step that was recorded before steps had one of these is shown without.
    return {
        "name": step["name"],
        "flow": step.get("flow"),
        "flowId": step.get("flow_id"),
        "assignee": people("assignees"),
        "statusMapping": step.get("status_mapping", {}),
        "fieldMapping": mappings,
        "roles": list(step.get("roles", ())),
        "whitelist": people("whitelist"),
        "blacklist": people("blacklist"),
    }
