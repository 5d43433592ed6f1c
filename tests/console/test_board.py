"""The board: who has what, and giving work to somebody else, one task or all of somebody's."""

from __future__ import annotations

import httpx
from selenium.webdriver.common.action_chains import ActionChains

from tests.console.browser import Browser
from tests.console.scene import HOSTILE, set_the_scene
from tests.eventually import eventually
from tests.services.http.served import Served


def assignees(system: Served, task_id: str) -> list[str]:
    answer = httpx.get(f"{system.url}/v1/tasks/{task_id}", headers=system.api.by())
    found: list[str] = answer.json()["assignees"]
    return found


def card(person: Browser, member: str) -> str:
    return person.find(f'[data-drop="{member}"]').text


def test_the_board_shows_who_has_what_and_what_nobody_has(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    due = "2025-10-30T12:00:00Z"
    system.api.command("task.wake", {"id": "a3-t1", "kind": "overdue", "due": due})
    person.open("/console/board")
    ann, nobody = card(person, "ann"), card(person, "")
    assert "Ann Archer" in ann
    assert "a4-t0" in ann
    assert "1 overdue" in card(person, "ben")
    assert "a4-t1" in nobody
    assert "a8-t0" not in person.text  # it has ended
    assert HOSTILE in card(person, "eve")
    assert person.driver.title != "owned"
    person.sound()
    person.open("/console/board?project=none")
    assert "no open tasks" in card(person, "ann")


def test_what_nobody_has_is_listed_and_changed_alone(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    person.open("/console/board")
    person.press("Nobody")
    person.says("a4-t1", not_="a4-t0")
    # A filter more leaves it so.
    person.fill("input[name=search]", "ransp")
    person.find("input[name=search]").send_keys("\n")
    person.says("a4-t1", "Clear", not_="a4-t0")
    assert "nobody=true" in person.path
    person.open("/console/bulk/new?command=task.cancel&all=yes&status=open&nobody=true")
    assert '"assignee": null' in person.find("[name=filter]").get_attribute("value")
    person.open("/console/bulk/new?command=task.cancel&all=yes&status=open&nobody=false")
    assert "assignee" not in person.find("[name=filter]").get_attribute("value")


def test_a_task_is_dragged_to_somebody_else(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    system.api.command("task.reassign", {"id": "a5-t0", "assignees": ["ann", "eve"]})
    person.open("/console/board")
    task = person.find('[data-drop="ann"] [data-task="a5-t0"]')
    target = person.find('[data-drop="ben"] h2')
    ActionChains(person.driver).drag_and_drop(task, target).perform()
    person.says("a5-t0 is now with")
    # The place of the one that it was taken from, and no other's.
    assert sorted(assignees(system, "a5-t0")) == ["ben", "eve"]
    eventually(lambda: not person.all('[data-drop="ann"] [data-task="a5-t0"]'))
    person.find('[data-drop="ben"] [data-task="a5-t0"]')


def test_a_task_is_given_to_somebody_else_by_keyboard(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    person.open("/console/board/ann")
    person.says("Ann Archer", "a4-t0")
    person.find('[aria-label="Who is to have a4-t0"]').send_keys("eve\n")
    person.says("a4-t0 is now with eve")
    assert assignees(system, "a4-t0") == ["eve"]
    eventually(lambda: not person.all('[aria-label="Who is to have a4-t0"]'))
    person.find('[aria-label="Who is to have a5-t0"]').send_keys("nobody-of-this-id\n")
    person.says("there is no member nobody-of-this-id")
    assert assignees(system, "a5-t0") == ["ann"]
    person.sound()


def test_all_open_work_of_somebody_is_previewed_then_given_away(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    person.open("/console/board/ben")
    mine = [each.text.splitlines()[0] for each in person.all("tbody tr")]
    assert len(mine) == 6
    person.fill('[aria-label="Who is to have all open tasks"]', "ann")
    person.press("Reassign all…")
    person.says("6 open tasks of ben would go to ann", "6 ready, 0 refused")
    assert assignees(system, "a1-t1") == ["ben"]
    person.press("Reassign 6")
    person.says("6 of 6 tasks reassigned, 0 refused", "No open tasks")
    assert assignees(system, "a1-t1") == ["ann"]
    assert assignees(system, "a8-t1") == []  # it had ended
    person.sound()


def test_who_is_unknown_or_has_left(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    person.open("/console/board/nobody")
    person.says("Not found")
    system.api.command("directory.retire", {"kind": "member", "id": "ann"})
    person.open("/console/board/ann")
    person.says("retired", "a4-t0")
    person.open("/console/board")
    assert not person.all('[data-drop="ann"]')


def test_who_may_only_read_sees_no_action_and_can_take_none(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    person.log_in(system.api.key("acme", "system", "read"))
    person.offers_nothing("a4-t0", "/console/board", "/console/board/ann")
    answer = person.script(
        "const body = new URLSearchParams({task: 'a4-t0', from: 'ann', to: 'ben'});"
        "return fetch('/console/board', {method: 'POST', body, headers: {'X-CSRF-Token':"
        " JSON.parse(document.body.getAttribute('hx-headers'))['X-CSRF-Token']}}).then((said) => said.text())"
    )
    assert "permission write" in answer
    assert assignees(system, "a4-t0") == ["ann"]
