"""One request of a known caller, and the answers that every dialect gives."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from projections import activities
from projections.statement import Query
from projections.support.documents import Documents as Folds
from projections.support.query import over, within
from projections.task import table as tasks
from services.commands import wire
from services.http.core.authenticator import Caller
from services.http.core.bodies import received
from services.http.core.errors import ApiError
from services.http.core.middleware import header
from services.http.core.service import Service
from services.http.core.shares import ANONYMOUS_BYTES, ANONYMOUS_SECONDS, Holding, Lists
from services.store.pool import Rows

JSON = "application/json"
_MAX_PARAMETERS = 100
# Bytes of a body, or of documents, that take about 1 ms to read or to show.
LARGE = 64 << 10
# What a value takes in memory beside its bytes.
_VALUE = 100
# Bytes of the documents of one page. Until they are sent as an answer, they take so many times their bytes.
PAGE_BYTES, WEIGHT = 16 << 20, 4
# What takes longer than the event loop may stand still; more at the same time would only take more memory.
_WORKERS = ThreadPoolExecutor(2, "http-work")
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([\w.:+-]+)', re.IGNORECASE | re.ASCII)
_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})
_Done = TypeVar("_Done")
_encode = msgspec.json.Encoder().encode
# The read models whose rows can be folded from the log as they were, by the name, with their own folds.
FOLDS: Mapping[str, Folds[Any]] = {model.NAME: model.projection("past") for model in (activities, tasks)}


@dataclass(frozen=True, slots=True)
class Past:
    """Where a call looks back to: a position of the log, and the time that it stands for.

    `rows` are those that were folded up to there, by read model. Lists are asked of them alone.
    """

    position: int
    at: datetime
    rows: MutableMapping[str, list[Sequence[Any]]] = field(default_factory=dict)

    def over(self, asked: Query) -> Query:
        """Return what asks the same of the rows that were folded."""
        return over([folds.shadow(self.rows.get(name, ())) for name, folds in FOLDS.items()], asked)


class Documents(NamedTuple):
    """Rows with documents, and how many more rows the page would have without a limit of bytes."""

    rows: Rows
    left: int = 0


def too_large(parameter: str = "") -> ApiError:
    """Return the refusal of a page whose documents have too many bytes; the parameter says how much is asked for."""
    detail = f"what is asked for has more than {PAGE_BYTES} bytes: ask for less at once"
    return ApiError("bad-limit", detail, parameter=parameter)


async def _worked(size: int, work: Callable[[], _Done]) -> _Done:
    """Do work on so many bytes: beside the event loop, if they are many."""
    if size <= LARGE:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_WORKERS, copy_context().run, work)


@dataclass(slots=True)
class Call:
    """A request of a known caller; what it holds in memory is counted: its body, and what it answers with."""

    scope: Scope
    receive: Receive
    caller: Caller
    service: Service
    body_held: Holding
    answer_held: Holding
    past: Past | None = None

    @property
    def now(self) -> datetime:
        """Return the time that resources are shown for: the present, unless the call looks back."""
        return self.service.clock() if self.past is None else self.past.at

    @property
    def id(self) -> str:
        """Return the id in the path."""
        return self.parts["id"]

    @property
    def parts(self) -> Mapping[str, str]:
        """Return the named parts of the path."""
        found: Mapping[str, str] = self.scope.get("path_params", {})
        return found

    def parameters(self, most: int = _MAX_PARAMETERS) -> dict[str, list[str]]:
        """Return the query's parameters, each with all its values."""
        text: bytes = self.scope["query_string"]
        found: dict[str, list[str]] = {}
        if text:
            try:
                for name, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True, max_num_fields=most):
                    found.setdefault(name, []).append(value)
            except ValueError:
                raise ApiError("bad-filter", f"a query has at most {most} parameters") from None
        return found

    @property
    def has_body(self) -> bool:
        """Tell whether anything is sent as the request's body."""
        return header(b"transfer-encoding") is not None or (header(b"content-length") or "0") != "0"

    async def json(self) -> Any:
        """Return the body as JSON that is safe to store; refuses what is too large before it is decoded."""
        body = await self.body()
        if len(body) > LARGE:
            self.body_held.take(_VALUE * (body.count(b",") + body.count(b"[") + body.count(b"{")))
        # Parsing keeps the event loop from other requests for as long as it takes.
        return await _worked(len(body), lambda: wire.load_json(body))

    async def body(self) -> bytes:
        """Return the body of a JSON request."""
        kind, _, rest = (header(b"content-type") or "").partition(";")
        kind = kind.strip().lower()
        if kind != JSON and not (kind.startswith("application/") and kind.endswith("+json")):
            raise ApiError("unsupported-media-type", "send the body as application/json", parameter="Content-Type")
        if rest and (charset := _CHARSET.search(f";{rest}")) and charset[1].lower() not in _UTF_8:
            detail = f"JSON is sent in UTF-8, not in {charset[1][:100]}"
            raise ApiError("unsupported-media-type", detail, parameter="Content-Type")
        settings = self.service.settings
        limit, seconds = settings.http_body_limit, settings.http_body_timeout
        if not self.caller.key_id:
            limit, seconds = min(limit, ANONYMOUS_BYTES), min(seconds, ANONYMOUS_SECONDS)
        body = await received(self.receive, limit, seconds, self.body_held)
        self.service.rates.bytes.spend(self.caller.tenant, len(body))
        return body

    async def list_rows(self, asked: Query) -> Rows:
        """Return rows without documents, read beside single resources and in turn between tenants."""
        asked = asked if self.past is None else self.past.over(asked)
        return await self.service.lists.fetch(self.caller.tenant, *asked)

    async def documents(
        self, asked: Query, most: int | None = None, lists: Lists | None = None, column: str = "doc"
    ) -> Documents:
        """Return the rows of a list with their documents, as far as these have `most` bytes, and hold them.

        The row that fills them is the last one, so there is one where the list has any.
        """
        most = PAGE_BYTES if most is None else most
        asked = asked if self.past is None else self.past.over(asked)
        found = await (lists or self.service.lists).fetch(self.caller.tenant, *within(asked, most, column))
        if not found:
            return Documents([])
        *_, size, every = found[-1]
        self.answer_held.take(WEIGHT * int(size))
        return Documents([row[:-2] for row in found], every - len(found))

    async def entries(self, asked: Query, ids: Collection[str]) -> Rows:
        """Return the rows of these ids: a single one as any single resource is read, several as a list."""
        if len(ids) < 2:
            return await self.service.pool.fetch(*asked) if ids else []
        return (await self.all_documents(asked)).rows

    async def worked(self, work: Callable[[], _Done]) -> _Done:
        """Do work on the documents that the call holds: beside the event loop, if they are large."""
        return await _worked(self.answer_held.size // WEIGHT, work)

    async def all_documents(self, asked: Query, parameter: str = "") -> Documents:
        """Return all rows of a list, or refuse it where it has too many bytes; raises `ApiError`."""
        found = await self.documents(asked)
        if found.left:
            raise too_large(parameter)
        return found


class Ready(Response):
    """An answer whose JSON is at hand; it skips what a response does to find out its own headers."""

    def __init__(
        self, body: bytes, headers: Sequence[tuple[bytes, bytes]] = (), status: int = 200, media: str = JSON
    ) -> None:
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", media.encode()),
            *headers,
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # The server takes each part once most of those before it are sent.
        for start in range(LARGE, len(self.body), LARGE):
            await send({"type": "http.response.body", "body": self.body[start - LARGE : start], "more_body": True})
        await send({"type": "http.response.body", "body": self.body[-(len(self.body) % LARGE or LARGE) :]})


def as_json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None, media: str = JSON) -> Response:
    """Return a body as JSON."""
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
    return Ready(_encode(body), raw, status, media)
