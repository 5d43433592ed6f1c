"""The parts of the documentation that are made from the code; run as a module, it writes them anew."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from domain.lifecycle import mermaid
from services.settings import Settings

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_PART = re.compile(r"(<!-- (lifecycle|settings): [^\n]*-->\n)(.*?)(<!-- end -->)", re.DOTALL)


def lifecycle() -> str:
    """Return the lifecycle's diagram."""
    return f"```mermaid\n{mermaid()}\n```\n"


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


MADE = {"lifecycle": lifecycle, "settings": settings}


def made_anew(text: str) -> str:
    """Return a document with its made parts as they should be."""
    return _PART.sub(lambda part: f"{part[1]}{MADE[part[2]]()}{part[4]}", text)


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(made_anew(document.read_text("utf-8")), "utf-8")
