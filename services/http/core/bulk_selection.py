"""What a bulk is of: the request for its preview, the items that it chooses, and storing both.

The items are chosen by one query, each with the version that it shows. What is executed later is what was chosen, as it
was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import msgspec
import psycopg
from pydantic import Field

from domain import COMMANDS, checks
from domain.decider import SYSTEM
from domain.lifecycle import RIGHTS
from domain.streams import ID
from projections import activities
from projections.listing import PERSON, Listing
from projections.support.query import BadQuery
from projections.task import table as tasks
from services.commands import wire
from services.commands.wire import InvalidMessage, pointer_of
from services.http.core import bulk_acts, bulk_letters
from services.http.core.bulk_letters import WhichLetters
from services.http.core.bulk_states import LETTER_COMMANDS
from services.http.core.errors import ApiError, too_many
from services.http.core.members import MemberCache
from services.http.core.models import Json, Request
from services.letter_acts import MOST as MAX_LETTERS
from services.store import bulk_actions
from services.store import bulk_letters as letters
from services.store.operations import By
from services.store.pool import Rows

MAX_ITEMS = 100_000
# Bulks of a tenant that have not ended.
MAX_OPEN = 20
_LISTINGS: Mapping[str, tuple[str, Listing]] = {
    "task": (tasks.NAME, tasks.LISTING),
    "activity": (activities.NAME, activities.LISTING),
}
# The commands on one task or one activity that somebody else than the service itself may give.
ALLOWED: tuple[str, ...] = tuple(
    name
    for name, command in COMMANDS.items()
    if name.partition(".")[0] in _LISTINGS
    and not name.endswith(".create")
    and "id" in {field.name for field in fields(command)}
    and RIGHTS[name][0] != {SYSTEM}
)
COMMANDS_OF_BULK = (*ALLOWED, *LETTER_COMMANDS)
_encode = msgspec.json.Encoder(order="deterministic").encode
Fetch = Callable[..., Awaitable[Rows]]


class NewBulk(Request):
    """A command for many, and which ones: those that a filter finds, these ids, or dead letters."""

    command: str = Field(
        description="A command on one task, or on one activity, or what is done with dead letters",
        json_schema_extra={"enum": list(COMMANDS_OF_BULK)},
    )
    given: Json = Field(
        {},
        alias="data",
        description="The command's data without `id`, which each item has its own of. Of `dead-letter.retry`: `merge`,"
        " a JSON merge patch of the data of each letter, or nothing; of `dead-letter.discard`: `reason`",
    )
    filter: Json | None = Field(
        None,
        description="Filters of `GET /v1/tasks`, or `GET /v1/activities`, by name: a text, a list of texts, a flag, or"
        " null for what has none. An empty one is refused.",
    )
    ids: list[str] | None = Field(None, description=f"Up to {MAX_ITEMS} ids, in the order in which they are run")
    dead_letters: WhichLetters | None = Field(
        None, description="The letters that a command on dead letters is for, instead of a filter or ids"
    )
    on_change: Literal["skip", "run"] = Field(
        "skip", description="What becomes of an item that has changed since it was previewed"
    )

    example: ClassVar[Json] = {"command": "task.cancel", "filter": {"status": "open"}, "on_change": "skip"}

    @property
    def models(self) -> tuple[str, ...]:
        """Return the names of the read models that the items are chosen from."""
        return () if self.command in LETTER_COMMANDS else (_LISTINGS[self.command.partition(".")[0]][0],)

    @property
    def listing(self) -> Listing:
        """Return the listing that the items are chosen from."""
        return _LISTINGS[self.command.partition(".")[0]][1]

    @classmethod
    def checked(cls, body: Any, limit: int) -> NewBulk:
        """Return a decoded body as a request whose command a worker would read; raises `ApiError`.

        `limit` is that of a command's bytes.
        """
        request = cls.read(body)
        if request.command not in COMMANDS_OF_BULK:
            raise ApiError("unknown-type", f"the commands of a bulk are {', '.join(COMMANDS_OF_BULK)}", "/command")
        if request.command in LETTER_COMMANDS:
            return request._checked_letters(limit)
        if request.dead_letters is not None:
            detail = f"dead letters are for {' and '.join(LETTER_COMMANDS)}"
            raise ApiError("wrong-shape", detail, "/dead_letters")
        if (request.filter is None) == (request.ids is None):
            raise ApiError("wrong-shape", "a bulk has either a filter or ids")
        if "id" in request.given:
            raise ApiError("unknown-field", "each item's own id is put here", "/data/id")
        text = msgspec.json.encode({**request.given, "id": "x" * 64})
        if len(text) > limit:
            raise ApiError("too-large", f"a command has at most {limit} bytes, this one {len(text)}", "/data")
        try:
            command, _ = wire.parse_data(request.command, text)
        except InvalidMessage as error:
            raise ApiError(error.code, error.detail, f"/data{error.pointer}") from None
        if (refusal := checks.refusal(command)) is not None:
            raise ApiError(refusal.code, refusal.detail, f"/data{refusal.pointer}")
        return request

    def _checked_letters(self, limit: int) -> NewBulk:
        if self.dead_letters is None or self.filter is not None or self.ids is not None:
            raise ApiError("wrong-shape", "a command on dead letters has `dead_letters`, and neither a filter nor ids")
        if (size := len(_encode(self.given))) > limit:
            raise ApiError("too-large", f"a command has at most {limit} bytes, this one {size}", "/data")
        bulk_letters.check(self.command, self.given)
        return self


@dataclass(frozen=True, slots=True)
class Chosen:
    """The items of a bulk, a list for each column. Without a version there is nothing of the id."""

    ids: Sequence[str]
    routes: Sequence[str]
    versions: Sequence[int | None]


async def chosen(fetch: Fetch, members: MemberCache, tenant: str, request: NewBulk) -> Chosen:
    """Return the items that a request chooses; `fetch` runs a statement. Raises `ApiError`."""
    if request.dead_letters is not None:
        rows = await fetch(*letters.chosen(request.dead_letters.of(tenant), MAX_LETTERS + 1))
        if len(rows) > MAX_LETTERS:
            detail = f"the filter finds more than {MAX_LETTERS} letters, the most of a bulk"
            raise ApiError("invalid", detail, "/dead_letters")
        return Chosen(*([row[place] for row in rows] for place in range(3)))
    try:
        filters = {} if request.filter is None else await _filters(members, tenant, request.filter)
        ids = _ids(request.ids) if request.ids is not None else None
        rows = await fetch(*request.listing.chosen(tenant, filters, MAX_ITEMS + 1, ids))
    except BadQuery as error:
        raise ApiError(error.code, error.detail, f"/filter{pointer_of((error.parameter,))}") from None
    if len(rows) > MAX_ITEMS:
        raise ApiError("invalid", f"the filter finds more than {MAX_ITEMS}, the most of a bulk", "/filter")
    found = {str(row[0]): row for row in rows}
    wanted = list(found) if ids is None else ids
    return Chosen(
        wanted,
        [str(found[each][2] or each) if each in found else each for each in wanted],
        [int(found[each][1]) if each in found else None for each in wanted],
    )


async def _filters(members: MemberCache, tenant: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return filters as a listing takes them."""
    if not given:
        raise ApiError("invalid", "an empty filter would choose everything; name what is to be chosen", "/filter")
    filters = {name: _value(name, value) for name, value in given.items()}
    people = filters.get(PERSON)
    if people is not None and not isinstance(people, bool):
        texts = [people] if isinstance(people, str) else people
        named = await members.named(tenant, texts, PERSON)
        filters[PERSON] = [member for found in named.values() for member in found]
    return filters


