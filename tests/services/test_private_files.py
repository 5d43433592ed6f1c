"""What `foldwork dev` keeps in its folder is its user's alone, and nothing that another user put there is followed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from services import private_files
from services.cli.where import development
from services.errors import OperatorError
from services.private_files import NotOurs
from tests.acceptance.running import foldwork

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
STRANGER = 12345


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_and_its_folder_are_private(tmp_path: Path) -> None:
    path = tmp_path / ".foldwork" / "token"
    path.parent.mkdir(mode=0o775)
    path.parent.chmod(0o775)
    for text in ("one", "another"):
        private_files.write(path, text)
        assert private_files.read(path) == text
    assert mode(path) == 0o600
    # As root the server, which runs as another user, passes through.
    assert mode(path.parent) == (0o711 if os.geteuid() == 0 else 0o700)
    assert [each.name for each in path.parent.iterdir()] == ["token"]


def test_a_new_file_is_private_and_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    tmp_path.chmod(0o755)
    with private_files.new(path) as file:
        file.write("one\n")
    assert (path.read_text("utf-8"), mode(path), mode(tmp_path)) == ("one\n", 0o600, 0o755)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for place in (path, tmp_path / "link", tmp_path, tmp_path / "no" / "file", Path("a\0b")):
        with pytest.raises(OperatorError, match="cannot create"), private_files.new(place):
            pass
    assert path.read_text("utf-8") == "one\n"
    assert not (tmp_path / "target").exists()


def test_a_new_file_is_gone_when_its_block_fails(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError), private_files.new(tmp_path / "found") as file:
        file.write("\ud800")
    assert not (tmp_path / "found").exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    folder, target = tmp_path / "folder", tmp_path / "target"
    private_files.own_folder(folder)
    target.write_text("kept")
    link = folder / "token"
    link.symlink_to(target)
    with pytest.raises(NotOurs, match="symbolic link"):
        private_files.read(link)
    # Nor is one at the name under which a file is written first.
    (folder / f"token.{os.getpid()}").symlink_to(target)
    private_files.write(link, "new")
    assert target.read_text() == "kept"
    assert not link.is_symlink()
    assert link.read_text() == "new"


@as_root
def test_what_belongs_to_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    private_files.write(folder / "token", "planted")
    os.chown(folder / "token", STRANGER, STRANGER)
    with pytest.raises(NotOurs, match="another user"):
        private_files.read(folder / "token")
    os.chown(folder, STRANGER, STRANGER)
    for attempt in (lambda: private_files.read(folder / "none"), lambda: private_files.write(folder / "x", "y")):
        with pytest.raises(NotOurs, match="another user"):
            attempt()
    # A link of another user may lead into a folder of our own.
    own, link = tmp_path / "own", tmp_path / "link"
    own.mkdir()
    link.symlink_to(own)
    os.lchown(link, STRANGER, STRANGER)
    with pytest.raises(NotOurs, match="another user"):
        private_files.write(link / "x", "y")


def test_a_folder_that_others_can_write_to_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"pid": os.getpid()}))
    tmp_path.chmod(0o777)
    with pytest.raises(NotOurs, match="chmod"):
        development(path)
    tmp_path.chmod(0o755)
    assert development(path) == {"pid": os.getpid()}
    assert development(tmp_path / "none.json") == {}


def test_a_command_says_why_it_does_not_believe_the_file(tmp_path: Path) -> None:
    folder = tmp_path / ".foldwork"
    folder.mkdir()
    planted = {"pid": os.getpid(), "amqp_url": "amqp://guest:guest@127.0.0.1:1/", "tenant": "demo"}
    (tmp_path / "planted").write_text(json.dumps(planted))
    (folder / "dev.json").symlink_to(tmp_path / "planted")
    shown = foldwork(tmp_path, "send", "task.create")
    assert shown.returncode == 1
    assert "dev.json is a symbolic link" in shown.stderr
