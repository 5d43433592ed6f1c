"""The screens of bulks: rows chosen in a list, a filter or a group of dead letters; previewed, run and followed."""

from __future__ import annotations

from typing import Any

from tests.console.browser import Browser
from tests.console.scene import HOSTILE
from tests.eventually import eventually
from tests.services.harness import rows
from tests.services.http.bulk_scene import recorded, with_tasks
from tests.services.http.served import Served
from tests.services.http.test_bulk_letters import resending, with_letters
from tests.services.http.test_bulk_list import with_bulks
from tests.services.parking import parked


def canceled(system: Served) -> Any:
    """Return the ids of tasks that were cancelled."""
    return sorted(recorded(system.api, "task.canceled"))


def choose(person: Browser, *ids: str) -> None:
    for each in ids:
        person.click(f"input[value={each}]")


def test_chosen_rows_are_previewed_run_gently_and_have_their_outcomes(system: Served, person: Browser) -> None:
    with_tasks(system.api, 4)
    person.open("/console/tasks")
    choose(person, "t00001", "t00003", "t00004")
    person.says("3 chosen")
    person.press("Cancel")
    person.says("task.cancel for many", "3 ids")
    person.sound()
    person.fill("#data", '{"reason": "storm"}')
    person.press("Preview")
    person.says("task.cancel for 3", "previewed", "3 would be done", "would record task.canceled")
    assert canceled(system) == []
    person.sound()
    # What is changed after the preview is skipped, and said so.
    system.api.command("task.change", {"id": "t00004", "title": "Changed"})
    person.press("Run")
    person.says("finished", "1 changed")
    assert canceled(system) == ["t00001", "t00003"]
    person.press("accepted2")
    person.says("recorded task.canceled", "receipt", not_="t00004")
    person.sound()
    person.press("receipt")
    person.says("accepted")
    person.open("/console/bulk")
    person.says("task.cancel", "2 accepted, 1 skipped", "finished", "system")
    person.sound()


def test_bulks_are_listed_by_state_in_pages_and_followed(system: Served, person: Browser) -> None:
    person.open("/console/bulk")
    person.says("There is no bulk.")
    person.sound()
    with_bulks(system.api, *(f"old{number:02}" for number in range(21)), state="aborted")
    with_bulks(system.api, "now", state="running", data='{"reason": "<b>storm</b>"}')
    person.open("/console/bulk")
    person.says("now", "running", not_="old00")
    rows(
        system.api.url, "UPDATE bulk_actions SET state = 'paused', reason = 'new-failure' WHERE id = 'now' RETURNING id"
    )
    person.says("new failure")
    person.press("Next page")
    person.says("old00", not_="old20")
    person.press("paused")
    person.says("new failure", not_="old20")
    assert person.path == "/console/bulk?state=paused"
    person.press("expired")
    person.says("No bulk is expired.")


def test_rows_stay_chosen_when_the_list_is_read_again(system: Served, person: Browser) -> None:
    with_tasks(system.api, 3)
    person.open("/console/tasks")
    choose(person, "t00002")
    system.api.command("task.change", {"id": "t00001", "title": "Water the plants"})
    person.says("Water the plants", "1 chosen")
    assert person.script("return document.querySelector('input[value=t00002]').checked") is True


def test_all_that_a_filter_finds_is_a_bulk_and_not_what_came_later(system: Served, person: Browser) -> None:
    with_tasks(system.api, 3, hub="h1")
    with_tasks(system.api, 1, "z")
    person.open("/console/tasks?hub=h1&status=open&status=active&limit=2")
    person.click("input[data-all]")
    person.says("2 chosen")
    person.click("input[name=all]")
    person.press("Cancel")
    person.says("All that this filter finds")
    person.press("Preview")
    person.says("3 would be done")
    with_tasks(system.api, 1, "late", hub="h1")
    person.driver.execute_script("document.querySelector('select[name=rate]').value = 'all'")
    person.press("Run")
    person.says("finished")
    assert canceled(system) == ["t00001", "t00002", "t00003"]


