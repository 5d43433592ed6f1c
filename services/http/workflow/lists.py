"""The workflow dialect's queries: parameters checked before anything is asked, and pages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from services.http.core.call import Call
from services.http.core.errors import ApiError
from services.http.core.models import From, View, names
from services.http.workflow.models import Activity, ActivityAttributes
from services.http.workflow.related import (
    MemberAttributes,
    Node,
    NodeAttributes,
    PeriodAttributes,
    Project,
    ProjectAttributes,
    WorkUnit,
    WorkUnitAttributes,
)

Parameters = dict[str, list[str]]
Json = dict[str, Any]
# The attributes of each type of resource.
ATTRIBUTES: Mapping[str, list[str]] = {
    "workflow/activities": names(ActivityAttributes),
    "workflow/projects": names(ProjectAttributes),
    "workflow/work_units": names(WorkUnitAttributes),
    "workflow/nodes": names(NodeAttributes),
    "workflow/project/members": names(MemberAttributes),
    "workflow/work_periods": names(PeriodAttributes),
}
# What `included` may name beside activities.
RELATED = ("project", "work_unit", "node")
# The types of what `included` may name beside any resource.
TYPE_OF: Mapping[str, str] = {
    "project": "workflow/projects",
    "work_unit": "workflow/work_units",
    "node": "workflow/nodes",
    "nodes": "workflow/nodes",
    "members": "workflow/project/members",
    "activity": "workflow/activities",
    "activity.work_unit": "workflow/work_units",
}
# Lists of ids are given by repeating a parameter.
MAX_PARAMETERS = 1100
OF_ONE = ("included", "fields[type]", "min_position")
OF_LIST = ("page[number]", "page[size]", "sort", "count", "filter[…]", *OF_ONE)
_FIELDS = re.compile(r"fields\[([a-z_/]+)\](\[\])?\Z")


# Answers.

# Each stands there once; the key itself is there when it was asked for.
Included = Annotated[list[Project | WorkUnit | Node], Field(description="What `included` asks for, each once")]


class Found(View):
    """The activity"""

    data: Annotated[Activity, From("")]
    included: Included = Field([])


class PageMeta(View):
    number: int = Field(examples=[1])
    size: int = Field(examples=[1000])


class Meta(View):
    page: PageMeta
    count: int = Field(0, description="All that there are, when it was asked for")


class Links(View):
    prev: str | None
    next: str | None


class Page(View):
    """A page"""

    data: list[Activity]
    included: Included = Field([])
    meta: Meta
    links: Links


def address(call: Call, page: int) -> str:
    """Return the address of another page of the same query."""
    parts = call.scope["query_string"].decode("latin-1").split("&")
    begins = ("page[number]=", "page%5Bnumber%5D=", "page%5bnumber%5d=", "min_position=")
    kept = [part for part in parts if part and not part.startswith(begins)]
    return f"{call.scope['path']}?{'&'.join([*kept, f'page%5Bnumber%5D={page}'])}"


# What is shown beside resources, and what of all of them.


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be included, and the attributes of each type; of a type that is not named, all of them."""

    included: set[str]
    fields: Mapping[str, Sequence[str]]

    @classmethod
    def take(cls, parameters: Parameters, related: Sequence[str] = RELATED) -> Wanted:
        """Take both out of the parameters."""
        included = set(_texts(parameters, "included"))
        if not included <= set(related):
            detail = f"included may name {', '.join(related)}" if related else "nothing can be included here"
            raise ApiError("bad-filter", detail, parameter="included")
        fields: dict[str, list[str]] = {}
        for parameter in [name for name in parameters if name.startswith("fields")]:
            match = _FIELDS.match(parameter)
            kind = match[1] if match is not None else ""
            if kind not in ATTRIBUTES:
                raise ApiError("bad-filter", f"types are {', '.join(ATTRIBUTES)}", parameter=parameter)
            if parameter in parameters:
                fields[kind] = _texts(parameters, parameter.removesuffix("[]"))
                if not set(fields[kind]) <= set(ATTRIBUTES[kind]):
                    detail = f"{kind} has {', '.join(ATTRIBUTES[kind])}"
                    raise ApiError("bad-filter", detail, parameter=parameter)
        return cls(included, fields)

    def narrow(self, *resources: Json) -> None:
        """Leave out the attributes that are not wanted."""
        for resource in resources if self.fields else ():
            kept = self.fields.get(resource["type"])
            if kept is not None:
                resource["attributes"] = {name: its for name, its in resource["attributes"].items() if name in kept}


def _texts(parameters: Parameters, name: str) -> list[str]:
    """Take a list that is given by commas, by brackets, or by being repeated."""
    given = [*parameters.pop(name, ()), *parameters.pop(f"{name}[]", ())]
    return [text for value in given for text in value.split(",") if text]
