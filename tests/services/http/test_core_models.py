"""Requests and views: from one model follow the command's data, the places of refusals, the answers and the schema."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

import msgspec
import pytest
from pydantic import ConfigDict, Field, SkipValidation, field_validator
from pydantic_core import ErrorDetails

from domain import COMMANDS
from domain.limits import MAX_KEY, Id, Items, Title, hints_of
from services.commands import wire
from services.http.core.components import Components, component_name, example_of
from services.http.core.errors import ApiError
from services.http.core.list_view import ListView
from services.http.core.models import From, Json, Request, To, View, _fields_to, refuse
from services.http.core.operation import Operation
from services.http.dispatch import operations as dispatch
from services.http.dispatch.models import NewTask as NewDispatchTask
from services.http.dispatch.results import ShortResult
from services.http.field import operations as field
from services.http.field.requests import ActivityChange, NewTask, TaskChange
from services.http.workflow import operations as workflow
from services.http.workflow.documents import Document
from services.http.workflow.models import Assign, Claim


class Part(Request):
    name: Title
    size: int | None = None


class Order(Request):
    """An order. Any other key is a field."""

    model_config = ConfigDict(extra="allow")
    free = "fields"
    derived: ClassVar[dict[str, str]] = {"made": "is given by the service"}
    outside_body = frozenset({"id"})

    commerce_id: Annotated[Id, To("commerce")]
    channel: Annotated[str | None, To("plan/channel")] = None
    score: Annotated[int | None, To("plan/score")] = None
    account: Annotated[int | None, To("assignees", lambda number: [f"account:{number}"])] = None
    parts: list[Part] = Field([])
    note: Annotated[str | None, To(None)] = None

    example: ClassVar[Json] = {"commerce_id": "c1"}

    @field_validator("score")
    @classmethod
    def _positive(cls, score: int | None) -> int | None:
        if score is not None and score < 0:
            refuse("invalid", "a score is not negative")
        return score


class Change(Request):
    changes = True

    title: Title | None = None
    size: int = 0


FULL = {
    "commerce_id": "c1",
    "channel": "SMS",
    "score": None,
    "account": 42,
    "parts": [{"name": "A", "size": None}, {"name": "B", "size": 2}],
    "note": "for us alone",
    "colour": {"red": None},
}


def test_a_request_becomes_the_data_of_a_command() -> None:
    assert Order.read(FULL).data() == {
        "commerce": "c1",
        "plan": {"channel": "SMS"},
        "assignees": ["account:42"],
        "parts": [{"name": "A"}, {"name": "B", "size": 2}],
        "fields": {"colour": {"red": None}},
    }
    assert Order.read({"commerce_id": "c1"}).data() == {"commerce": "c1"}


def test_a_change_keeps_what_is_null_and_leaves_out_what_is_not_given() -> None:
    assert Change.read({"title": None}).data() == {"title": None}
    assert Change.read({}).data() == {}


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("", ""),
        ("/commerce", "/commerce_id"),
        ("/plan/channel", "/channel"),
        ("/plan", ""),
        ("/assignees/0", "/account"),
        ("/parts", "/parts"),
        ("/parts/1", "/parts/1"),
        ("/parts/1/name", "/parts/1/name"),
        ("/fields/colour/red", "/colour/red"),
        ("/fields", ""),
        ("/id", ""),
        ("/other/0", "/other/0"),
    ],
)
def test_a_place_in_the_data_is_one_in_the_request(place: str, shown: str) -> None:
    assert Order.pointer(place) == shown


@pytest.mark.parametrize(
    ("body", "code", "pointer", "detail"),
    [
        ([], "wrong-shape", "", "the body is an object"),
        ({}, "wrong-shape", "/commerce_id", "commerce_id is required"),
        ({**FULL, "commerce_id": 7}, "wrong-shape", "/commerce_id", "this is a text"),
        ({**FULL, "account": True}, "wrong-shape", "/account", "this is a whole number"),
        ({**FULL, "parts": {}}, "wrong-shape", "/parts", "this is a list"),
        ({**FULL, "parts": [7]}, "wrong-shape", "/parts/0", "this is an object"),
        ({**FULL, "parts": [{"nam": "A"}]}, "unknown-field", "/parts/0/nam", "the fields are name, size"),
        ({**FULL, "made": 1}, "derived", "/made", "made is given by the service"),
        ({**FULL, "score": -1}, "invalid", "/score", "a score is not negative"),
    ],
)
def test_a_body_that_is_no_request_is_refused_at_its_place(body: Any, code: str, pointer: str, detail: str) -> None:
    with pytest.raises(ApiError) as caught:
        Order.read(body)
    assert (caught.value.code, caught.value.pointer, caught.value.detail) == (code, pointer, detail)


def test_a_list_of_many_faults_is_refused_by_its_first() -> None:
    with pytest.raises(ApiError) as caught:
        Order.read({"commerce_id": "c1", "parts": [7] * 100_000})
    assert caught.value.pointer == "/parts/0"


def test_the_schema_has_the_limits_of_the_domain_and_a_name_of_its_own() -> None:
    components = Components()
    assert components.ref(NewTask) == {"$ref": "#/components/schemas/FieldNewTask"}
    assert components.ref(Order)["$ref"].endswith(component_name(Order))
    order = components.schemas[component_name(Order)]
    assert order["properties"]["commerce_id"] == {
        "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_-]{1,64}$"
    }  # fmt: skip
    assert order["properties"]["parts"]["items"] == components.ref(Part)
    assert components.schemas[component_name(Part)]["properties"]["name"]["maxLength"] == 200
    assert (order["required"], order["additionalProperties"]) == (["commerce_id"], True)
    assert order["propertyNames"] == {"maxLength": MAX_KEY, "not": {"enum": ["made"]}}
    assert "title" not in order
    components.ref(Change)
    assert "default" not in components.schemas[component_name(Change)]["properties"]["size"]


def test_two_models_cannot_have_one_name() -> None:
    components = Components({component_name(Part): {}})
    with pytest.raises(ValueError, match="two schemas"):
        components.ref(Part)


class Inner(View):
    name: Annotated[str, From("title")]


class Shown(View):
    kind: Literal["order"]
    id: str = Field(alias="_id")
    owner: Annotated[str, From("by", lambda member, emails: emails[member])]
    step: Annotated[int | None, From("step", default=None)]
    inner: Annotated[Inner, From("plan")]
    rows: Annotated[list[Inner], From("plan/rows")]
    gone: list[str] = Field([])

    example: ClassVar[Json] = {"kind": "order"}


class Answer(View):
    """Found"""

    status: Literal[True]
    order: Annotated[Shown, From("")]


def test_a_view_shows_a_resource_key_by_key_in_its_order() -> None:
    resource = {"id": "o1", "by": "m1", "plan": {"title": "T", "rows": [{"title": "A"}]}, "gone": []}
    found = Answer.show(resource, {"m1": "ann@example.com"})
    assert found == {
        "status": True,
        "order": {
            "kind": "order", "_id": "o1", "owner": "ann@example.com", "step": None,
            "inner": {"name": "T"}, "rows": [{"name": "A"}],
        },
    }  # fmt: skip
    assert list(found["order"]) == ["kind", "_id", "owner", "step", "inner", "rows"]
    assert Answer.show({**resource, "gone": ["x"]}, {"m1": ""})["order"]["gone"] == ["x"]
    with pytest.raises(KeyError):
        Answer.show({}, {})


def test_an_example_is_made_of_those_of_the_fields() -> None:
    assert example_of(Answer) == {"status": True, "order": {"kind": "order"}}


class Rows(ListView):
    """The rows"""

    root: list[Inner]


def test_an_answer_may_be_a_list_of_views() -> None:
    assert Rows.show([{"title": "A"}, {"title": "B"}]) == [{"name": "A"}, {"name": "B"}]
    components = Components()
    components.ref(Rows)
    shown = components.schemas[component_name(Rows)]
    assert (shown["type"], shown["items"]) == ("array", components.ref(Inner))


class Passed(Request):
    parts: Annotated[SkipValidation[list[Part] | None], Items(3), To("fields/parts")] = None


def test_what_is_not_validated_is_described_and_passed_on_as_it_came() -> None:
    for given in ([{"nam": 1}], {}, 7):
        assert Passed.read({"parts": given}).data() == {"fields": {"parts": given}}
    assert Passed.pointer("/fields/parts/0/name") == "/parts/0/name"
    components = Components()
    components.ref(Passed)
    described = components.schemas[component_name(Passed)]["properties"]["parts"]
    assert described == {"type": ["array", "null"], "items": components.ref(Part), "maxItems": 3}


class Terse(Request):
    size: int

    @classmethod
    def message(cls, error: ErrorDetails) -> str:
        return "no" if error["type"] == "int_type" else super().message(error)


def test_a_dialect_may_have_its_own_words_for_a_wrong_type() -> None:
    for body, detail in (({"size": "x"}, "no"), ({}, "size is required")):
        with pytest.raises(ApiError) as caught:
            Terse.read(body)
        assert caught.value.detail == detail


# The dialects' own.

OPERATIONS: list[Operation] = [*field.OPERATIONS, *dispatch.OPERATIONS, *workflow.OPERATIONS]
REQUESTS = [
    # What a JSON:API document asks for are the attributes of its resource.
    *(
        (one.request.attributes if issubclass(one.request, Document) else one.request, one.command)
        for one in OPERATIONS
        if one.request is not None and one.command
    ),
    (NewTask, "task.create"),
    (TaskChange, "task.change"),
    (ActivityChange, "activity.change"),
    (Assign, "task.assign"),
    (Claim, "task.claim"),
    (NewDispatchTask, "task.create"),
    (ShortResult, "task.submit-result"),
]
_IDS = [f"{request.__name__}-{command}" for request, command in REQUESTS]


@pytest.mark.parametrize(("request_", "command"), REQUESTS, ids=_IDS)
def test_every_field_of_a_request_has_a_place_in_its_command(request_: type[Request], command: str) -> None:
    assert _unplaced(request_, COMMANDS[command]) == []


def _unplaced(request: type[Request], kind: Any) -> list[str]:
    hints = hints_of(kind)
    found = [] if not request.free or request.free in hints else [request.free]
    for placed in _fields_to(request):
        if not placed.path:
            continue
        inner: Any = kind
        for part in placed.path:
            inner = hints_of(inner).get(part) if is_dataclass(inner) else inner
            inner = next((each for each in _classes(inner) if is_dataclass(each)), inner)
        if inner is None:
            found.append("/".join(placed.path))
        elif placed.model is not None and is_dataclass(inner):
            # What stands in JSON of any kind has no types.
            found += _unplaced(placed.model, inner)
    return found


def _classes(hint: Any) -> list[Any]:
    return [hint] if isinstance(hint, type) else [each for part in get_args(hint) for each in _classes(part)]


@pytest.mark.parametrize(("request_", "command"), REQUESTS, ids=_IDS)
def test_an_example_is_a_command_that_a_worker_takes(request_: type[Request], command: str) -> None:
    if request_.example is not None:
        data = request_.read(request_.example).data()
        hints = hints_of(COMMANDS[command])
        given = dict.fromkeys(request_.outside_body & set(hints), "x")
        given |= {"kind": "attribute"} if command.startswith("directory.") else {}
        wire.parse_data(command, msgspec.json.encode({**given, **data}))
