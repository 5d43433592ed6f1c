"""The day's work of a client that was written for the workflow API's vendor, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.node import run_node
from tests.clients.workflow_client import Client, Json, Refused
from tests.contracts.workflow_page import GET_OUTPUT, LIST_OUTPUT, conforms, parsed
from tests.services.http.served import Served, served
from tests.services.http.workflow_scene import furnish


@pytest.fixture
def running(migrated_url: str) -> Iterator[Served]:
    with served(migrated_url) as there:
        furnish(there.api)
        yield there


def client_of(running: Served, actor: str) -> Client:
    """Return a client that has logged in as a member, or as the system."""
    return Client(running.url, running.api.key("acme", actor))


def shaped(activity: Json) -> Json:
    """Expect an activity as the vendor documents it, and return its attributes."""
    conforms({"data": activity}, parsed(GET_OUTPUT))
    found: Json = activity["attributes"]
    return found


def test_a_log_in_gives_a_token_for_the_account(running: Served) -> None:
    me = client_of(running, "ann").request("GET", "/iam/accounts/me")["data"]
    assert (me["type"], me["id"], me["attributes"]["actor_roles"]) == ("iam/accounts", "42", ["driver"])
    with pytest.raises(Refused, match="unknown, expired or revoked") as refused:
        Client(running.url, "PULSE_0123456789abcdef")
    assert refused.value.status == 401


def test_a_day_of_activities(running: Served) -> None:
    lead, ann = client_of(running, "max"), client_of(running, "ann")
    assert shaped(lead.assign("t", "42", start_working=False))["assigned_account_id"] == 42
    with pytest.raises(Refused, match="already-assigned") as refused:
        lead.assign("t", "43", start_working=False)
    assert refused.value.status == 409
    assert shaped(ann.act("t", "process"))["status"] == "in-progress"
    draft = ann.request("PATCH", "/workflow/activities/t", {"data": {"note": "rang"}})["data"]
    assert shaped(draft)["data"] == {"kg": 2, "note": "rang"}
    assert shaped(ann.act("t", "complete", {"data": {"signed": True}}))["status"] == "completed"
    assert shaped(lead.assign("a1", "43", start_working=True))["status"] == "in-progress"
    assert shaped(lead.act("a1", "reassign", {"account_id": "42"}))["assigned_account_id"] == 42
    assert shaped(lead.act("a1", "unassign"))["assigned_account_id"] is None
    lead.assign("a1", "42", start_working=True)
    assert shaped(ann.act("a1", "error", {"data": {"comment": "no road"}}, "POST"))["status"] == "errored"
    assert shaped(client_of(running, "system").act("a2", "cancel", method="POST"))["status"] == "canceled"


def test_the_tracker(running: Served) -> None:
    lead, ann = client_of(running, "max"), client_of(running, "ann")
    lead.assign("t", "42", start_working=False)
    started = ann.track("start", {"data": {"attributes": {"activity_id": "t"}}})
    assert shaped(started["data"])["status"] == "in-progress"
    assert shaped(ann.track("pause")["data"])["status"] == "paused"
    resumed = ann.track("resume")
    assert shaped(resumed["data"])["status"] == "in-progress"
    assert list(resumed["meta"]) == ["working_seconds"]
    assert shaped(lead.track("pause/42")["data"])["status"] == "paused"
    with pytest.raises(Refused, match="not-processing"):
        ann.track("pause", {"account_id": None})
    last = ann.request("GET", "/workflow/tracker/last")["data"]
    assert set(last["attributes"]) >= PERIOD
    assert last["relationships"]["activity"]["data"]["id"] == "t"
    found = lead.listed(
        "work_periods", {"account_id": "42", "project_id": "p"}, ("project", "activity"), sort="started_at"
    )
    assert found["data"][-1] == last == lead.read("work_periods", last["id"])
    assert [each["id"] for each in found["included"]] == ["p", "t"]
    assert len(lead.listed("work_periods", {"activity_id__exists": "true"})["data"]) == 2


# What the vendor's pages list of each resource.
PROJECT = {
    "id", "name", "enabled", "readonly", "organization_id", "organizational_unit", "created_at", "updated_at",
    "definition",
}  # fmt: skip
MEMBER = {
    "id", "person_id", "account_id", "actor_roles", "first_name", "middle_name", "last_name", "picture_url",
    "is_supervisor", "created_at", "updated_at",
}  # fmt: skip
PERIOD = {"id", "started_at", "ended_at", "account_id"}
UNIT = {"id", "name", "created_at", "status", "created_by_id", "priority"}


def test_projects_and_work_units(running: Served) -> None:
    system = client_of(running, "system")
    given = {"name": "South", "organizational_unit": "Sales", "organization_id": "7", "definition": '{"indicators":{}}'}
    project = system.create("projects", "workflow/projects", given)
    assert set(project["attributes"]) >= PROJECT
    assert project["attributes"]["definition"] == {"indicators": {}}
    for change in ({"name": "Southern"}, {"enabled": False}):
        project = system.patch("projects", "workflow/projects", project["id"], change)
    assert (project["attributes"]["name"], project["attributes"]["enabled"]) == ("Southern", False)
    assert system.read("projects", project["id"]) == project
    found = system.listed("projects", {"name__match": "SOUTH", "enabled": "false"}, page=(1, 20))
    assert found["data"] == [project]
    # The steps of a project are a workflow here, which has an API of its own.
    steps = [{"name": "Go"}, {"name": "Come"}]
    running.api.command("workflow.define", {"id": "s", "name": "Visit south", "steps": steps, "project": project["id"]})
    unit = system.create("work_units", "workflow/work_units", {"name": "Order 7"}, project["id"])
    assert set(unit["attributes"]) >= UNIT
    assert unit["relationships"]["project"]["data"]["id"] == project["id"]
    assert system.create("work_units", "workflow/work_units", {}, project["id"])["attributes"]["name"] == "Visit south"
    unit = system.patch("work_units", "workflow/work_units", unit["id"], {"name": "Order 8", "priority": 2})
    assert system.read("work_units", unit["id"]) == unit
    found = system.listed(
        "work_units", {"project_id": project["id"], "name__match": "order", "status__in": "pending"}, ("nodes",)
    )
    assert found["data"] == [unit]
    assert [each["attributes"]["name"] for each in found["included"]] == ["Go", "Come"]
    activities = system.listed("activities", {"work_unit_id": unit["id"]})["data"]
    assert len(activities) == 2
    canceled = system.request("POST", f"/workflow/work_units/{unit['id']}/cancel")["data"]
    assert canceled["attributes"]["status"] == "canceled"
    assert system.read("activities", activities[0]["id"])["attributes"]["status"] == "canceled"


def test_members(running: Served) -> None:
    lead = client_of(running, "max")
    found = lead.listed("members", {"project_id": "p", "is_supervisor": "true"}, page=(1, 20))["data"]
    assert [(each["type"], each["attributes"]["account_id"]) for each in found] == [("workflow/project/members", 44)]
    assert set(found[0]["attributes"]) >= MEMBER
    assert lead.read("members", found[0]["id"]) == found[0]
    assert [each["id"] for each in lead.listed("projects", {"name": "North"}, ("members",))["included"]] == [
        "p:ann", "p:bob", "p:max",
    ]  # fmt: skip
    roles = lead.listed("members", {"actor_roles__contains": "driver", "account_id__in": "42,43"}, sort="account_id")
    assert [each["attributes"]["account_id"] for each in roles["data"]] == [42, 43]


def test_lists_as_the_client_asks_for_them(running: Served) -> None:
    lead = client_of(running, "max")
    lead.assign("t", "42", start_working=True)

    def ids(**filters: str) -> list[str]:
        found = lead.listed("activities", filters, sort="id")
        conforms(found, parsed(LIST_OUTPUT))
        return [each["id"] for each in found["data"]]

    assert ids() == ["a1", "a2", "t"]
    for filters, wanted in (
        ({"status": "pending"}, ["a1", "a2"]),
        ({"status__in": "pending, in-progress"}, ["a1", "a2", "t"]),
        ({"assigned_account_id": "42"}, ["t"]),
        ({"assigned_account_id__in": "42,43"}, ["t"]),
        ({"actor_roles__contains": "driver"}, []),
        ({"name__match": "ISI"}, ["t"]),
        ({"name__prefix": "vis"}, ["t"]),
        ({"name__suffix": "ME"}, ["a2"]),
        ({"id__in": "a1,t"}, ["a1", "t"]),
        ({"started_at__exists": "true"}, ["t"]),
        ({"started_at__exists": "0"}, ["a1", "a2"]),
        ({"completed_at__gte": "2025-01-01T00:00:00Z"}, []),
        ({"project_id": "p", "working_seconds__gte": "0"}, ["t"]),
        ({"work_unit_id": "a"}, ["a1", "a2"]),
    ):
        assert ids(**filters) == wanted, filters
    for sort in ("-working_seconds,id", "-assigned_account_id,id", "live_seconds", "pipeline_seconds"):
        assert len(lead.listed("activities", sort=sort)["data"]) == 3
    page = lead.listed(
        "activities", included=("project", "work_unit", "node"), fields={"workflow/activities": ("name", "status")},
        page=(1, 20), sort="id", count="true",
    )  # fmt: skip
    assert page["meta"]["count"] == 3
    assert [list(each["attributes"]) for each in page["data"]] == [["name", "status"]] * 3
    assert {each["type"] for each in page["included"]} == {
        "workflow/projects",
        "workflow/work_units",
        "workflow/nodes",
    }


def test_the_day_of_a_client_for_node(running: Served) -> None:
    running.api.command(
        "workflow.define", {"id": "of-p", "name": "Of p", "steps": [{"name": "Go"}, {"name": "Come"}], "project": "p"}
    )
    keys = {"LEAD_KEY": running.api.key("acme", "system"), "AGENT_KEY": running.api.key("acme", "ann")}
    assert run_node("workflow_client.mjs", running.url, keys) == "done\n"