def _value(name: str, value: Any) -> Any:
    # As in a query, an empty text is none.
    if value is None or isinstance(value, (str, bool)):
        return value or None if isinstance(value, str) else value
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return value if len(value) > 1 else value[0] or None
    detail = "a value is a text, a list of texts that is not empty, true, false or null"
    raise ApiError("bad-filter", detail, f"/filter{pointer_of((name,))}")


def _ids(given: Sequence[str]) -> list[str]:
    if not given:
        raise ApiError("invalid", "name at least one id", "/ids")
    if len(given) > MAX_ITEMS:
        raise ApiError("invalid", f"a bulk has at most {MAX_ITEMS} items", "/ids")
    known: set[str] = set()
    for index, each in enumerate(given):
        if not ID.match(each):
            raise ApiError("invalid", "this is no id", f"/ids/{index}")
        if each in known:
            raise ApiError("invalid", "this id is named before", f"/ids/{index}")
        known.add(each)
    return list(given)


def preview(
    conn: psycopg.Connection[Any],
    tenant: str,
    bulk_id: str,
    actor: str,
    by: By,
    request: NewBulk,
    items: Chosen,
    traceparent: str | None = None,
) -> None:
    """Store a bulk of an actor to be previewed, and record who did; the connection is in no transaction.

    Nothing is done if the same was asked for before. Raises `ApiError` when there are too many, or another one has the
    id.
    """

    def stored(conn: psycopg.Connection[Any]) -> bool:
        return _store(conn, tenant, bulk_id, actor, request, items, traceparent)

    bulk_acts.recorded(conn, tenant, bulk_id, "preview", by, stored, command=request.command)


def _store(
    conn: psycopg.Connection[Any],
    tenant: str,
    bulk_id: str,
    actor: str,
    request: NewBulk,
    items: Chosen,
    traceparent: str | None,
) -> bool:
    """Store a bulk in the caller's transaction; false if the same was asked for before."""
    chosen_by: Json = {"filter": request.filter, "ids": request.ids}
    if request.dead_letters is not None:
        chosen_by["dead_letters"] = request.dead_letters.data()
    asked = (
        request.command,
        _encode(request.given),
        _encode(chosen_by),
        request.on_change,
        actor,
    )
    values = {
        **dict(zip(("command", "data", "asked", "on_change", "actor"), asked, strict=True)),
        "tenant": tenant,
        "id": bulk_id,
        "traceparent": traceparent,
        "most": MAX_OPEN,
        "ids": list(items.ids),
        "routes": list(items.routes),
        "versions": list(items.versions),
    }
    if conn.execute(bulk_actions.STORE, values).fetchall():
        return True
    rows = conn.execute(*bulk_actions.asked(tenant, bulk_id)).fetchall()
    if not rows:
        raise too_many(f"a tenant has at most {MAX_OPEN} bulks that have not ended")
    if tuple(bytes(each) if isinstance(each, (bytes, memoryview)) else each for each in rows[0]) != asked:
        raise ApiError("idempotency-conflict", "another bulk was asked for under this key")
    return False
