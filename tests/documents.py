"""The parts of the documentation that are made from the code: `make docs` writes them, `make check` compares them.

What a command records and refuses is taken from the tests of the domain, which hold each answer against a case.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from domain import COMMANDS, EVENT_NAMES, EVENTS
from domain.directory.fields import ENTRY_FIELDS
from domain.lifecycle import ENTRY_RIGHTS, KINDS, OTHER, PARTS, RIGHTS, mermaid
from domain.limits import MAX_KEY, Items, Json, Limit, Number, Text
from services.keys import ROLES
from services.settings import Settings
from services.store.causes import SOURCES
from tests.widest import places

ROOT = Path(__file__).parents[1]
DOCUMENTS = (*sorted(ROOT.glob("[A-Z]*.md")), *sorted((ROOT / "docs").rglob("*.md")))
_PART = re.compile(r"(<!-- ([a-z-]+): [^\n]*-->\n)(.*?)(<!-- end -->)", re.DOTALL)


def lifecycle() -> str:
    """Return the lifecycle's diagram."""
    return f"```mermaid\n{mermaid()}\n```\n"


def rights() -> str:
    """Return the table of who may give which command."""
    rows: dict[tuple[frozenset[str], str], list[str]] = {}
    for name, row in (*RIGHTS.items(), *PARTS.items()):
        rows.setdefault(row, []).append(name)
    return _who((_code(names), allowed, code) for (allowed, code), names in rows.items())


def entry_rights() -> str:
    """Return the table of who may do what to an entry of the directory."""
    rows: dict[frozenset[str], list[str]] = {}
    for kind, allowed in ENTRY_RIGHTS.items():
        rows.setdefault(allowed, []).append(kind)
    return _who((_code(kinds), allowed, "forbidden") for allowed, kinds in rows.items())


def _who(rows: Iterable[tuple[str, frozenset[str], str]]) -> str:
    lines = [f"| | {' | '.join('anybody else' if kind == OTHER else kind for kind in KINDS)} |"]
    lines.append(f"|{'---|' * (len(KINDS) + 1)}")
    for what, allowed, code in rows:
        cells = (what, *("yes" if kind in allowed else _code([code]) for kind in KINDS))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def key_roles() -> str:
    """Return the table of the roles of keys."""
    rows = (f"| `{name}` | {', '.join(f'`{each}`' for each in granted)} |" for name, granted in ROLES.items())
    return "\n".join(("| Role | Permissions |", "|---|---|", *rows, ""))


def causes() -> str:
    """Return the table of the causes for which something is stuck."""
    rows = (
        f"| `{each.cause}` | {each.kind} | {each.says} | {'the tenant' if each.of_tenant else 'the system'} |"
        for each in SOURCES
    )
    return "\n".join(("| Cause | What | Meaning | Of |", "|---|---|---|---|", *rows, ""))


def settings() -> str:
    """Return the rows of the table of settings."""
    rows = []
    for name, field in Settings.model_fields.items():
        if name in ("test_build", "crash_at"):
            continue
        default = "required"
        if field.default_factory is not None:
            default = "none"
        elif field.default is not PydanticUndefined:
            default = "none" if field.default is None else f"`{json.dumps(field.default).strip(chr(34))}`"
        assert field.annotation is SecretStr or field.description, name
        rows.append(f"| `{name.upper()}` | {default} | {field.description} |\n")
    return "".join(rows)


def commands() -> str:
    """Return the rows of the table of commands."""
    # Imported here: the cases and the operations are much more than the other parts need.
    from services.http.core.app import OPERATIONS
    from tests.domain.cases import DONE, REFUSALS
    from tests.domain.test_contract import CASES

    rows = []
    for name, kind in COMMANDS.items():
        recorded = {
            EVENT_NAMES[type(event)]
            for case in CASES
            if case.command == name and case.outcome == DONE
            for event in case.events
        }
        cells = (
            _code([name]),
            _code(shape(kind)),
            _code(event for event in EVENTS if event in recorded),
            _code(sorted(REFUSALS.get(name, ()))),
            "<br>".join(_code([f"{each.method} {each.path}"]) for each in OPERATIONS if name in each.commands),
        )
        rows.append(f"| {' | '.join(cells)} |\n")
    return "".join(rows)


def shapes() -> str:
    """Return the rows of the table of what stands inside a command's data."""
    found: dict[str, type] = {}
    for kind in COMMANDS.values():
        _collect(kind, found)
    return "".join(f"| {kind.__name__} | {_code(shape(kind))} |\n" for kind in found.values())


