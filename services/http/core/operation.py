"""Operations: what a dialect consists of, as data from which they are served and documented.

A dialect is a package of four files, which a larger one splits by theme, and this is how each is written:

1.  `errors.py`: the table of the dialect's codes, and an envelope, which makes a `Response` of an `ApiError`. Pointers
    of a refusal are the caller's own already. Answers that show no resource are here too.
2.  `models.py`: a `Request` for each body and a `View` for each resource and each whole answer (`core.models`). A field
    says where it goes, `commerce_id: Annotated[Id, To("commerce")]`, or where it comes from,
    `parent_id: Annotated[str | None, From("activity_id")]`; a literal of one value is a constant of an answer. The
    docstring of an answer is its description. A model's example is made of those of its fields, unless it has an
    `example`. A change, and the view of what was created, are derived from the request that creates it, and that may be
    derived from the domain's own definition (`core.deriving`).
3.  `lists.py`: the queries of the dialect: a `Query` for the parameters of each (`core.parameters`), and what answers
    it, by `core.pages` where it counts pages, with the views of pages.
4.  `operations.py`: a `Dialect`, and `OPERATIONS`, a tuple of `Operation`. A write that is one command has `command`,
    `entity` and `request`, and is served from that: the request is read, its command submitted, and the resource that
    it leaves shown by `view` with what `Dialect.context` looked up. A read of one resource has `entity` and `view`.
    Anything else has a `handler(call)`, which uses the same parts: `NewTask.read(await call.json())`, `submit(...)`,
    `Dialect.answer(...)`. The answer of a handler that is `tagged` has a tag (`core.tags`), as those of the others do.

That is all: a package with a module `operations` is found by `core.app`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from domain.recorded import Recorded
from services.http.core import dry_runs, tags
from services.http.core.call import JSON, Call, as_json
from services.http.core.errors import ApiError
from services.http.core.middleware import CURRENT, Envelope
from services.http.core.models import Request, View
from services.http.core.parameters import AsOf, MinPosition, Query, nothing_else, settled
from services.http.core.past import demand_present
from services.http.core.sending import CommandResult
from services.http.core.submit import Entity, demand_no_key, submit

Handler = Callable[[Call], Awaitable[Response]]
Json = dict[str, Any]
# Of any query.
_MAX_PARAMETERS = 2000


Context = Callable[[Call, Sequence[Mapping[str, Any]], Sequence[Recorded], type[View]], Awaitable[Any]]


async def _no_context(
    call: Call, resources: Sequence[Mapping[str, Any]], events: Sequence[Recorded], view: type[View]
) -> None:
    """Look nothing up."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The properties that all operations of a dialect share.

    `failure(topic, status)` describes the refusals of a status, and gives an example of one; None when there are none.
    `undecided` is the answer to a write that cannot be shown; its resource has a `noun`, a `command_id`, a `receipt`,
    and `known`, whether the command is known to have taken effect. `context` looks up what a view needs beside the
    resources (`core.lookups` says what that is); its `events` are ones that read models may not show yet. `admit`
    refuses a call before anything of it is read, by what all operations take as `parameters`.
    """

    tag: str
    envelope: Envelope
    failure: Callable[[str, int], tuple[str, Json] | None]
    failure_view: type[View]
    undecided: type[View]
    context: Context = _no_context
    media: str = JSON
    failure_media: str = JSON
    # Below these the dialect answers for what nobody serves.
    paths: tuple[str, ...] = ()
    # Whether its paths may also be written with a slash at the end.
    slash: bool = False
    # Statuses that every operation may answer with.
    failures: tuple[int, ...] = (401, 403, 429, 500, 503)
    admit: Callable[[Call], None] | None = None
    parameters: tuple[Json, ...] = ()

    async def answer(
        self, call: Call, result: CommandResult, view: type[View], noun: str, status: int = 200
    ) -> Response:
        """Answer a write with the resource that it leaves, or with the address of its receipt."""
        if result.resource is None:
            return self.pending(result, noun)
        return await self.show(call, view, result.resource, result.events, status)

    def pending(self, result: CommandResult, noun: str = "") -> Response:
        """Answer a write whose resource cannot be shown with the address of its receipt."""
        found = {"noun": noun, "command_id": result.command_id, "receipt": result.receipt}
        body = self.undecided.show({**found, "known": result.reply is not None})
        return as_json(body, 202, {"Location": result.receipt}, self.media)

    async def show(
        self, call: Call, view: type[View], resource: Any, events: Sequence[Recorded] = (), status: int = 200
    ) -> Response:
        """Answer with a resource and its tag."""
        context = await self.context(call, [resource], events, view)
        headers: Mapping[str, str] = {}
        # What is made from several resources has no version of its own.
        if "version" in resource and "position" in resource:
            tag = tags.tag_of(resource, context)
            if call.scope["method"] == "GET":
                headers = tags.headers(tag)
                if (unchanged := tags.unchanged(tag)) is not None:
                    return unchanged
            elif status == 201 or call.parts.get("id") == resource["id"]:
                # What a command did to something else than the address names has no tag here.
                headers = {"ETag": tag}
        return as_json(view.show(resource, context), status, headers, self.media)


@dataclass(frozen=True, slots=True)
class Link:
    """Another operation that takes a value of an answer as a parameter; `place` is a JSON pointer into the body.

    `path` names parameters of the request's path that it takes as well.
    """

    operation: str
    place: str
    parameter: str = "id"
    path: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, str]:
        """Return where the other operation's parameters come from."""
        same = {name: f"$request.path.{name}" for name in self.path}
        return {**same, self.parameter: f"$response.body#{self.place}"}


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path: who may call it, what it takes, what it does and what it answers.

    Without a permission anybody may call it, without a key too; it has a handler, and sends no command.
    """

    dialect: Dialect
    method: str
    path: str
    permission: str
    name: str
    summary: str
    _: KW_ONLY
    description: str = ""
    request: type[BaseModel] | None = None
    # A request that needs nothing said may come without a body.
    body_optional: bool = False
    query: type[Query] | None = None
    command: str = ""
    # The commands that a handler may give.
    gives: tuple[str, ...] = ()
    entity: Entity | Callable[[Call], Entity] | None = None
    # Command data that is not in the request.
    extra_data: Callable[[Call], Mapping[str, Any]] | None = None
    handler: Handler | None = None
    # Without a view nothing is shown, as with 204.
    view: type[BaseModel] | None = None
    status: int = 200
    # Whether the header `Location` of its answer says where the resource or the receipt is.
    located: bool = False
    # Other successful answers, by status.
    also: Mapping[int, type[BaseModel]] = field(default_factory=dict)
    # Event types: the stream of such an event has the id of the entity, where neither the path nor a new id has it.
    id_from: tuple[str, ...] = ()
    # The statuses of its refusals beside those of the dialect, where they are others than such an operation has.
    refusals: tuple[int, ...] = ()
    # What the dialect tells the meanings of statuses by.
    topic: str = ""
    # The dialect's own word for a refusal of the command.
    rephrase: Callable[[ApiError], ApiError] | None = None
    links: Mapping[str, Link] = field(default_factory=dict)
    # Where the answer's example is another than the view's own.
    example: Any = None
    # Whether the answer of a handler of a query has a tag.
    tagged: bool = False
    # Whether the answer lasts: it then takes none of the places of requests.
    lasts: bool = False
    # Parameters that no model describes, such as those of the path beside `id`.
    parameters: tuple[Json, ...] = ()
    # Whether it gives many commands at once, which are not tried.
    bulk: bool = False
    # Whether it changes something without giving a command; of one that is tried, the handler gives the command.
    act: bool = False
    # Whether an act takes an `Idempotency-Key`, as every write does.
    keyed: bool = False
    # The permissions that it needs beside its own, since it does what others need them for.
    further: tuple[str, ...] = ()

    @property
    def writes(self) -> bool:
        """Tell whether it sends a command."""
        return self.method != "GET" and bool(self.permission) and not self.act

    @property
    def tries(self) -> bool:
        """Tell whether its command may be tried instead of done."""
        if self.act:
            return self.query is not None and issubclass(self.query, dry_runs.MayBeDry)
        return self.writes and not self.bulk

    @property
    def looks_back(self) -> bool:
        """Tell whether it can show what was, by `as_of`."""
        return self.query is not None and issubclass(self.query, AsOf)

    @property
    def commands(self) -> tuple[str, ...]:
        """Return the commands that it may give; none says that it takes any, or sends none."""
        return (self.command,) if self.command else self.gives

    @property
    def conditional(self) -> bool:
        """Tell whether it takes the tag of what it reads or writes."""
        if not self.writes:
            return self.tagged or self.handler is None
        return "{id}" in self.path and not (isinstance(self.entity, Entity) and self.command == self.entity.creates)

    @property
    def statuses(self) -> list[int]:
        """Return the statuses of its refusals."""
        own = self.refusals
        if not own:
            changes = self.writes or self.act
            own = (400, *((404,) if self.writes or "{" in self.path else ()), *((409,) if changes else ()))
            own = (*own, *((408, 413, 415, 422) if self.request is not None else ()))
        return sorted({*own, *self.dialect.failures, *((412,) if self.conditional else ())})

    async def serve(self, call: Call) -> Response:
        """Answer a call of a caller who may make it."""
        if self.dialect.admit is not None:
            self.dialect.admit(call)
        if not self.looks_back:
            demand_present(call, _MAX_PARAMETERS)
        dry_runs.begin(call, self.tries)
        if self.writes:
            call.service.rates.demand(call.caller.tenant)
            tags.demand_none(call, self.conditional)
        elif self.act:
            call.service.rates.demand(call.caller.tenant)
            tags.demand_none(call, False)
            if not self.keyed:
                demand_no_key(call)
        answer = await (self.handler or (self._write if self.writes else self._read))(call)
        return dry_runs.answer() if CURRENT.get().dry_run else answer

    def _entity(self, call: Call) -> Entity:
        """Return what a declared operation reads or writes."""
        assert self.entity is not None  # noqa: S101
        return self.entity if isinstance(self.entity, Entity) else self.entity(call)

    async def _read(self, call: Call) -> Response:
        entity, view = self._entity(call), self.view
        assert view is not None  # noqa: S101
        assert issubclass(view, View)  # noqa: S101
        await settled(call, (AsOf if self.looks_back else MinPosition).read(call), *entity.models)
        try:
            found = await entity.read(call)
        except ApiError as error:
            raise (error if self.rephrase is None else self.rephrase(error)) from None
        return await self.dialect.show(call, view, found)

    async def _write(self, call: Call) -> Response:
        entity, view = self._entity(call), self.view
        nothing_else(call.parameters())
        data: Request | Mapping[str, Any] = {}
        if self.request is not None:
            assert issubclass(self.request, Request)  # noqa: S101
            body = {} if self.body_optional and not call.has_body else await call.json()
            data = self.request.read(body, call.parts)
        entity_id = call.id if "{id}" in self.path and self.command != entity.creates else None
        extra_data = self.extra_data(call) if self.extra_data is not None else None
        try:
            result = await submit(
                call, self.command, data, entity, entity_id=entity_id, extra_data=extra_data, id_from=self.id_from
            )
        except ApiError as error:
            # There is no place in a body that was not asked for.
            refused = error if self.request is not None else error.at("")
            raise (refused if self.rephrase is None else self.rephrase(refused)) from None
        if view is None and result.reply is not None:
            return Response(status_code=self.status)
        shown = view if view is not None and issubclass(view, View) else self.dialect.undecided
        return await self.dialect.answer(call, result, shown, entity.noun, self.status)
