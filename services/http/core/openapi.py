"""The OpenAPI document, made from operations and their models."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from itertools import chain, count
from typing import Any

import msgspec
from pydantic import BaseModel

from projections.listing import PERSON as PERSON_FILTER
from projections.listing import Filter, Listing
from services.http.core import dry_runs
from services.http.core.call import JSON
from services.http.core.components import Components, component_name, examples_of
from services.http.core.operation import Operation
from services.http.core.parameters import POSITION, documented
from services.http.core.summary import INFO, TAGS
from services.http.core.tags import IF_MATCH, IF_NONE_MATCH

Json = dict[str, Any]
_encode = msgspec.json.Encoder().encode

_SECURITY: Json = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "fw_<id>_<secret>",
        "description": "An API key of `foldwork keys create`; it names the tenant, the actor and the permissions.",
    },
    "apiKeyHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}
_TEXT: Json = {"type": "string"}
_HEADERS: Json = {
    dry_runs.APPLIED: {"description": "`dry-run` where nothing was recorded for that reason", "schema": _TEXT},
    "X-Request-Id": {"description": "The request's id, as it stands in the log", "schema": _TEXT},
    "ETag": {"description": "What the state of the resource is called", "schema": _TEXT},
    POSITION: {
        "description": "The log position of a write, or one that a query shows at least; where it is known",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Retry-After": {"description": "Seconds to wait before the next try", "schema": _TEXT},
    "WWW-Authenticate": {"description": "How to authenticate", "schema": _TEXT},
}
# The commands that an operation may give, as an extension of the document.
COMMANDS_OF = "x-commands"
# The statuses of the answers that have a header; None for all.
_HEADERS_OF: dict[str, tuple[str, ...] | None] = {
    "X-Request-Id": None,
    "Retry-After": ("429", "503"),
    "WWW-Authenticate": ("401",),
}
_LOCATION: Json = {"Location": {"description": "Its address", "schema": _TEXT}}


def parameter(name: str, description: str, kind: str = "string", place: str = "query", **rest: Any) -> Json:
    """Return an OpenAPI parameter."""
    required = {"required": True} if place == "path" else {}
    return {"name": name, "in": place, "description": description, "schema": {"type": kind, **rest}, **required}


ID = parameter("id", "An id, as given out here or brought by a command", place="path")
KEY = parameter(
    "Idempotency-Key",
    "Makes repetitions take effect once; 1 to 255 printable characters",
    place="header",
    pattern="^[!-~]([ -~]{0,253}[!-~])?$",
)

_POSITION = parameter(
    POSITION, "The same as `min_position`, as the answer to a write says it", place="header", pattern="^[0-9]{1,18}$"
)

PERSONS = "a member id, an e-mail, `account:<number>` or `operator:<id>`"
# A person in a query, as in a command; any text beyond ASCII may stand in an address or an operator's id as well.
PERSON: Json = {
    "pattern": r"^[A-Za-z0-9_-]{1,64}$|^account:[1-9][0-9]{0,14}$|^operator:[!-+\--~]{1,200}$"
    r"|^[!-+\--9=?A-Z\[-~]{1,120}@[!-+\--9=?A-Z\[-~]{1,120}$"
}


# `*`, or tags with commas between.
_TAG_LIST = r'^(\*|(W/)?"[!#-~]*"(, (W/)?"[!#-~]*")*)$'


def _condition(name: str, description: str) -> Json:
    return parameter(name, description, place="header", pattern=_TAG_LIST)


_IF_MATCH = _condition(IF_MATCH, "Refuse unless the resource has this tag (412)")
_IF_NONE_MATCH = _condition(IF_NONE_MATCH, "Answer 304 if the resource has this tag still")
_UNCHANGED = {"description": "The caller has it already"}


def _filter(name: str, known: Filter) -> Json:
    if known.kind == "flag":
        return parameter(name, "Filter", "boolean")
    if known.kind == "time":
        way = "From this time on" if name.endswith("__gte") else "Until this time"
        return parameter(name, f"{way}; RFC 3339 with an offset", format="date-time")
    limits = PERSON if name == PERSON_FILTER else {"maxLength": 1000, "pattern": "^[^\\u0000]*$"}
    least: Json = {} if known.nullable else {"minLength": 1}
    if not known.several:
        return parameter(name, "Part of the title, in any case of letters", **least, **limits)
    # A value that is none of the words finds nothing, so they are examples.
    words: Json = {"examples": list(known.words)} if known.words else {}
    what = f"Filter: {PERSONS}" if name == PERSON_FILTER else "Filter"
    none = ", leave it empty for none" if known.nullable else ""
    items = {"type": "string", **limits, **words, **least}
    made = parameter(name, f"{what}; repeat it for several values{none}", "array", items=items)
    return {**made, "style": "form", "explode": True}


def listing_parameters(listing: Listing) -> tuple[Json, ...]:
    """Return the parameters for the filters and the sorts of a listing."""
    sorts = [way + name for name in listing.sorts for way in ("", "-")]
    sort = parameter("sort", "Order; - means descending", enum=sorts, default=listing.default)
    return (*(_filter(name, known) for name, known in listing.filters.items()), sort)


def deep_object(name: str, description: str, properties: Mapping[str, Json], others: bool = False) -> Json:
    """Return a parameter `name[property]` for each property, in the form that clients are generated from.

    With `others` there may be others. That these are texts is not said, since no TypeScript made of that compiles.
    """
    schema = {"type": "object", "properties": dict(properties), "additionalProperties": others}
    return {
        "name": name,
        "in": "query",
        "style": "deepObject",
        "explode": True,
        "description": description,
        "schema": schema,
    }


def about(operation: Operation, components: Components) -> Json:
    """Return the entry of an operation; the schemas that it refers to are added to `components`."""
    entry: Json = {"operationId": operation.name, "tags": [operation.dialect.tag], "summary": operation.summary}
    if operation.description:
        entry["description"] = operation.description
    own = {each["name"] for each in operation.parameters}
    placed = [ID] if re.search(r"{id(:path)?}", operation.path) and "id" not in own else []
    queried = documented(operation.query) if operation.query is not None else []
    served = operation.dialect.tag != "operations"
    headed = [KEY if operation.writes else _POSITION] if served and not operation.act else []
    if operation.tries:
        headed.append(dry_runs.PARAMETER)
    if tagged := served and operation.conditional:
        headed += [_IF_MATCH] if operation.writes else [_IF_MATCH, _IF_NONE_MATCH]
    parameters = [*placed, *operation.parameters, *queried, *headed, *operation.dialect.parameters]
    if parameters:
        entry["parameters"] = parameters
    if operation.request is not None:
        content = {"schema": components.ref(operation.request), **examples_of(operation.request)}
        media = dict.fromkeys((JSON, operation.dialect.media), content)
        entry["requestBody"] = {"required": not operation.body_optional, "content": media}
    entry["responses"] = _responses(operation, components)
    for status, response in entry["responses"].items():
        names = [name for name, statuses in _HEADERS_OF.items() if statuses is None or status in statuses]
        names += [POSITION] if served and status[0] == "2" else []
        names += [dry_runs.APPLIED] if operation.tries and status == "200" else []
        names += ["ETag"] if status in ("201", "304") or (tagged and status == "200") else []
        response["headers"] = {
            **response.get("headers", {}),
            **{name: {"$ref": f"#/components/headers/{name}"} for name in names},
        }
    entry["security"] = [{name: []} for name in _SECURITY] if operation.permission else []
    if operation.commands:
        entry[COMMANDS_OF] = list(operation.commands)
    return entry


def _responses(operation: Operation, components: Components) -> Json:
    dialect = operation.dialect
    found: Json = {}
    if operation.view is None:
        found[str(operation.status)] = {"description": "Done"}
    else:
        found[str(operation.status)] = _success(operation, operation.view, components, operation.example)
        if operation.links:
            found[str(operation.status)]["links"] = {
                name: {"operationId": link.operation, "parameters": link.parameters}
                for name, link in operation.links.items()
            }
        if operation.located:
            found[str(operation.status)]["headers"] = _LOCATION
    for status, view in operation.also.items():
        found[str(status)] = _success(operation, view, components)
    if operation.writes and "202" not in found:
        found["202"] = {**_success(operation, dialect.undecided, components), "headers": _LOCATION}
    if operation.tries:
        tried = found.setdefault("200", {"description": "What a dry run found"})
        tried.setdefault("content", {})[dry_runs.MEDIA] = dry_runs.ANSWER
    if operation.conditional and not operation.writes and dialect.tag != "operations":
        found["304"] = dict(_UNCHANGED)
    for status in operation.statuses:
        failure = dialect.failure(operation.topic, status)
        if failure is not None:
            description, example = failure
            content = {"schema": components.ref(dialect.failure_view), "example": example}
            found[str(status)] = {"description": description, "content": {dialect.failure_media: content}}
    return found


def _success(operation: Operation, view: type[BaseModel], components: Components, example: Any = None) -> Json:
    shown = examples_of(view) if example is None else {"example": example}
    content = {"schema": components.ref(view), **shown}
    description = inspect.cleandoc(view.__doc__ or component_name(view)).partition("\n\n")[0].replace("\n", " ")
    return {"description": description, "content": {operation.dialect.media: content}}


def document(operations: Iterable[Operation], components: Components) -> Json:
    """Return the document of operations; the schemas that they refer to are added to `components`."""
    paths: dict[str, Json] = {}
    for operation in operations:
        entry = paths.setdefault(operation.path.replace(":path}", "}"), {})
        entry[operation.method.lower()] = about(operation, components)
    responses = _shared_responses(paths)
    return {
        "openapi": "3.1.0",
        "info": INFO,
        "tags": TAGS,
        "paths": paths,
        "components": {
            "schemas": components.schemas,
            "responses": responses,
            "headers": _HEADERS,
            "securitySchemes": _SECURITY,
        },
    }


def _shared_responses(paths: Json) -> Json:
    """Put each error that several operations answer alike into one place, and return these places by name."""
    uses: dict[bytes, list[tuple[Json, str, str]]] = {}
    for operations in paths.values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status[0] in "45":
                    name = f"{operation['tags'][0].capitalize()}{status}"
                    uses.setdefault(_encode(response), []).append((operation["responses"], status, name))
    shared: Json = {}
    for encoded, found in uses.items():
        if len(found) == 1:
            continue
        wanted = found[0][2]
        names = chain((wanted,), (f"{wanted}_{number}" for number in count(2)))
        name = next(name for name in names if name not in shared)
        shared[name] = msgspec.json.decode(encoded)
        for responses, status, _ in found:
            responses[status] = {"$ref": f"#/components/responses/{name}"}
    return shared
