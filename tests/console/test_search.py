"""Search: what is found by kind with why, one result that is opened at once, and what can be searched."""

from __future__ import annotations

import pytest

from services.http.console.screens.search import address
from tests.console.browser import Browser
from tests.console.scene import HOSTILE, set_the_scene
from tests.eventually import eventually
from tests.services.http.served import Served


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/activities/a%2F1", "/console/activities/a%2F1"),
        ("/v1/directory/member/ann", "/console/directory/member/ann"),
        ("/v1/activities?workflow_id=w%2F1", "/console/workflows/w%2F1"),
        ("/v1/keys/0123456789abcdef", "/console/keys/0123456789abcdef"),
    ],
)
def test_a_path_of_the_api_is_shown_by_a_screen(path: str, expected: str) -> None:
    assert address(path) == expected


def test_results_stand_by_kind_with_why_they_were_found(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    person.open("/console")
    person.find(".find input").send_keys("order 47\n")
    person.says("Found for order 47", "activity 8", "Order 4711", "by its title")
    person.sound()
    for number in (1, 2):
        system.api.command("task.create", {"id": f"jane-{number}", "fields": {"customer": "Jane"}})
    person.open("/console/search?q=customer%3DJane")
    person.says("task 2", "jane-2", "by its field")
    person.press("jane-1")
    eventually(lambda: person.path == "/console/tasks/jane-1")


def test_a_single_result_is_opened_at_once(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    for text, path in (
        ("a3-t1", "/console/tasks/a3-t1"),
        ("ann@example.com", "/console/directory/member/ann"),
        ("w1", "/console/workflows/w1"),
    ):
        person.open("/console/board")
        person.find(".find input").send_keys(text + "\n")
        eventually(lambda path=path: person.path == path)


def test_what_is_not_found_is_told_what_can_be_searched(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    person.open("/console/search")
    person.says("What can be searched", "operator:x")
    person.sound()
    person.find(".find input").send_keys(HOSTILE + "none\n")
    person.says("Nothing is found for this", HOSTILE, "What can be searched")
    assert person.driver.title != "owned"
    person.open("/console/search?q=" + "x" * 201)
    person.says("Refused")
