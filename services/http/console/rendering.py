"""Pages from templates. Whatever is put into one is text: Jinja2 escapes it, and no template marks anything as safe."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

STATIC = Path(__file__).parents[1] / "static" / "console"
# What stands where there is no value.
NONE = "\u2013"
_BYTES = ("B", "kB", "MB", "GB", "TB")
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def rendered(template: str, **context: Any) -> str:
    """Return a template with its values."""
    return _environment().get_template(template).render(context)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "when": when,
        "duration": duration,
        "count": count,
        "size": size,
        "pretty": pretty,
    }
    made.globals.update({"icon": icon, "static": static, "address": address, "place": place})
    return made


def when(moment: str | None) -> Markup:
    """Return a time as an element: the script shows it in the reader's zone, and the exact one on hover."""
    if not moment:
        return Markup('<span class="none">{}</span>').format(NONE)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(moment, moment, _plain(moment))


def _plain(moment: str) -> str:
    try:
        found = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    return f"{found.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float | None) -> str:
    """Return a duration in its two largest units: `3 h 12 min`."""
    if seconds is None:
        return NONE
    left, parts = round(seconds), []
    for size, unit in _UNITS:
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"


def count(number: float | None) -> str:
    """Return a number with a narrow space between thousands."""
    return NONE if number is None else f"{number:,}".replace(",", "\u202f")


def size(number: int) -> str:
    """Return a number of bytes in its largest unit."""
    left, unit = float(number), 0
    while left >= 999.5 and unit < len(_BYTES) - 1:
        left, unit = left / 1000, unit + 1
    return f"{left:.3g} {_BYTES[unit]}"


def pretty(value: Any) -> str:
    """Return a value as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def place(*parts: str) -> str:
    """Return the path of a page of the console, of parts that may have any characters."""
    return "/".join(("/console", *(quote(part, safe="") for part in parts)))


def address(path: str, query: Any = (), **changes: Any) -> str:
    """Return a path with a query in which parameters are replaced; None removes one, and so it does the cursor."""
    kept = [(name, value) for name, value in query if name not in changes and name != "cursor"]
    new = [(name, value) for name, value in changes.items() if value is not None]
    text = urlencode([*kept, *new], doseq=True)
    return f"{path}?{text}" if text else path


def icon(name: str) -> Markup:
    """Return an icon of the set, which says nothing to who cannot see it."""
    source = Markup("{}#{}").format(static("icons.svg"), name)
    return Markup('<svg class="icon" aria-hidden="true" focusable="false"><use href="{}"/></svg>').format(source)


@cache
def static(name: str) -> str:
    """Return the address of a file, which changes with its content, so that browsers may keep it."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/console/static/{name}?v={digest}"
