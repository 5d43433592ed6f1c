"""The screens of dead letters: found by their reason, edited, tried, sent again and discarded."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from tests.console.browser import Browser
from tests.console.scene import HOSTILE
from tests.eventually import eventually
from tests.services.http.served import Served
from tests.services.http.test_bulk_letters import resending
from tests.services.http.test_dead_letters import letter, put
from tests.services.parking import parked

LIST = "/console/dead-letters"


def asked(system: Served, path: str, token: str | None = None) -> Any:
    """Return what the API answers beside the browser."""
    headers = system.api.by(token)
    answer = httpx.get(system.url + path, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def hostile() -> Any:
    return letter(msgspec.json.encode({"id": "h1", "title": 7, "note": HOSTILE}), HOSTILE[:60], HOSTILE[:40])


def test_letters_are_grouped_by_reason_counted_and_filtered(system: Served, person: Browser) -> None:
    put(system.api, *(letter(b'{"id":"t%d","title":7}' % each, f"c{each}", f"t{each}") for each in range(3)))
    put(system.api, letter(b"{", "d1", "t9", "not-json", ""))
    person.open(LIST)
    rows = [row.text for row in person.all("section:first-of-type tbody tr")]
    assert ["wrong-shape" in row and " 3 3 " in row.replace("\n", " ") for row in rows] == [False, True]
    person.sound()
    person.press("wrong-shape")
    person.says("c0", "c1", "c2", not_="d1")
    person.fill("input[name=key]", "t1")
    person.press("Filter")
    person.says("c1", not_="c2")
    person.press("discarded")
    person.says("No letter is discarded.", "Take a filter away.")
    person.sound()


def test_pages_of_all_states_stay_with_all_states(system: Served, person: Browser) -> None:
    put(system.api, *(letter(b'{"id":"t%d","title":7}' % each, f"c{each}", f"t{each}") for each in range(3)))
    person.open(f"{LIST}?state=any&limit=2")
    person.press("Next page")
    person.says("c2", not_="c1")
    assert "state=any" in person.path
    person.open(f"{LIST}?since=nonsense")
    person.says("Refused", "since")


def test_a_time_of_the_reader_is_a_filter_and_stays_in_its_field(system: Served, person: Browser) -> None:
    put(system.api, letter())
    person.open(f"{LIST}?since=2001-02-03T04:05:00Z")
    person.says("c1")
    field = "return document.querySelector('input[data-moment]').value"
    assert person.script(field).startswith("2001-02-0")
    person.press("Filter")
    person.says("c1")
    assert "since=2001-02-03T04%3A05%3A00.000Z" in person.path


def test_a_letter_is_edited_tried_and_sent_again(system: Served, person: Browser) -> None:
    (found,) = put(system.api, letter())
    person.open(LIST)
    person.press("task.create")
    person.says("Input should be a valid string", "/title", "letters of this key", "guest")
    person.sound()
    # What is refused is said, and changes nothing.
    person.press("Try it, then send it again")
    person.says("wrong-shape", "/data/title")
    person.fill("#data", '{"id": "t1", "title": ')
    person.press("Try it, then send it again")
    person.says("not-json")
    person.fill("#data", '{"id": "t1", "title": "Water the plants"}')
    person.press("Try it, then send it again")
    person.says("would record", "task.created")
    assert parked(system.api.url, "state") == [("parked",)]
    person.press("Leave it")
    person.says("Try it", not_="would record")
    person.press("Try it, then send it again")
    with resending(system.api):
        person.press("Send it again")
        person.says("is being sent again")
        person.says("retried", "accepted")
    assert asked(system, "/v1/tasks/t1")["title"] == "Water the plants"
    eventually(lambda: not person.all("#data"))
    person.says("What came first", "Water the plants")
    assert found in person.path


def test_what_nobody_edited_is_not_recorded_as_edited_and_an_older_letter_goes_first(
    system: Served, person: Browser
) -> None:
    _, newer = put(system.api, letter(b'{"id":"t1"}', "c1", "k"), letter(b'{"id":"t2"}', "c2", "k"))
    person.open(f"{LIST}/{newer}")
    person.press("Try it, then send it again")
    person.press("Send it again")
    person.says("older-letter")
    assert parked(system.api.url, "state") == [("parked",), ("parked",)]
    person.click("input[name=out_of_order]")
    person.press("Try it, then send it again")
    person.press("Send it again")
    person.says("is being sent again")
    assert parked(system.api.url, "state, edited IS NULL") == [("parked", True), ("retrying", True)]


def test_a_letter_is_discarded_for_a_reason(system: Served, person: Browser) -> None:
    (found,) = put(system.api, letter())
    person.open(f"{LIST}/{found}")
    person.fill("#reason", HOSTILE)
    person.press("Discard…")
    person.says("never decided", HOSTILE)
    assert parked(system.api.url, "state") == [("parked",)]
    person.press("Discard it")
    person.says("The letter is discarded.", "discarded")
    assert parked(system.api.url, "state, note") == [("discarded", HOSTILE)]
    eventually(lambda: not person.all("#reason"))
    person.sound()


def test_what_is_no_json_is_shown_and_text_of_tenants_is_text(system: Served, person: Browser) -> None:
    broken, marked = put(system.api, letter(b"<b>\xff{", "c9", "t9", "not-utf-8", ""), hostile())
    person.open(f"{LIST}/{broken}")
    person.says("What came", "<b>\\xff{")
    assert person.script("return document.querySelector('#data').value") == ""
    person.open(f"{LIST}/{marked}")
    person.says("<img src=x onerror=")
    for path in (LIST, f"{LIST}/{marked}"):
        person.open(path)
        person.says(HOSTILE[:60])
        person.sound()
        assert "owned" not in person.driver.title
        assert person.all("main img, main script") == []


@pytest.mark.parametrize("verb", ["retry", "discard"])
def test_who_only_reads_sees_the_list_and_can_do_nothing(system: Served, person: Browser, verb: str) -> None:
    (found,) = put(system.api, letter())
    person.log_in(system.api.key("acme", "system", "read"))
    person.open(LIST)
    person.says("wrong-shape", not_="Retry…")
    assert person.all("main tbody a[href*='/dead-letters/']") == []
    person.open(f"{LIST}/{found}")
    person.says("Not allowed", "this needs the permission operate")
    person.script(f"htmx.ajax('POST', '{LIST}/{found}/{verb}', {{target: '#said', values: {{sure: 'yes'}}}})")
    eventually(lambda: "permission operate" in person.find("#said").text)
    assert parked(system.api.url, "state") == [("parked",)]
