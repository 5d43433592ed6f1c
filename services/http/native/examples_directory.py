"""What the OpenAPI document says of the directory's endpoints."""

from __future__ import annotations

from services.http.native.components import ENTITY_ID, page_of, ref, shape
from services.http.native.examples import (
    CURSOR,
    ID,
    KEY,
    LIMIT,
    LOCATION,
    MIN_POSITION,
    UNDECIDED,
    Json,
    answer,
    link,
    parameter,
    problems,
)
from services.http.native.examples_bulks import BULK_ID, RECEIPT

# What can become of an entry of a list.
OUTCOMES = ("registered", "unchanged", "refused", "undecided")

_KIND: Json = {**parameter("kind", "What kind of entry", place="path"), "schema": ref("Kind")}
_RETIRED = parameter("retired", "Retired entries too", "boolean", default=False)
_AT = "2025-10-31T01:50:00.000Z"
_MEMBER = {
    "name": "Ann",
    "email": "ann@example.com",
    "actor_roles": ["driver"],
    "projects": {"p1": {"is_manager": True}},
}
_ENTRY: Json = {
    "kind": "member",
    "id": "ann",
    "fields": {**_MEMBER, "account_id": 1001},
    "retired": False,
    "created_at": _AT,
    "created_by": "system",
    "updated_at": _AT,
    "version": 1,
    "position": 7,
}
_FIELDS: Json = {
    "type": "object",
    "description": "The entry's own fields, any JSON; those below mean something to the service",
    "properties": {
        "name": {"type": ["string", "null"], "minLength": 1, "maxLength": 200},
    },
    "additionalProperties": True,
}
_NEW: Json = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "id": {**ENTITY_ID, "type": ["string", "null"], "description": "given out if it is left out"},
        "fields": _FIELDS,
    },
}
_MANY: Json = {
    "type": "object",
    "required": ["entries"],
    "additionalProperties": False,
    "properties": {
        "entries": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1000,
            "items": {"description": "an entry; one of another shape is refused by itself, and stops no other"},
        },
        "background": {"type": "boolean", "default": False, "description": "answer before the entries are sent"},
    },
}
_COUNT: Json = {"type": "integer", "minimum": 0}
_OUTCOME: Json = {
    "type": "object",
    "required": ["status"],
    "additionalProperties": False,
    "properties": {
        "status": {"type": "string", "enum": list(OUTCOMES)},
        "id": {"type": ["string", "null"]},
        "position": {"type": ["integer", "null"], "description": "for `min_position`"},
        "error": ref("Refusal"),
        "receipt": {"type": "string", "description": "where an undecided entry's outcome will be"},
    },
}
_RESULTS = shape(
    **dict.fromkeys(OUTCOMES, _COUNT),
    position={"type": ["integer", "null"], "description": "the highest one, for `min_position`"},
    entries={"type": "array", "items": _OUTCOME, "description": "in the order of the request"},
)
_RESULTS["properties"]["receipt"] = {"type": "string", "description": "of a list that is registered in the background"}
_UNKNOWN_YET: Json = {
    **UNDECIDED,
    "description": "The outcome of the entry, or of some entries of a list, is not known yet; look at the receipts",
    "content": {
        "application/json": {
            "schema": {"anyOf": [ref("Undecided"), _RESULTS]},
            "examples": {
                "one": {"value": UNDECIDED["content"]["application/json"]["example"]},
                "many": {
                    "summary": "A list in the background",
                    "value": {
                        **dict.fromkeys(OUTCOMES, 0),
                        "undecided": 1,
                        "position": None,
                        "receipt": f"/v1/bulks/{BULK_ID}",
                        "entries": [{"status": "undecided", "id": "h1", "receipt": RECEIPT}],
                    },
                },
            },
        }
    },
}
_LINKS = {
    name: link(operation, text, kind="$request.path.kind", id="$response.body#/id")
    for name, operation, text in (
        ("get", "get_directory_entry", "Read it"),
        ("change", "change_directory_entry", "Change it"),
        ("retire", "retire_directory_entry", "Retire it"),
    )
}