def limits() -> str:
    """Return the rows of the table of limits: the values of commands that have one limit, and the limit."""
    found: dict[Limit, dict[str, None]] = {}
    for place in (place for kind in COMMANDS.values() for place in places(kind)):
        names = [f"{part}" for part in place.path if isinstance(part, str)]
        many = "[]" if isinstance(place.limit, Items) else ""
        found.setdefault(place.limit, {})[f"{'.'.join(names[-2:])}{many}"] = None
    for kind, hints in ENTRY_FIELDS.items():
        for name, hint in hints.items():
            for place in places(hint):
                names = [kind, name, *(f"{part}" for part in place.path if isinstance(part, str))]
                many = "[]" if isinstance(place.limit, Items) else ""
                found.setdefault(place.limit, {})[f"{'.'.join(names)}{many}"] = None
    # The same words may stand for two codes of refusal.
    rows: dict[str, dict[str, None]] = {}
    for limit, values in found.items():
        rows.setdefault(_said(limit), {}).update(values)
    return "".join(f"| {said} | {_code(values)} |\n" for said, values in sorted(rows.items()))


def _said(limit: Limit) -> str:
    match limit:
        case Text():
            return limit.said.partition(", such as")[0]
        case Number(least, most):
            return f"a whole number from {least} to {most}"
        case Items(most, least):
            return f"{f'{least} to' if least else 'at most'} {most} items"
        case Json(most, keys, values):
            return f"at most {most} bytes as JSON, {keys} keys, {values} values in all, and {MAX_KEY} characters a key"


def events() -> str:
    """Return the rows of the table of events."""
    return "".join(f"| {_code([name])} | {_code(shape(kind))} |\n" for name, kind in EVENTS.items())


def shape(kind: Any) -> list[str]:
    """Return the names of a class's fields: those with ? may be left out, those with [] are lists."""
    hints = get_type_hints(kind)
    return [f"{field.name}{_many(hints[field.name])}{_optional(field)}" for field in fields(kind)]


def _many(hint: Any) -> str:
    return "[]" if any(getattr(part, "__origin__", None) is tuple for part in (hint, *get_args(hint))) else ""


def _optional(field: Field[Any]) -> str:
    return "" if field.default is MISSING and field.default_factory is MISSING else "?"


def _collect(kind: Any, found: dict[str, type]) -> None:
    for hint in get_type_hints(kind).values():
        parts = [hint, *get_args(hint)]
        parts += [inner for part in parts for inner in get_args(part)]
        for part in parts:
            if isinstance(part, type) and is_dataclass(part) and part.__name__ not in found:
                found[part.__name__] = part
                _collect(part, found)


def _code(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in words)


MADE = {
    "lifecycle": lifecycle,
    "rights": rights,
    "entry-rights": entry_rights,
    "key-roles": key_roles,
    "causes": causes,
    "settings": settings,
    "commands": commands,
    "shapes": shapes,
    "limits": limits,
    "events": events,
}


def made_anew(text: str) -> str:
    """Return a document with its made parts as they should be."""
    return _PART.sub(lambda part: f"{part[1]}{MADE[part[2]]()}{part[4]}", text)


def drifted(root: Path = ROOT) -> list[str]:
    """Return the generated documents under a root that differ from what the code gives, and schemas of what is gone."""
    from services.contracts import documents

    stale = [
        document.relative_to(ROOT)
        for document in DOCUMENTS
        if made_anew(text := (root / document.relative_to(ROOT)).read_text("utf-8")) != text
    ]
    made = {Path("docs") / path: text for path, text in documents().items()}
    for path, text in made.items():
        if not (root / path).exists() or (root / path).read_text("utf-8") != text:
            stale.append(path)
    kept = (file.relative_to(root) for file in (root / "docs" / "schemas").rglob("*.json"))
    return [path.as_posix() for path in (*stale, *sorted(path for path in kept if path not in made))]


def write() -> None:
    """Write the generated documents."""
    from services import contracts

    for document in DOCUMENTS:
        document.write_text(made_anew(document.read_text("utf-8")), "utf-8")
    contracts.write(ROOT / "docs")


def main(arguments: list[str]) -> int:
    """Write the generated documents or, with --check, name those that have drifted and return 1."""
    if arguments != ["--check"]:
        write()
        return 0
    stale = drifted()
    for path in stale:
        print(f"{path} is not what the code gives: run `make docs`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
