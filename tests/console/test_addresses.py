"""Addresses: whatever an id holds, a page is read again where it was asked for, and links lead to it."""

from __future__ import annotations

import html
import re
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from services.http.console import rendering
from services.http.console.app import SCREENS
from tests.console.test_session import logged_in
from tests.services.http.api import Api

IDS = ("a?b", "a#b", "a%b", "a%2Fb", "a&b=c", "'\"<i>", "a b+c", "ä", "..")
# What is shown within a page.
PARTS = {"/console/effects/{id:path}"}
PAGES = [
    screen.path for screen in SCREENS if screen.method == "GET" and "{" in screen.path and screen.path not in PARTS
]
COMMAND = "a/b?c#d%41&e=f+<i>\"'"


def own_address(page: httpx.Response) -> str:
    """Return where a page is read again."""
    found = re.search(r'<main[^>]* hx-get="([^"]*)"', page.text)
    assert found is not None, page.text[:2000]
    return html.unescape(found[1])


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_read_again_where_it_was_asked_for(api: Api, path: str) -> None:
    client = await logged_in(api, "read", "write", "operate", "webhooks", "keys")
    for each in IDS + (("a/b", "a//b?c") if ":path}" in path else ()):
        asked = re.sub(r"\{[^}]+\}", quote(each, safe="").replace(".", "%2E"), path)
        for query in ("", "?limit=5&state=a%26b"):
            page = await client.get(asked + query)
            # There is nothing of this id, which the page says in the words of the API.
            assert own_address(page) == asked + query
            assert "no-endpoint" not in page.text
        answer = await api.client.get(asked)
        back = answer.headers["location"].partition("?next=")[2]
        assert back == quote(asked, safe="").replace("%20", "+"), "a log-in comes back to it"


async def test_a_receipt_of_any_id_is_linked_shown_and_read_again(api: Api) -> None:
    body = {"type": "task.create", "data": {"id": "t1"}, "id": COMMAND}
    assert (await api.post("/v1/commands", body)).status_code == 200
    client = await logged_in(api, "read")
    task = (await client.get("/console/tasks/t1")).text
    (linked,) = {html.unescape(found) for found in re.findall(r'href="(/console/commands/[^"]+)"', task)}
    receipt = await client.get(linked)
    again = await client.get(own_address(receipt))
    for page in (receipt, again):
        assert page.status_code == 200
        assert html.escape(COMMAND).replace("&quot;", "&#34;").replace("&#x27;", "&#39;") in page.text
        assert "accepted" in page.text


def test_no_template_makes_an_address_by_hand() -> None:
    templates = sorted((Path(rendering.__file__).with_name("templates")).glob("*.html"))
    assert len(templates) > 40
    by_hand = re.compile(r"""/console/[\w/-]*(?:\{\{|["'] ~)""")
    assert [path.name for path in templates if by_hand.search(path.read_text("utf-8"))] == []