REGISTER: Json = {
    "operationId": "register_directory_entries",
    "tags": ["directory"],
    "summary": "Register an entry, or up to 1000 at once",
    "description": "Whatever is registered may be referred to by the next command at once. Registering the same again "
    "is accepted and changes nothing. A list is no transaction: each entry is registered or refused by itself; with "
    "an `Idempotency-Key` each has a key of its own by its place in the list. Two entries of one id in a list: the "
    "second is refused. A list is waited for as its length demands; with `background` it is answered at once, and its "
    "`receipt` says how far it is.\n\nWhat a kind demands of its fields (a member's `email`, a `policy`'s `value`, …) "
    "is said in the documentation of the domain.",
    "parameters": [_KIND, KEY],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [_NEW, _MANY]},
                "examples": {
                    "one": {"summary": "A member", "value": {"id": "ann", "fields": _MEMBER}},
                    "many": {
                        "summary": "Two hubs",
                        "value": {"entries": [{"id": "h1", "fields": {"name": "North"}}, {"id": "h2"}]},
                    },
                },
            }
        },
    },
    "responses": {
        "200": {
            "description": "The entry, which was there already; or what became of each entry of a list",
            "content": {
                "application/json": {
                    "schema": {"anyOf": [ref("Entry"), _RESULTS]},
                    "examples": {
                        "one": {"value": _ENTRY},
                        "many": {
                            "value": {
                                "registered": 1,
                                "unchanged": 0,
                                "refused": 1,
                                "undecided": 0,
                                "position": 8,
                                "entries": [
                                    {"status": "registered", "id": "h1", "position": 8},
                                    {
                                        "status": "refused",
                                        "error": {
                                            "code": "taken",
                                            "detail": "hub h2 is registered with other fields",
                                            "pointer": "/entries/1/id",
                                        },
                                    },
                                ],
                            }
                        },
                    },
                }
            },
        },
        "201": answer("Registered", _ENTRY, schema=ref("Entry"), headers=LOCATION, links=_LINKS),
        "202": _UNKNOWN_YET,
        **problems(400, 404, 409, 413, 415, 422),
    },
}
LIST: Json = {
    "operationId": "list_directory_entries",
    "tags": ["directory"],
    "summary": "List the entries of a kind by id",
    "parameters": [_KIND, _RETIRED, LIMIT, CURSOR, MIN_POSITION],
    "responses": {
        "200": answer("A page", {"data": [_ENTRY], "next": None}, schema=page_of("Entry")),
        **problems(400, 404),
    },
}
GET: Json = {
    "operationId": "get_directory_entry",
    "tags": ["directory"],
    "summary": "Read one entry",
    "parameters": [_KIND, ID, _RETIRED, MIN_POSITION],
    "responses": {"200": answer("The entry", _ENTRY, schema=ref("Entry")), **problems(400, 404)},
}
CHANGE: Json = {
    "operationId": "change_directory_entry",
    "tags": ["directory"],
    "summary": "Change fields of an entry",
    "description": "Fields that are left out stay as they are; null takes one away.",
    "parameters": [_KIND, ID, KEY],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["fields"],
                    "additionalProperties": False,
                    "properties": {"fields": _FIELDS},
                },
                "example": {"fields": {"name": "Ann B.", "actor_roles": None}},
            }
        },
    },
    "responses": {
        "200": answer("The entry as it is now", _ENTRY, schema=ref("Entry")),
        "202": UNDECIDED,
        **problems(400, 404, 409, 413, 415, 422),
    },
}
RETIRE: Json = {
    "operationId": "retire_directory_entry",
    "tags": ["directory"],
    "summary": "Retire an entry",
    "description": "No command may refer to it any more; what refers to it keeps its id. It may be registered again. "
    "A member who is retired can do nothing, and its API keys let nobody in, even when it is registered again; the "
    "answer says which open tasks it has.",
    "parameters": [_KIND, ID, KEY],
    "responses": {
        "200": answer(
            "The entry as it was left",
            {**_ENTRY, "retired": True, "version": 2, "open_tasks": {"total": 1, "ids": ["t1"]}},
            schema=ref("RetiredEntry"),
        ),
        "202": UNDECIDED,
        **problems(400, 404, 409, 422),
    },
}
