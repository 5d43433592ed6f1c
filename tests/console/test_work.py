"""The screens of work: home, lists, an activity through time, a task, and commands, as a person uses them."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

from tests.console.browser import Browser
from tests.console.scene import HOSTILE, LONG, set_the_scene
from tests.eventually import eventually
from tests.services.http.served import Served

PAGES = (
    *("/console", "/console/stuck", "/console/tasks", "/console/activities", "/console/activities/a1"),
    *("/console/activities/hostile", "/console/activities/a3?as_of=60", "/console/tasks/a1-t0", "/console/tasks/none"),
    *(
        "/console/tasks?status=failed&search=nothing",
        "/console/commands",
        "/console/commands?type=task.change&id=a1-t1",
    ),
)


@pytest.fixture
def worked(system: Served) -> Served:
    set_the_scene(system.api)
    return system


def test_every_page_is_accessible_and_fits_desktop_and_phone(worked: Served, person: Browser) -> None:
    for page in PAGES:
        person.open(page)
        person.find("#main h1")
        if page.endswith("none"):
            # The browser logs the status of the page itself.
            person.complaints()
        person.sound()
        person.dark(True)
        assert person.violations("color-contrast") == [], page
        person.dark(False)


def test_text_is_never_markup(worked: Served, person: Browser) -> None:
    for page in ("/console/tasks", "/console/activities", "/console/activities/hostile", "/console/tasks/hostile-t"):
        person.open(page)
        person.says(HOSTILE)
        assert person.driver.title != "owned"
        assert person.all("img") == []
        assert person.script("return document.querySelectorAll('main script').length") == 0
    person.open("/console/tasks?search=" + "%3Cscript%3Edocument.title%3D%27owned%27%3C%2Fscript%3E")
    assert person.find("input[name=search]").get_attribute("value") == "<script>document.title='owned'</script>"
    assert person.driver.title == "Tasks · Foldwork"


def test_a_long_title_wraps(worked: Served, person: Browser) -> None:
    person.open("/console/tasks")
    person.says(LONG.strip())
    assert person.overflow() <= 0


def test_lists_filter_sort_and_page_in_the_address(worked: Served, person: Browser) -> None:
    person.open("/console/tasks")
    person.press("failed1")
    eventually(lambda: person.path == "/console/tasks?status=failed")
    rows = [row.text for row in person.all("tr[data-row]")]
    assert len(rows) == 1
    assert "a2-t0" in rows[0]
    person.press("Clear")
    person.fill("input[name=assignee]", "ben@example.com")
    person.press("Filter")
    eventually(lambda: "assignee=ben%40example.com" in person.path)
    assert {row.find_element("css selector", "[data-label=Who]").text for row in person.all("tr[data-row]")} == {"ben"}
    # The numbers are those of the filter, and what leads to them keeps it.
    counted = {each.text.rstrip("0123456789"): each.text for each in person.all("nav.tabs a")}
    person.press(counted["open"])
    eventually(lambda: "status=open" in person.path)
    assert counted["open"] == f"open{len(person.all('tr[data-row]'))}"
    assert "assignee=ben%40example.com" in person.path
    person.press(counted["all"])
    eventually(lambda: "status=open" not in person.path)
    person.press("Created")
    eventually(lambda: "sort=created_at" in person.path)
    assert "assignee=ben%40example.com" in person.path
    assert person.find("th[aria-sort=ascending]").text.startswith("Created")
    person.open("/console/tasks?limit=5")
    first = [row.text for row in person.all("tr[data-row]")]
    person.press("Next page")
    eventually(lambda: "cursor=" in person.path)
    second = [row.text for row in person.all("tr[data-row]")]
    assert (len(first), len(second)) == (5, 5)
    assert not set(first) & set(second)
    person.open("/console/tasks?colour=red")
    person.says("unknown-filter")


def test_an_activity_as_it_was(worked: Served, person: Browser) -> None:
    api = worked.api
    person.open("/console/activities/a3")
    person.says("Now", "By train", "task.fields-changed")
    # The history has the old and the new value.
    person.says("By truck")
    history = {row.text.split("\n")[0]: row for row in person.all(".events > li")}
    assert history
    slider = person.find("input[type=range]")
    assert slider.get_attribute("value") == slider.get_attribute("max")
    person.press("Earlier")
    eventually(lambda: "as_of=" in person.path)
    person.says("As of position", "By truck")
    marked = person.find("tr.changed").text
    assert "By truck" in marked
    assert "changed: " in marked
    # Nothing can be done to what was.
    assert person.all("main button[hx-post]") == []
    person.find("input[type=range]").send_keys(Keys.HOME)
    eventually(lambda: "By truck" not in person.find("table").text)
    created = api.client
    assert created is not None
    person.press("Now")
    person.says("By train")


def test_an_activity_shows_why_it_has_its_status(worked: Served, person: Browser) -> None:
    person.open("/console/activities/a2")
    person.says("failed", "U")
    assert "decides" in person.find(".lanes ~ .wide tr[data-row]").text
    assert len(person.all(".lanes rect")) >= 3


def test_a_task_has_the_words_of_each_dialect(worked: Served, person: Browser) -> None:
    person.open("/console/tasks/a1-t0")
    words = person.find(".words").text.split()
    assert words == ["field", "says", "DONE", "dispatch", "says", "COMPLETED", "workflow", "says", "completed"]


def test_an_action_is_tried_first_when_it_cannot_be_taken_back(worked: Served, person: Browser) -> None:
    person.open("/console/tasks/a5-t0")
    person.press("task.process")
    person.says("task.process: recorded task.started", "active")
    person.press("task.cancel")
    person.says("would record", "task.canceled")
    assert person.find(".under .status").text == "active"
    person.press("Leave it")
    eventually(lambda: not person.all(".would"))
    person.press("task.cancel")
    person.press("Do it")
    person.says("task.cancel: recorded task.canceled")
    eventually(lambda: person.find(".under .status").text == "canceled")
    assert person.all("main button[hx-post]") == []


def test_a_refusal_is_said_in_the_words_of_the_api(worked: Served, person: Browser) -> None:
    person.open("/console/tasks/a6-t0")
    # Somebody else was faster.
    worked.api.command("task.complete", {"id": "a6-t0"})
    person.press("task.process")
    person.says("terminal")


def test_any_command_can_be_sent_by_a_form(worked: Served, person: Browser) -> None:
    person.open("/console/commands?type=task.create")
    person.fill("#data", '{"id": "new", "title": "By hand"}')
    person.press("Try it")
    person.says("would record", "task.created")
    person.press("Send")
    person.says("recorded task.created")
    person.fill("#data", '{"id": 7}')
    person.press("Send")
    person.says("wrong-shape", "/data/id")
    person.fill("#data", "{")
    person.press("Send")
    person.says("not-json")


def test_pages_follow_what_happens(worked: Served, person: Browser) -> None:
    person.open("/console/activities/a7")
    table = ".lanes ~ .wide"
    assert "active" not in person.find(table).text
    worked.api.command("task.process", {"id": "a7-t0"})

    def shown() -> bool:
        # An event of before the stream was open is not in it, so there is one more each time.
        worked.api.command("activity.change", {"id": "a7", "title": f"Order {len(person.text)}"})
        return "active" in person.find(table).text

    eventually(shown)


def test_it_is_used_with_the_keyboard_alone(worked: Served, person: Browser) -> None:
    person.open("/console")
    body = person.find("body")
    body.send_keys("g", "t")
    eventually(lambda: person.path == "/console/tasks")
    person.find("body").send_keys("j", "j")
    at = person.find("tr.at a")
    title = at.get_attribute("href")
    assert person.script("return document.activeElement.href") == title
    person.driver.switch_to.active_element.send_keys(Keys.ENTER)
    eventually(lambda: person.driver.current_url == title)
    person.find("body").send_keys("?")
    eventually(lambda: person.script("return document.getElementById('keys').open"))
    person.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    person.find("body").send_keys("/")
    eventually(lambda: person.script("return document.activeElement.name") == "q")


def test_the_readers_zone_and_choice_of_light(worked: Served, person: Browser) -> None:
    person.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Tokyo"})
    try:
        person.open("/console/tasks/a1-t0")
        moment = person.find("time")
        assert "10:50" in moment.text
        assert "2025-10-31T01:50:00" in (moment.get_attribute("title") or "")
        # The axis of the steps, too.
        person.open("/console/activities/a1")
        begin = person.find("text[data-at]")
        assert "10:50" in begin.text
        assert "2025-10-31T01:50:00" in begin.get_attribute("textContent")
    finally:
        person.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})
    person.click("#theme")
    assert person.script("return document.documentElement.dataset.theme") == "dark"
    person.open("/console/tasks")
    assert person.script("return document.documentElement.dataset.theme") == "dark"
    person.click("#theme")


def test_without_permission_there_is_no_button(worked: Served, person: Browser) -> None:
    person.log_in(worked.api.key("acme", "system", "read"))
    for page in ("/console/tasks/a5-t0", "/console/activities/a5", "/console/stuck", "/console/tasks"):
        person.open(page)
        person.find("#main h1")
        assert person.all("main [hx-post]") == []
    assert person.all("nav a[href='/console/audit']") == []
    person.open("/console/commands")
    person.says("this needs the permission write")


def test_another_tenants_work_is_not_there(worked: Served, person: Browser) -> None:
    person.log_in(worked.api.key("globex", "system", "read"))
    person.open("/console/tasks")
    person.says("Nothing fits", not_="Pickup")
    person.open("/console/activities/a1")
    person.says("not-found")
