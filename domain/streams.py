"""How a stream is named; the category ends at the first hyphen, so no id can make one stream look like another."""

from __future__ import annotations

import re

ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
TENANT = re.compile(r"[a-z0-9-]{1,63}\Z")
ENTRY_KINDS = (
    "hub",
    "project",
    "member",
    "commerce",
    "route",
    "operator",
    "policy",
    "attribute",
    "targeting",
    "dispatch",
    "outcome",
    "retention",
)


def stream_of(tenant: str, category: str, entity_id: str) -> str:
    """Return the stream's name, `<tenant>/<category>-<id>`."""
    return f"{tenant}/{category}-{entity_id}"


def split_stream(stream: str) -> tuple[str, str, str]:
    """Return (tenant, category, id) of a stream's name."""
    tenant, _, rest = stream.partition("/")
    category, _, entity_id = rest.partition("-")
    return tenant, category, entity_id
