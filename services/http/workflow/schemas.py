"""JSON schemas of the dialect's documents."""

from __future__ import annotations

from services.http.workflow.shapes import ACTIVITY, ATTRIBUTES, NODE, PROJECT, RELATED, STATUSES, WORK_UNIT, Json

_TEXT: Json = {"type": "string"}
_TEXT_OR_NULL: Json = {"type": ["string", "null"]}
_WHOLE: Json = {"type": "integer"}
_SECONDS: Json = {"type": "number", "minimum": 0}
_TIME: Json = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Json = {"type": ["string", "null"], "format": "date-time"}
_OBJECT: Json = {"type": "object"}
_STATUS: Json = {"type": "string", "enum": list(STATUSES.values())}
_PEOPLE: Json = {
    "type": "array",
    "items": {"type": ["integer", "string"]},
    "description": "Account numbers; whoever has none is named by id",
}


def _closed(properties: Json, required: bool = True) -> Json:
    schema: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": list(properties)} if required else schema


def _resource(kind: str, attributes: Json, relationships: Json | None = None) -> Json:
    # `fields` may leave any attribute out.
    shown: Json = {"type": {"const": kind}, "id": _TEXT, "attributes": _closed(attributes, required=False)}
    return _closed({**shown, **({"relationships": relationships} if relationships else {})})


_KINDS: dict[str, Json] = {
    ACTIVITY: {
        "id": _TEXT,
        "assigned_account_id": {"type": ["integer", "null"]},
        "name": _TEXT_OR_NULL,
        "status": _STATUS,
        "started_at": _TIME_OR_NULL,
        "completed_at": _TIME_OR_NULL,
        "try_resolve_at": _TIME_OR_NULL,
        "actor_roles": {"type": "array", "items": _TEXT},
        "whitelisted_ids": _PEOPLE,
        "blacklisted_ids": _PEOPLE,
        "working_seconds": _SECONDS,
        "live_seconds": _SECONDS,
        "pipeline_seconds": _SECONDS,
        "data": _OBJECT,
        "output": {"type": ["object", "null"]},
        "indicators": _closed({name: {"type": "boolean"} for name in ("overdue", "late", "unresolved", "dispatched")}),
        "created_at": _TIME,
    },
    PROJECT: {"id": _TEXT, "name": _TEXT_OR_NULL, "fields": _OBJECT},
    WORK_UNIT: {
        "id": _TEXT,
        "name": _TEXT,
        "status": _STATUS,
        "sub_status": _TEXT_OR_NULL,
        "progress": {"type": "object", "additionalProperties": _WHOLE},
        "started_at": _TIME_OR_NULL,
        "completed_at": _TIME_OR_NULL,
        "working_seconds": _SECONDS,
        "live_seconds": _SECONDS,
        "pipeline_seconds": _SECONDS,
        "data": _OBJECT,
        "created_at": _TIME,
    },
    NODE: {"id": _TEXT, "name": _TEXT_OR_NULL, "step": _WHOLE, "flow": _TEXT_OR_NULL, "flow_id": _TEXT_OR_NULL},
}
if {kind: tuple(attributes) for kind, attributes in _KINDS.items()} != dict(ATTRIBUTES):
    raise ValueError("the schemas are of other attributes than the resources")
_RELATIONSHIPS = _closed(
    {
        name: _closed({"data": {"oneOf": [_closed({"type": {"const": kind}, "id": _TEXT}), {"type": "null"}]}})
        for name, kind in RELATED.items()
    }
)
_ACTIVITY = _resource(ACTIVITY, _KINDS[ACTIVITY], _RELATIONSHIPS)
_INCLUDED: Json = {
    "type": "array",
    "items": {"oneOf": [_resource(kind, _KINDS[kind]) for kind in (PROJECT, WORK_UNIT, NODE)]},
}
ACTIVITY_DOCUMENT: Json = {**_closed({"data": _ACTIVITY, "included": _INCLUDED}), "required": ["data"]}
_META: Json = {
    **_closed({"page": _closed({"number": _WHOLE, "size": _WHOLE}), "count": _WHOLE}),
    "required": ["page"],
}
LIST_DOCUMENT: Json = {
    **_closed(
        {
            "data": {"type": "array", "items": _ACTIVITY},
            "included": _INCLUDED,
            "meta": _META,
            "links": _closed({"prev": _TEXT_OR_NULL, "next": _TEXT_OR_NULL}),
        }
    ),
    "required": ["data", "meta", "links"],
}
UNIT_DOCUMENT: Json = _closed({"data": _resource(WORK_UNIT, _KINDS[WORK_UNIT])})
RECEIPT: Json = _closed({"meta": _closed({"command_id": _TEXT, "receipt": _TEXT})})
ERRORS: Json = _closed(
    {
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": _closed(
                {
                    "status": _TEXT,
                    "title": _TEXT,
                    "detail": _TEXT,
                    "source": _closed({"pointer": _TEXT, "parameter": _TEXT}, required=False),
                }
            ),
        }
    }
)
