"""The OpenAPI document, made from operations and their models."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from itertools import chain, count
from typing import Any

import msgspec
from pydantic import BaseModel

from services.http.core.call import JSON
from services.http.core.components import Components, component_name, examples_of
from services.http.core.operation import Operation
from services.http.core.parameters import documented

Json = dict[str, Any]
_encode = msgspec.json.Encoder().encode

_SECURITY: Json = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "fw_<id>_<secret>",
    "description": "An API key, made by `foldwork keys create`; it names the tenant, the actor and the permissions.",
}
_TEXT: Json = {"type": "string"}
_HEADERS: Json = {
    "X-Request-Id": {"description": "The request's id, as it stands in the log", "schema": _TEXT},
    "Retry-After": {"description": "Seconds to wait before the next try", "schema": _TEXT},
    "WWW-Authenticate": {"description": "How to authenticate", "schema": _TEXT},
}
# One of these is answered to what comes while a part of the service is away, or while it is full.
_LATER = ("429", "503")
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

PERSONS = "a member id, an e-mail, `account:<number>` or `operator:<id>`"
# A person in a query, as in a command; any text beyond ASCII may stand in an address or an operator's id as well.
PERSON: Json = {
    "pattern": r"^[A-Za-z0-9_-]{1,64}$|^account:[1-9][0-9]{0,14}$|^operator:[!-+\--~]{1,200}$"
    r"|^[!-+\--9=?A-Z\[-~]{1,120}@[!-+\--9=?A-Z\[-~]{1,120}$"
}


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
    keyed = [KEY] if operation.writes else []
    parameters = [*placed, *operation.parameters, *queried, *keyed, *operation.dialect.parameters]
    if parameters:
        entry["parameters"] = parameters
    if operation.request is not None:
        content = {"schema": components.ref(operation.request), **examples_of(operation.request)}
        media = dict.fromkeys((JSON, operation.dialect.media), content)
        entry["requestBody"] = {"required": not operation.body_optional, "content": media}
    entry["responses"] = _responses(operation, components)
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
    for status in operation.statuses:
        failure = dialect.failure(operation.topic, status)
        if failure is not None:
            description, example = failure
            content = {"schema": components.ref(dialect.failure_view), "example": example}
            found[str(status)] = {"description": description, "content": {dialect.failure_media: content}}
    return found


def _success(operation: Operation, view: type[BaseModel] | str, components: Components, example: Any = None) -> Json:
    content: Json = {"schema": components.ref(view)}
    if isinstance(view, str):
        description = view
    else:
        description = inspect.cleandoc(view.__doc__ or component_name(view)).partition("\n\n")[0].replace("\n", " ")
        content |= examples_of(view) if example is None else {}
    if example is not None:
        content["example"] = example
    return {"description": description, "content": {operation.dialect.media: content}}


def document(info: Json, tags: list[Json], operations: Iterable[Operation], components: Components) -> Json:
    """Return the document of operations; the schemas that they refer to are added to `components`."""
    paths: dict[str, Json] = {}
    for operation in operations:
        entry = paths.setdefault(operation.path.replace(":path}", "}"), {})
        entry[operation.method.lower()] = _whole(about(operation, components))
    responses = _shared_responses(paths)
    return {
        "openapi": "3.1.0",
        "info": info,
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": components.schemas,
            "responses": responses,
            "headers": _HEADERS,
            "securitySchemes": {"apiKey": _SECURITY},
        },
    }


def _whole(entry: Json) -> Json:
    """Return the entry of an operation with what all of them have: the headers of its answers, and its security."""
    entry = dict(entry)
    responses = {str(status): dict(response) for status, response in entry.pop("responses").items()}
    public = entry["tags"] == ["operations"]
    for status, response in responses.items():
        names = ["X-Request-Id"]
        names += ["Retry-After"] if status in _LATER else []
        names += ["WWW-Authenticate"] if status == "401" else []
        shared = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        response["headers"] = {**response.get("headers", {}), **shared}
    return {**entry, "responses": responses, "security": [] if public else [{"apiKey": []}]}


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
