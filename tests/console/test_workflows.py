"""Workflows: the list, and the graph of one with what is under way in its steps."""

from __future__ import annotations

import pytest

from tests.console.browser import Browser
from tests.console.scene import HOSTILE, set_the_scene
from tests.services.http.served import Served


def complete(system: Served, activity: str) -> None:
    """Complete the tasks of an activity, one after another."""
    for step in range(3):
        system.api.command("task.process", {"id": f"{activity}-t{step}"})
        system.api.command("task.complete", {"id": f"{activity}-t{step}"})


def test_workflows_are_listed_by_name_and_found_by_it(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    person.open("/console/workflows")
    person.says("Pickup to Delivery", "Pickup, Transport, Delivery", HOSTILE)
    assert person.driver.title != "owned"
    person.sound()
    person.open("/console/workflows?q=pickup+TO")
    person.says("Pickup to Delivery", not_=HOSTILE)
    person.open("/console/workflows?q=nothing+of+this")
    person.says("No workflow fits")


def test_the_graph_has_the_tasks_of_each_step_and_says_what_is_counted(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    person.open("/console/workflows")
    person.press("Pickup to Delivery")
    # Seven have not ended; of a1 and a2 the first step has.
    person.says("of the 7 activities that have not ended", "No activity was completed yet")
    figures = [[cell.text for cell in row.find_elements("css selector", "td")] for row in person.all("tbody tr")]
    counts = {row[0]: row[4:10] for row in figures}
    assert counts["0. Pickup"] == ["4", "0", "1", "1", "1", "0"]
    assert counts["1. Transport"] == ["6", "1", "0", "0", "0", "0"]
    assert counts["2. Delivery"] == ["7", "0", "0", "0", "0", "0"]
    assert len(person.all("svg .box")) == 3
    assert not person.all("svg .arrow")
    person.sound()
    complete(system, "a5")
    person.says("of the 6 activities that have not ended", "in 1 completed activity")
    assert person.all("tbody tr")[0].find_elements("css selector", "td")[-1].text == "1"


def test_steps_that_wait_for_one_another_are_joined_and_fields_are_drawn(person: Browser, system: Served) -> None:
    steps = [{"name": HOSTILE}, {"name": "Last", "field_mapping": [{"step": 0, "from_field": "a", "to_field": "b"}]}]
    system.api.command("workflow.define", {"id": "w9", "name": HOSTILE, "steps": steps, "gating": "sequential"})
    person.open("/console/workflows/w9")
    person.says(HOSTILE, "no task under way", "A dashed arc")
    assert len(person.all("svg .arrow")) == 1
    assert len(person.all("svg .arc")) == 1
    person.sound()
    person.press("Retire")
    person.says("would record", "workflow.retired")
    person.press("Do it")
    # The page is read again, and its workflow is not there any more; what was done stays said.
    person.says("workflow.retire: recorded workflow.retired", "Not found", not_="answered with an error")


def test_a_retired_workflow_is_shown_with_its_activities(person: Browser, system: Served) -> None:
    system.api.command("workflow.define", {"id": "old", "name": "Old way", "steps": [{"name": "Only"}]})
    made = {"id": "a", "workflow_id": "old", "title": "Made before", "tasks": [{"id": "a-t0"}]}
    for name, data in (("activity.create", made), ("task.process", {"id": "a-t0"}), ("task.complete", {"id": "a-t0"})):
        system.api.command(name, data)
    person.open("/console/activities/a")
    person.press("Old way")
    person.press("Retire")
    person.press("Do it")
    person.says("recorded workflow.retired", "No activity is made from this workflow any more")
    person.sound()
    person.press("Activities")
    person.says("Made before")


@pytest.mark.parametrize("workflow", ["none", "%2e%2e%2fw1", "%3Cb%3E"])
def test_what_is_no_workflow_is_not_found(person: Browser, workflow: str) -> None:
    person.open(f"/console/workflows/{workflow}")
    person.says("Not found")


def test_who_may_only_read_sees_no_action(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    person.log_in(system.api.key("acme", "system", "read"))
    person.open("/console/workflows/w1")
    person.says("Pickup to Delivery")
    assert not person.all("main [hx-post], main a[href*='workflow.change']")
