"""The requests and views of the native API. What is encoded elsewhere has its schema from the encoded type."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, RootModel

from domain import COMMANDS
from domain.directory.fields import NAME
from domain.lifecycle import Lifecycle
from domain.limits import MAX_WHOLE, Id
from domain.rollup import RULES
from services import bounds, schemas
from services.http.core.components import PREFIX
from services.http.core.models import LEFT_OUT, From, Json, Request, To, View, refuse
from services.http.core.sending import MAX_ROUTING_KEY

MAX_ENTRIES, MAX_OPEN_TASKS = 1000, 100


def _known(name: Any) -> Any:
    if not isinstance(name, str) or name not in COMMANDS:
        refuse("unknown-type", f"commands are {', '.join(COMMANDS)}")
    return name


def _of_a_length(key: str | None) -> str | None:
    if key is not None and len(key.encode()) > MAX_ROUTING_KEY:
        refuse("wrong-shape", f"routing_key is a text of 1 to {MAX_ROUTING_KEY} bytes")
    return key


class Command(Request):
    """A command as it is on the wire, with what stands around its data."""

    external = True

    type: Annotated[str, BeforeValidator(_known)] = Field("", validate_default=True)
    own: Json = Field(alias="data")
    id: str | None = Field(
        None, pattern="^[!-~]{1,128}$", description="the command's own id; sent again, it takes effect once"
    )
    actor: Annotated[Id | None, Field(pattern=schemas.ID["pattern"])] = None
    expected_version: int | None = Field(None, ge=0, le=MAX_WHOLE)
    ordered: bool = Field(False, description="do not overtake a dead letter of the same routing key: wait behind it")
    caused_by: int | None = Field(None, ge=1, le=MAX_WHOLE, description="the position of the event that it answers")
    routing_key: Annotated[str | None, AfterValidator(_of_a_length)] = Field(  # a character has up to four bytes
        None, min_length=1, json_schema_extra={"maxLength": MAX_ROUTING_KEY // 4}
    )

    example: ClassVar[Json] = {"type": "task.complete", "data": {"id": "t1", "data": {"signed": True}}}


_OWN_FIELDS = Field(
    alias="fields",
    description="The entry's own fields, any JSON; those below mean something to the service",
    json_schema_extra={"properties": {name: schemas.or_null(bounds.schema_of(hint)) for name, hint in NAME.items()}},
)


class NewEntry(Request):
    """An entry to register."""

    id: Id | None = Field(None, description="given out if it is left out")
    own: Annotated[Json, To("fields"), _OWN_FIELDS] = LEFT_OUT

    example: ClassVar[Json] = {"id": "ann", "fields": {"name": "Ann", "email": "ann@example.com"}}


class NewEntries(Request):
    """Entries to register, each by itself."""

    entries: list[Any] = Field(
        min_length=1,
        max_length=MAX_ENTRIES,
        description="An entry each; one of another shape is refused by itself, and stops no other",
    )
    background: bool = Field(False, description="answer before the entries are sent")

    example: ClassVar[Json] = {"entries": [{"id": "h1", "fields": {"name": "North"}}, {"id": "h2"}]}


class Registration(RootModel[NewEntry | NewEntries]):
    """An entry, or a list of them."""


class EntryChange(Request):
    """A change of an entry."""

    # A refusal of the id in the path has the pointer `/id`.
    outside_body = frozenset()

    own: Annotated[Json, To("fields"), _OWN_FIELDS]

    example: ClassVar[Json] = {"fields": {"name": "Ann B.", "actor_roles": None}}


BULK_ID = "0199a1f0-0000-7000-8000-00000000b01c"
Count = Annotated[int, Field(ge=0)]
Status = Annotated[str, Field(json_schema_extra={"enum": [state.value.lower() for state in Lifecycle]})]


class OpenTasks(View):
    """A member's open tasks, the oldest first."""

    total: Count
    ids: list[str] = Field(max_length=MAX_OPEN_TASKS)


EXTERNAL: Json = {
    **schemas.sent_commands(PREFIX, schemas.tidy(Command.model_json_schema())),
    **schemas.resources(PREFIX),
    "OpenTasks": schemas.tidy(OpenTasks.model_json_schema()),
}


class External(View):
    """An answer that is encoded elsewhere: its schema is one of `EXTERNAL`, from which its example is made too."""

    external = True

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls.example = schemas.example(EXTERNAL[cls.__name__], cls.example or {})


class Task(External):
    """The task"""