def test_a_bulk_is_paused_resumed_and_aborted(system: Served, person: Browser) -> None:
    with_tasks(system.api, 40)
    person.open("/console/tasks")
    person.click("input[data-all]")
    person.press("Cancel")
    person.press("Preview")
    person.says("40 would be done")
    person.driver.execute_script("document.querySelector('select[name=rate]').value = '1'")
    person.press("Run")
    person.says("running")
    # It is followed without a reload.
    eventually(lambda: canceled(system))
    person.says("accepted1")
    person.press("Pause")
    person.says("The bulk is paused.", "asked")
    done = len(canceled(system))
    person.sound()
    person.driver.execute_script("document.querySelector('select[name=rate]').value = '1'")
    person.press("Resume")
    person.says("The bulk is running.")
    eventually(lambda: len(canceled(system)) > done)
    person.press("Abort…")
    person.says("the items that are left are skipped")
    person.press("Abort it")
    person.says("aborted")
    assert done < len(canceled(system)) < 40
    eventually(lambda: not person.all("#live"))


def test_refusals_are_said_in_the_words_of_the_api(system: Served, person: Browser) -> None:
    with_tasks(system.api, 1)
    for path, text, said in (
        ("/console/bulk/new?command=task.cancel", '{"reason": 7}', "wrong-shape"),
        ("/console/bulk/new?command=task.cancel", "{", "not-json"),
        ("/console/bulk/new?command=task.cancel", "{}", "an empty filter would choose everything"),
        ("/console/bulk/new?command=task.cancel&nonsense=1", "{}", "/filter/nonsense"),
        ("/console/bulk/new?command=task.cancel&id=a%2Fb", "{}", "/ids/0"),
    ):
        person.open(path)
        person.fill("#data", text)
        person.press("Preview")
        person.says(said)
    person.open("/console/bulk/nothing")
    person.says("there is no bulk of this id")
    person.open("/console/bulk/new?command=nonsense")
    assert person.path == "/console/bulk"


def test_a_group_of_dead_letters_is_sent_again_gently(system: Served, person: Browser) -> None:
    with_letters(system.api, 3)
    person.open("/console/dead-letters")
    person.press("Retry…")
    person.says("dead-letter.retry for many")
    assert "fingerprint" in person.script("return document.querySelector('#which').value")
    person.sound()
    person.fill("#data", '{"merge": {"title": "Water the plants"}}')
    person.press("Preview")
    person.says("3 would be done", "task.created")
    with resending(system.api):
        person.press("Run")
        person.says("finished")
    assert [state for (state,) in parked(system.api.url, "state")] == ["retried"] * 3
    person.open("/console/dead-letters?state=retried")
    person.press("task.create")
    person.says("bulk/", "accepted")


def test_a_group_is_discarded_and_hostile_text_is_text(system: Served, person: Browser) -> None:
    with_letters(system.api, 2)
    person.open("/console/dead-letters")
    person.press("Discard…")
    person.driver.execute_script(
        "document.querySelector('#data').value = JSON.stringify({reason: arguments[0]})", HOSTILE
    )
    person.press("Preview")
    person.says("2 would be done", "<img src=x onerror=")
    person.press("Run")
    person.says("finished")
    assert parked(system.api.url, "state, note") == [("discarded", HOSTILE)] * 2
    assert "owned" not in person.driver.title
    person.sound()


def test_who_may_not_operate_looks_and_does_nothing(system: Served, person: Browser) -> None:
    with_tasks(system.api, 2)
    person.open("/console/bulk/new?command=task.cancel&id=t00001")
    person.press("Preview")
    person.says("1 would be done")
    own = person.path
    person.log_in(system.api.key("acme", "system", "read"))
    person.open("/console/tasks")
    assert person.all("input[type=checkbox]") == []
    person.open("/console/bulk")
    person.says("task.cancel", "1 ready", not_="New bulk…")
    person.open(own)
    person.says("task.cancel for 1", "would record task.canceled", not_="Abort…")
    assert person.all("main form") == []
    person.sound()
    for path in (f"{own}/run", "/console/bulk"):
        person.script(f"htmx.ajax('POST', '{path}', {{target: '#said', values: {{}}}})")
        eventually(lambda: "permission operate" in person.find("#said").text)
        person.open(own)
    assert canceled(system) == []
