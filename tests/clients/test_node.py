"""How clients for Node are run: what they are told, and what their failures look like."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients import node
from tests.clients.node import run_node

URL = "http://127.0.0.1:1"


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "client.mjs"
    path.write_text(text, "utf-8")
    return str(path)


def test_a_script_knows_the_server_and_its_token(tmp_path: Path) -> None:
    told = script(tmp_path, "console.log(process.env.BASE_URL, process.env.TOKEN, process.env.HOME)")
    assert run_node(told, URL, {"TOKEN": "fw_1"}) == f"{URL} fw_1 undefined\n"


def test_a_failure_shows_what_the_script_wrote(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"(?s)ended with 1:\nfirst.*Error: expected 200"):
        run_node(script(tmp_path, "console.log('first'); throw new Error('expected 200')"), URL, {})


def test_a_script_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "TIMEOUT", 1)
    with pytest.raises(pytest.fail.Exception, match=r"(?s)did not end in [0-9.]+ s:\nwaiting"):
        run_node(script(tmp_path, "console.log('waiting'); setInterval(() => {}, 1000)"), URL, {})


def test_without_node_it_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(pytest.skip.Exception, match="needs node on PATH"):
        run_node("field_client.mjs", URL, {})
