"""Find code that nothing uses, as `[tool.vulture]` says; run as a module, by `make check`.

Fields of models are used by their names alone, which no reader of the code can tell, so they are taken from the models.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import vulture
from pydantic import BaseModel

from services.http.core import app  # noqa: F401 - so that there are all models
from services.http.core.models import Request, View
from services.http.core.parameters import Query

ROOT = Path(__file__).parents[1]


def _models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from _models(model)


def main() -> int:
    """Report what is unused; return 1 when there is something."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["vulture"]
    fields = {name for base in (Request, View, Query) for model in _models(base) for name in model.model_fields}
    found = vulture.Vulture(
        ignore_names=[*config["ignore_names"], *sorted(fields)], ignore_decorators=config["ignore_decorators"]
    )
    found.scavenge([str(ROOT / path) for path in config["paths"]])
    return 1 if found.report(min_confidence=config["min_confidence"]) else 0


if __name__ == "__main__":
    sys.exit(main())
