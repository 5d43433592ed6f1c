"""One search of the native API: what has this id, name or value, of each kind that the caller may read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote

from pydantic import Field
from starlette.responses import Response

from domain.streams import ENTRY_KINDS
from projections import activities, directory, search
from projections.statement import Query as Statement
from projections.support.query import BadQuery, demand_text
from projections.task import table as tasks
from projections.task.search import with_field
from services import keys
from services.http.core.call import Call, as_json
from services.http.core.models import Json, View
from services.http.core.parameters import Query, settled
from services.keys import KEY_ID
from services.store import finding

MOST, MAX_TEXT = 20, 200


class Shown(NamedTuple):
    """How a kind is shown: under which name, where one of it is read, and the permission for that."""

    kind: str
    path: str
    permission: str = "read"


# In the order of the answer, by the kinds of rows.
KINDS: Mapping[str, Shown] = {
    "activity": Shown("activity", "/v1/activities/{id}"),
    "task": Shown("task", "/v1/tasks/{id}"),
    directory.WORKFLOW: Shown(directory.WORKFLOW, "/v1/activities?workflow_id={id}"),
    **{kind: Shown(kind, f"/v1/directory/{kind}/{{id}}") for kind in ENTRY_KINDS},
    "command": Shown("command", "/v1/commands/{id}"),
    "dead-letter": Shown("dead-letter", "/v1/dead-letters/{id}", "operate"),
    "webhook": Shown("webhook", "/v1/webhooks/{id}", "webhooks"),
    finding.BULK: Shown("bulk", "/v1/bulk/{id}"),
    finding.BULK_RECEIPT: Shown("bulk", "/v1/bulks/{id}"),
    "key": Shown("key", "/v1/keys/{id}", "keys"),
}
_NAMES = tuple(dict.fromkeys(shown.kind for shown in KINDS.values()))
_WHY = (
    "id", "title", "reference", "email", "account", "operator", "external_id", "idempotency_key", "message_id", "field",
)  # fmt: skip


class Searched(Query):
    """What is searched for."""

    q: str = Field(
        min_length=1,
        max_length=MAX_TEXT,
        description="An id, an idempotency key, a part of a title, a member's e-mail, `account:` or `operator:`,"
        " or `name=value` of a task's data",
    )


class Hit(View):
    """Something that was found"""

    id: str
    title: str | None
    match: str = Field(json_schema_extra={"enum": list(_WHY)}, description="why it was found")
    path: str


class Hits(View):
    """What was found of a kind"""

    kind: str = Field(json_schema_extra={"enum": list(_NAMES)})
    more: bool = Field(description="whether there is more of it")
    hits: list[Hit] = Field(max_length=MOST)


class SearchResults(View):
    """What was found, by kind; kinds of which there is nothing are absent"""

    data: list[Hits]

    example: ClassVar[Json] = {
        "data": [
            {
                "kind": "activity",
                "more": False,
                "hits": [{"id": "a1", "title": "Order 7", "match": "id", "path": "/v1/activities/a1"}],
            }
        ]
    }


async def find(call: Call) -> Response:
    """Answer with what was found."""
    query = Searched.read(call)
    await settled(call, None, activities.NAME, tasks.NAME, directory.NAME)
    text = query.q.strip() if "q" in query.model_fields_set else ""
    if not 1 <= len(text) <= MAX_TEXT:
        raise BadQuery("bad-filter", f"q is a text of 1 to {MAX_TEXT} characters", "q")
    demand_text(text, "q")
    tenant = call.caller.tenant
    asked = [search.found(tenant, text, directory.KINDS, MOST + 1), finding.found(tenant, text, MOST + 1)]
    field = with_field(tenant, text, MOST + 1)
    if field is not None:
        asked.append(field)
    found = await asyncio.gather(_key(call, text), *(_rows(call, each) for each in asked))
    return as_json(SearchResults.show({"data": list(_by_kind(call, [row for rows in found for row in rows]))}))


async def _rows(call: Call, asked: Statement) -> Sequence[Sequence[Any]]:
    return await call.list_rows(asked)


async def _key(call: Call, text: str) -> Sequence[Sequence[Any]]:
    """Return the key of an id as the other rows are."""
    if not KEY_ID.match(text):
        return []
    found = [keys.key_info(row) for row in await call.list_rows(keys.of_tenant(call.caller.tenant, text))]
    return [("key", key.id, key.name, "id", False) for key in found]


def _by_kind(call: Call, rows: Iterable[Sequence[Any]]) -> Iterable[dict[str, Any]]:
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in _NAMES}
    for name, own_id, title, match, retired in sorted(rows, key=lambda row: list(KINDS).index(row[0])):
        kind, path, permission = KINDS[name]
        if permission in call.caller.permissions:
            address = path.format(id=quote(own_id, safe=""))
            if retired and name in ENTRY_KINDS:
                address += "?retired=true"
            found[kind].setdefault(own_id, {"id": own_id, "title": title, "match": match, "path": address})
    for kind, hits in found.items():
        if hits:
            yield {"kind": kind, "more": len(hits) > MOST, "hits": list(hits.values())[:MOST]}
