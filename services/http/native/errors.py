"""What the document says of refusals outside the dialects: the codes of each status."""

from __future__ import annotations

from typing import Any

from services.http.core.errors import STATUS_OF_CODE, phrase


def failure(topic: str, status: int) -> tuple[str, dict[str, Any]] | None:
    """Return the codes of a status, and an example."""
    codes = [code for code, its in STATUS_OF_CODE.items() if its == status]
    if not codes:
        return None
    example = {
        "type": f"urn:foldwork:problem:{codes[0]}",
        "title": phrase(status),
        "status": status,
        "detail": codes[0].replace("-", " "),
        "code": codes[0],
    }
    return f"One of {', '.join(f'`{code}`' for code in codes)}", example
