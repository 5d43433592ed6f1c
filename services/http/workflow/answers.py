"""The workflow dialect's whole answers: JSON:API documents."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from services.http.core.models import From, Json, View
from services.http.workflow.views import Activity, Node, Project, WorkUnit

# Each stands there once; the key itself is there when it was asked for.
Included = Annotated[list[Project | WorkUnit | Node], Field(description="What `included` asks for, each once")]


class Changed(View):
    """As it is now"""

    data: Annotated[Activity, From("")]


class UnitChanged(View):
    """As it is now"""

    data: Annotated[WorkUnit, From("")]


class Found(View):
    """The activity"""

    data: Annotated[Activity, From("")]
    included: Included = Field([])


class PageMeta(View):
    number: int
    size: int


class Meta(View):
    page: PageMeta
    count: int = Field(0, description="All that there are, when it was asked for")

    example: ClassVar[Json] = {"page": {"number": 1, "size": 1000}}


class Links(View):
    prev: str | None
    next: str | None

    example: ClassVar[Json] = {"prev": None, "next": None}


class Page(View):
    """A page"""

    data: list[Activity]
    included: Included = Field([])
    meta: Meta
    links: Links


class Receipt(View):
    command_id: str = Field(examples=["c-1"])
    receipt: str = Field(examples=["/v1/commands/c-1"])


class Accepted(View):
    """No answer yet; look at the receipt"""

    meta: Annotated[Receipt, From("")]


class Source(View):
    """The parameter at fault, or a place in the body"""

    pointer: str = ""
    parameter: str = ""


class Error(View):
    status: str
    title: str
    detail: str
    source: Source


class Errors(View):
    """A refusal"""

    errors: list[Error] = Field(min_length=1)