class Activity(External):
    """The activity"""

    example: ClassVar[Json] = {"id": "a1", "workflow": {"id": "w1", "version": 1, "name": "Pickup to Delivery"}}


class LeftOut(External):
    """One of a step's default people who could not have its task any more."""


class ExplainedChild(View):
    """A child's part in the status of its activity."""

    id: str
    step: int | None
    status: Status
    assignees: list[str]
    resolution: str
    dispatch: str
    position: Count
    decides: bool = Field(description="it is one of those that make the rule fit")


class Explanation(View):
    """The rule, and each child's part in it"""

    id: str
    status: Status
    rule: str = Field(json_schema_extra={"enum": list(RULES)})
    failure: Literal["wait_all", "fail_fast"]
    canceled: bool
    progress: dict[str, int]
    left_out: list[LeftOut]
    position: Count
    rule_text: str = Field(examples=[RULES["U8"]])
    children: list[ExplainedChild]


class HistoryEntry(External):
    """An event"""


class CloudEvent(External):
    """An event as it is published"""


class Events(View):
    """Events"""

    events: list[CloudEvent]
    next: Count
    head: Count


class Entry(External):
    """The entry"""

    example: ClassVar[Json] = NewEntry.example


class RetiredEntry(External):
    """The entry as it was left"""

    example: ClassVar[Json] = {**NewEntry.example, "retired": True, "open_tasks": {"total": 1, "ids": ["t1"]}}


class Page(View):
    """A page"""

    data: list[Any]
    next: str | None = Field(description="the next page's address")


class EventSummary(External):
    """An event that a command recorded."""


class Refusal(External):
    """The reason of a refusal, and its place."""


class Reply(External):
    """Accepted"""

    example: ClassVar[Json] = {"outcome": "accepted", "events": [EventSummary.example]}


class Undecided(View):
    """No answer yet, or the views are late; look at the receipt"""

    command_id: str
    outcome: Annotated[
        Literal["undecided", "accepted"], From("known", lambda known, _: "accepted" if known else "undecided")
    ] = Field(description="as far as it is known")
    receipt: str = Field(description="where the outcome will be")


class Receipt(View):
    """Decided, or a dead letter that waits for an operator or was discarded"""

    command_id: str
    outcome: Literal["accepted", "rejected", "parked", "discarded"]
    recorded_at: datetime
    position: int | None = Field(examples=[42])
    events: list[EventSummary]
    error: Refusal | None = Field(None, description="there unless it was accepted")


# The outcomes of an entry of a list.
Registered = Literal["registered", "unchanged", "refused", "undecided"]
REGISTERED: tuple[str, ...] = get_args(Registered)


class BulkItem(View):
    """The outcome of a part."""

    ref: str | None = Field(description="the request's own name for the part, where it has one")
    id: str | None = Field(examples=["t1"], description="of what the part is about")
    outcome: Literal["accepted", "rejected", "undecided"]
    receipt: str = Field("", description="of its command, once that is decided")
    position: int | None = Field(None, description="there when it was accepted")
    error: Refusal | None = Field(None, description="there when it was rejected")


class Bulk(View):
    """How far it is, and each part in the order of the request"""

    id: str = Field(examples=[BULK_ID])
    command: str = Field(json_schema_extra={"enum": list(COMMANDS)})
    state: Literal["running", "done"]
    created_at: datetime
    total: Count = Field(description="the parts of the request")
    sent: Count = Field(description="the commands that the broker has taken")
    accepted: Count
    rejected: Count
    undecided: Count
    position: int | None = Field(examples=[42], description="the highest one, for `min_position`")
    items: list[BulkItem]


class RegisteredEntry(View):
    """The outcome of an entry of a list."""

    status: Registered
    id: str | None = None
    position: int | None = Field(None, description="for `min_position`")
    error: Refusal | None = None
    receipt: str = Field("", description="where an undecided entry's outcome will be")


class Registrations(View):
    """What became of each entry of a list"""

    registered: Count
    unchanged: Count
    refused: Count
    undecided: Count
    position: int | None = Field(examples=[42], description="the highest one, for `min_position`")
    receipt: str = Field("", description="of a list that is registered in the background")
    entries: list[RegisteredEntry] = Field(description="in the order of the request")


class EntryOrRegistrations(RootModel[Entry | Registrations]):
    """The entry, which was there already; or what became of each entry of a list"""


class UndecidedEntries(RootModel[Undecided | Registrations]):
    """The outcome of the entry, or of some entries of a list, is not known yet; look at the receipts"""
