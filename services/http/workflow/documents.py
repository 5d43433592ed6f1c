"""Requests that are JSON:API documents: a resource with its attributes, and what it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationInfo

from domain.limits import Id
from services.http.core.models import Json, Request, To, refuse
from services.http.workflow.errors import Body


def _same_id(value: Any, info: ValidationInfo) -> Any:
    if value is not None and str(value) != (info.context or {}).get("id"):
        refuse("invalid", "the id is the one in the path")
    return value


# A change may repeat the id of the path; ids are given by the service.
ResourceId = Annotated[str | int | None, BeforeValidator(_same_id), To(None), Field(description="The id of the path")]


class Document(Body):
    """A JSON:API document; a subclass has the resource as `resource`, whose `attributes` are the command's data."""

    attributes: ClassVar[type[Request]]

    # What stands beside the attributes in the command's data, by its place there, and its place in the resource.
    beside: ClassVar[Mapping[str, str]] = {}

    def data(self) -> Json:
        """Return the command's data."""
        found: Json = self.resource.attributes.data()  # type: ignore[attr-defined]
        return found

    @classmethod
    def pointer(cls, place: str) -> str:
        """Return a place in the command's data as one in the request."""
        if place in cls.beside:
            return f"/data{cls.beside[place]}"
        inner = cls.attributes.pointer(place)
        return f"/data/attributes{inner}" if inner else ""


class ProjectLink(Request):
    type: Literal["workflow/projects"]
    id: Annotated[Id, Field(examples=["north"])]


class ToProject(Request):
    link: ProjectLink = Field(alias="data")
