"""The end of a statement for a page of rows: their order, how many, and how many are left out before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from projections.support.query import BadQuery


def ordered(sorts: Mapping[str, str], by: Sequence[tuple[str, bool]], limit: int, offset: int) -> str:
    """Return the order by names of `sorts`, each with whether it descends, and the bounds of a page.

    What a sort stands for may be several expressions, separated by a comma. Last is the order of `id`, unless it is
    asked for.
    """
    if offset < 0:
        raise BadQuery("bad-offset", "an offset is a whole number from 0", "offset")
    asked = [*by, *([] if "id" in dict(by) else [("id", False)])]
    parts = [f"{part} {'DESC' if down else 'ASC'}" for name, down in asked for part in sorts[name].split(", ")]
    return f" ORDER BY {', '.join(parts)} LIMIT {limit:d}" + (f" OFFSET {offset:d}" if offset else "")
