"""The OpenAPI document: every endpoint as its package describes it, with what all operations share."""

from __future__ import annotations

from itertools import chain, count
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.routing import APIRoute

from services.http import components, examples

Json = dict[str, Any]
_encode = msgspec.json.Encoder().encode

_KEY: Json = {
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


def document(app: FastAPI) -> Json:
    """Return the document of an application's routes."""
    paths: dict[str, Json] = {}
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in sorted(route.methods or ()):
                paths.setdefault(route.path_format, {})[method.lower()] = _operation(route)
    responses = _shared_responses(paths)
    return {
        "openapi": "3.1.0",
        "info": {"title": app.title, "version": app.version, "description": examples.DESCRIPTION},
        "tags": examples.TAGS,
        "paths": paths,
        "components": {
            "schemas": components.shared(),
            "responses": responses,
            "headers": _HEADERS,
            "securitySchemes": {"apiKey": _KEY},
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


def _operation(route: APIRoute) -> Json:
    # An endpoint's own words are taken as they stand; FastAPI would drop every null from its examples.
    said = dict(route.openapi_extra or {})
    responses = {str(status): dict(response) for status, response in said.pop("responses").items()}
    public = route.tags == ["operations"]
    for status, response in responses.items():
        names = ["X-Request-Id"]
        names += ["Retry-After"] if status in _LATER else []
        names += ["WWW-Authenticate"] if status == "401" else []
        shared = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        response["headers"] = {**response.get("headers", {}), **shared}
    operation = {"operationId": route.operation_id, "tags": list(route.tags), "summary": route.summary}
    if route.description:
        operation["description"] = route.description
    return {**operation, **said, "responses": responses, "security": [] if public else [{"apiKey": []}]}
