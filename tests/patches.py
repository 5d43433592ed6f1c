"""Applies a unified diff to a tree, with Python alone: a machine may have neither git nor patch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FILE = re.compile(r"^diff --git a/(\S+) b/\S+$", re.MULTILINE)
_HUNK = re.compile(r"^@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@.*$", re.MULTILINE)


class Hunk(NamedTuple):
    """Lines that stand at about a line of a file, and what they become."""

    line: int
    old: list[str]
    new: list[str]


def files(patch: str) -> dict[str, list[Hunk]]:
    """Return the hunks of a patch by the file that each changes."""
    parts = _FILE.split(patch)[1:]
    return {path: list(_hunks(text)) for path, text in zip(parts[::2], parts[1::2], strict=True)}


def _hunks(text: str) -> Iterator[Hunk]:
    parts = _HUNK.split(text)[1:]
    for line, body in zip(parts[::2], parts[1::2], strict=True):
        lines = body.split("\n")[1:]
        # An empty line of context may have lost its space; the last one is the end of the text.
        lines = [each or " " for each in lines[:-1]]
        old, new = ([each[1:] for each in lines if each[0] in marks] for marks in (" -", " +"))
        yield Hunk(int(line), old, new)


def apply(patch: str, root: Path) -> list[str]:
    """Apply a patch below a folder, and return the files that it changed; a hunk must fit, at whatever line."""
    for path, hunks in files(patch).items():
        target = root / path
        lines = target.read_text("utf-8").split("\n") if target.exists() else [""]
        for hunk in hunks:
            if not hunk.old:
                lines = [*hunk.new, *lines]
                continue
            places = [at for at in range(len(lines)) if lines[at : at + len(hunk.old)] == hunk.old]
            if not places:
                raise ValueError(f"{path}: the lines at {hunk.line} are other ones:\n" + "\n".join(hunk.old))
            at = min(places, key=lambda place: abs(place - hunk.line))
            lines[at : at + len(hunk.old)] = hunk.new
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("\n".join(lines), "utf-8")
    return list(files(patch))
