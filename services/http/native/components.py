"""Parts of schemas that are written by hand, until none is."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def shape(**fields: Json) -> Json:
    """Return an object that has these keys and no others."""
    return {"type": "object", "required": list(fields), "additionalProperties": False, "properties": fields}
