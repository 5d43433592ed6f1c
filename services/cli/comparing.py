"""`foldwork projections rebuild --diff`: how the new tables differ, as counts, examples and a file."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services import private_files
from services.cli.common import plain, say
from services.errors import OperatorError

if TYPE_CHECKING:
    from projections.support.comparison import Difference
    from services.cli.read_models import Bar
    from services.processors.compared import Comparison

_MOST = 200


@dataclass(slots=True)
class Found:
    """A comparison, with some of the differences."""

    comparison: Comparison
    examples: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as JSON has it."""
        return {
            "position": self.comparison.position,
            "tables": self.comparison.counts(),
            "examples": self.examples,
        }

    def tell(self) -> None:
        """Print the comparison."""
        for stem, each in self.comparison.tables.items():
            kinds = ", ".join(f"{each.kinds[kind]:,} {kind}" for kind in ("missing", "extra", "different"))
            say(f"{stem}: {each.same:,} rows are the same, {kinds} at position {self.comparison.position}")
            for column, count in each.columns.most_common():
                say(f"  {column} differs in {count:,} rows")
        for example in self.examples:
            key = "/".join(str(value) for value in example["key"].values())
            say(f"{example['table']} {key}: {example['kind']} in the new tables")
            for column, values in example["columns"].items():
                say(f"  {column}: {_short(values['serving'])} now, {_short(values['new'])} in the new tables")


def compare(url: str, name: str, bar: Bar, path: Path | None, most: int, switch: bool) -> Found:
    """Rebuild and compare; raises `OperatorError`."""
    from services.processors.compared import rebuild_compared, shown

    examples: list[dict[str, Any]] = []
    with ExitStack() as stack:
        file = stack.enter_context(private_files.new(path)) if path is not None else None

        def take(found: Difference) -> None:
            difference = plain(shown(found))
            if len(examples) < most:
                examples.append(difference)
            if file is not None:
                file.write(json.dumps(difference, ensure_ascii=False) + "\n")

        result = rebuild_compared(url, name, take, switch=switch, progress=bar.filled, comparing=bar.compared)
    if result is None:
        raise OperatorError("the comparison was ended")
    return Found(result, examples)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"
