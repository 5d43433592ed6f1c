"""The parameters of the workflow dialect's queries, as the OpenAPI document has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from projections.support.query import MAX_ROWS
from projections.task.pages import MAX_PAGES
from services.http.core.openapi import PERSON, PERSONS, deep_object, parameter
from services.http.workflow.filters import FILTERS, OBJECTS, OF_PEOPLE, SORTS
from services.http.workflow.lists import ATTRIBUTES, RELATED, TYPE_OF

Json = dict[str, Any]

_SEVERAL = "several with commas between"
# A text that the database can be asked for.
_TEXT: Json = {"pattern": r"^[^\x00]*$", "maxLength": 1000}
_ONE_OF: Json = {"type": "string", **_TEXT, "description": f"Has one of these, {_SEVERAL}"}
_TIME: Json = {"type": "string", "format": "date-time"}
_VALUES: dict[str, Json] = {
    **dict.fromkeys(("id", "name", "project_id", "work_unit_id", "actor_roles"), _TEXT),
    **{name: {"pattern": f"{PERSON['pattern']}|^$"} for name in OF_PEOPLE},
    **{name: {"contentMediaType": "application/json"} for name in OBJECTS},
    **{name: {"pattern": r"^(-?[0-9]{1,15}(\.[0-9]{1,9})?)?$"} for name in FILTERS if name.endswith("_seconds")},
    **{name: {"anyOf": [{"maxLength": 0}, {"format": "date-time"}]} for name in FILTERS if name.endswith("_at")},
}


def _filter(name: str) -> Json:
    kind = ", as JSON" if name in OBJECTS else f" (an account number, or {PERSONS})" if name in OF_PEOPLE else ""
    return {"type": "string", **_VALUES.get(name, {}), "description": f"`{name}` is this{kind}; empty: there is none"}


def _listed(name: str, description: str, words: Sequence[str]) -> Json:
    made = parameter(name, description, "array", items={"type": "string", "enum": list(words)})
    return {**made, "style": "form", "explode": False}


def _attributes_of(kind: str) -> Json:
    word = f"({'|'.join(ATTRIBUTES[kind])})"
    said = f"Just these of {kind}, {_SEVERAL}; an empty text asks for none at all"
    return {"type": "string", "pattern": f"^({word}(,{word})*)?$", "description": said}


def _whole(most: int, default: int, description: str) -> Json:
    return {"type": "integer", "minimum": 1, "maximum": most, "default": default, "description": description}


_FILTER = deep_object(
    "filter",
    "Every filter may have an operator behind its name, `filter[name__op]`: neq, lt, lte, gt, gte, in, match, prefix, "
    "suffix, contains and exists, as far as the attribute's type has a meaning for it; the others are a 422. Several "
    "values are given with commas between, or as `filter[status__in][]=a&filter[status__in][]=b`; none of them means "
    "that nothing is found. Objects are given as JSON, and times with their offset.",
    {
        **{name: _filter(name) for name in FILTERS},
        **dict.fromkeys(("name__in", "actor_roles__contains", "id__in", "status__in"), _ONE_OF),
        "assigned_account_id__in": {**_ONE_OF, **PERSON},
        "completed_at__gte": {**_TIME, "description": "Completed then or later"},
        "completed_at__lte": {**_TIME, "description": "Completed then or earlier"},
    },
    # There are more operators than a client could have a field for.
    others=True,
)


def _paged(sorts: Iterable[str]) -> tuple[Json, ...]:
    whole = {"number": _whole(MAX_PAGES, 1, "From 1"), "size": _whole(MAX_ROWS, MAX_ROWS, "Rows of a page")}
    return (
        deep_object("page", "Which page", whole),
        _listed("sort", "Order; - means descending", [way + name for name in sorts for way in ("", "-")]),
        parameter("count", "Whether `meta.count` says how many there are", "boolean"),
    )


def of_one(kind: str, related: Sequence[str] = ()) -> tuple[Json, ...]:
    """Return the parameters of reading a resource of a type, with what may be included."""
    kinds = dict.fromkeys((kind, *(TYPE_OF[name] for name in related)))
    said = "Attributes of each type of resource" if related else "Attributes of the resource"
    fields = deep_object("fields", said, {each: _attributes_of(each) for each in kinds})
    return (*((_listed("included", "What to bring along", sorted(related)),) if related else ()), fields)


SHOWN = of_one("workflow/activities", RELATED)
OF_ACTIVITIES = (
    *_paged(SORTS),
    _FILTER,
    *SHOWN,
)


def of_list(kind: str, filters: Iterable[str], sorts: Iterable[str], related: Sequence[str] = ()) -> tuple[Json, ...]:
    """Return the parameters of listing the resources of a type."""
    said = "Filters; an operator may stand behind the name, `filter[name__op]`, as with activities"
    flags = {name: {"pattern": "^(true|false|0|1)$"} for name in ("enabled", "readonly")}
    texts = {name: {"type": "string", **{**_VALUES, **flags}.get(name, _TEXT)} for name in filters}
    return (*_paged(sorts), deep_object("filter", said, texts, others=True), *of_one(kind, related))
