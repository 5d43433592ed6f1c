"""Models made of others: a request of a domain's dataclass, the request that changes it, its view, and examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field

from domain.limits import Id, Items, Number, Title
from services.http.core.components import Components, component_name, example_of
from services.http.core.deriving import change_of, request_of, view_of
from services.http.core.errors import ApiError
from services.http.core.models import From, Json, Request, To, View


@dataclass(frozen=True)
class Wheel:
    size: Annotated[int, Number(1, 40)]


@dataclass(frozen=True)
class Car:
    name: Title
    id: Id | None = None
    colour: Literal["red", "blue"] = "red"
    wheels: Annotated[tuple[Wheel, ...], Items(4)] = ()
    labels: dict[str, str] = field(default_factory=dict)
    owner: Id | None = None


class Base(Request):
    """What both requests have as their base."""


NewWheel = request_of(Wheel, "NewWheel", Base, "A wheel.", {"size": {"examples": [16]}})
NewCar = request_of(
    Car, "NewCar", Base, "A car.", {"owner": {"alias": "ownerId", "description": "Whose it is"}}, {Wheel: NewWheel}
)
NewCar.example = {"name": "Duck", "wheels": [{"size": 16}], "ownerId": "ann"}
CarChange = change_of(NewCar, "owner")


def _schema(model: type[Any]) -> tuple[Json, Components]:
    components = Components()
    components.ref(model)
    return components.schemas[component_name(model)], components


def test_a_request_has_the_fields_of_the_dataclass_with_their_limits_and_no_id() -> None:
    schema, components = _schema(NewCar)
    assert (schema["description"], schema["required"]) == ("A car.", ["name"])
    assert list(schema["properties"]) == ["name", "colour", "wheels", "labels", "ownerId"]
    assert schema["properties"]["name"]["maxLength"] == 200
    assert schema["properties"]["wheels"] == {"type": "array", "items": components.ref(NewWheel), "maxItems": 4}
    assert schema["properties"]["ownerId"]["description"] == "Whose it is"
    wheel = components.schemas[component_name(NewWheel)]
    assert (wheel["properties"]["size"]["maximum"], wheel["required"]) == (40, ["size"])


def test_what_it_reads_is_the_data_of_the_command_and_places_are_the_callers() -> None:
    body = {"name": "Duck", "wheels": [{"size": 16}], "ownerId": "ann"}
    assert NewCar.read(body).data() == {"name": "Duck", "wheels": [{"size": 16}], "owner": "ann"}
    assert NewCar.pointer("/owner") == "/ownerId"
    assert NewCar.pointer("/wheels/0/size") == "/wheels/0/size"


@pytest.mark.parametrize(
    ("model", "body", "pointer"),
    [
        (NewCar, {}, "/name"),
        (NewCar, {"name": "Duck", "id": "c1"}, "/id"),
        (NewCar, {"name": "Duck", "owner": "ann"}, "/owner"),
        (NewCar, {"name": "Duck", "wheels": [{"size": "16"}]}, "/wheels/0/size"),
        (NewCar, {"name": "Duck", "colour": "green"}, "/colour"),
        (CarChange, {"ownerId": "bob"}, "/ownerId"),
        (CarChange, {"name": None}, "/name"),
    ],
)
def test_what_does_not_fit_is_refused_at_its_place(model: type[Request], body: Json, pointer: str) -> None:
    with pytest.raises(ApiError) as caught:
        model.read(body)
    assert caught.value.pointer == pointer


def test_a_change_needs_nothing_and_keeps_what_is_fixed() -> None:
    assert CarChange.read({}).data() == {}
    assert CarChange.read({"colour": "blue"}).data() == {"colour": "blue"}
    schema, _ = _schema(CarChange)
    assert list(schema["properties"]) == ["name", "colour", "wheels", "labels"]
    assert "required" not in schema
    assert not any("default" in each for each in schema["properties"].values())
    assert example_of(CarChange) == {"name": "Duck", "wheels": [{"size": 16}]}
    # The request that it is made of is as it was.
    assert NewCar.model_fields["name"].is_required()


class NewShelf(Base):
    """A shelf."""

    name: Annotated[Title, To("id")]
    places: Annotated[int | None, To("fields/places")] = None
    books: Annotated[list[Title], Items(9), To("fields/books")] = Field([])

    example: ClassVar[Json] = {"name": "A", "places": 3}


class Camel(View):
    """What the view has as its base."""


Shelf = view_of(
    NewShelf,
    Camel,
    "A shelf as it is",
    {"books": Annotated[int, From("fields/books", lambda found, _: len(found or ()), default=None)]},
    at=Annotated[str, From("made_at")],
)


def test_a_view_shows_each_field_from_its_place_and_without_its_limits() -> None:
    resource = {"id": "A", "fields": {"places": 3, "books": ["x", "y"]}, "made_at": "now"}
    assert Shelf.show(resource) == {"name": "A", "places": 3, "books": 2, "at": "now"}
    assert Shelf.show({"id": "A", "fields": {}, "made_at": "now"}) == {
        "name": "A",
        "places": None,
        "books": 0,
        "at": "now",
    }
    schema, _ = _schema(Shelf)
    assert schema["required"] == ["name", "places", "books", "at"]
    assert "maxLength" not in schema["properties"]["name"]
    with pytest.raises(KeyError):
        Shelf.show({"fields": {}, "made_at": "now"})


class Inner(View):
    kind: Literal["x"]


class Nameless(View):
    name: str


class Plain(View):
    there: bool
    text: str = Field(examples=["a"])
    many: list[str]
    map: dict[str, int]
    nothing: str | None
    number: float
    inner: list[Inner]


def test_a_field_without_an_example_has_the_plainest_value_of_its_type_and_a_text_must_have_one() -> None:
    assert example_of(Plain) == {
        "there": False, "text": "a", "many": [], "map": {}, "nothing": None, "number": 0.0, "inner": [{"kind": "x"}],
    }  # fmt: skip
    with pytest.raises(ValueError, match="has no example"):
        example_of(Nameless)
