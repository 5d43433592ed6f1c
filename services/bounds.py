"""The limits of the domain as keywords of JSON Schema."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin, is_typeddict

from pydantic_core import core_schema

from domain import limits
from domain.limits import INSTANT, Items, Limit, Number, Text

Schema = dict[str, Any]

_TYPES = {str: "string", int: "integer", bool: "boolean"}


def bounded(schema: Schema, hint: Any) -> Schema:
    """Add the limits of a type to its schema; references to other schemas are kept."""
    hint, null = _present(hint)
    bare, marks = limits.limits_of(hint)
    made = dict(schema)
    if null and "anyOf" in made:
        first, *rest = made["anyOf"]
        return {**made, "anyOf": [bounded(first, hint), *rest]}
    origin, inner = get_origin(bare), get_args(bare)
    if origin in (tuple, list):
        made["items"] = bounded(made.get("items", {}), inner[0])
    elif origin is dict and not any(isinstance(mark, limits.Json) for mark in marks):
        made["additionalProperties"] = bounded(made.get("additionalProperties", {}), inner[1])
        made["propertyNames"] = _keywords(limits.limits_of(inner[0])[1][0], {})
    for mark in marks:
        made |= _keywords(mark, made)
    return made


def _keywords(limit: Limit, schema: Schema) -> Schema:
    match limit:
        case Text(least, most, pattern):
            kept: Schema = {"minLength": least} if least else {}
            kept["maxLength"] = most
            if pattern is not None:
                kept["pattern"] = f"^{pattern}$"
            return {**kept, "format": "date-time"} if pattern == INSTANT else kept
        case Number(least, most, whole):
            return {**({} if whole else {"type": "number"}), "minimum": least, "maximum": most}
        case Items(most, least):
            of = "Properties" if "propertyNames" in schema else "Items"
            return {**({f"min{of}": least} if least else {}), f"max{of}": most}
        case limits.Json(most, keys, values):
            size = f"At most {most} bytes as JSON, and {values} values, those further inside included"
            text = f"{size}; a key, also further inside, has at most {limits.MAX_KEY} characters"
            kept = {"maxProperties": keys, "maxItems": values, "propertyNames": {"maxLength": limits.MAX_KEY}}
            return {"description": text, **kept}


def _with_keywords(limit: Limit, core: Any, handler: Any) -> Schema:
    schema: Schema = handler(core)
    # What was recorded before there was a limit may exceed it.
    if handler.mode == "serialization":
        return schema
    if isinstance(limit, Number) and not limit.whole:
        # A fraction or a whole number, which is a number as well.
        schema.pop("anyOf")
    if isinstance(limit, Items) and "additionalProperties" in schema:
        return schema | _keywords(limit, {**schema, "propertyNames": {}})
    return schema | _keywords(limit, schema)


def _number(limit: Number, source: Any, handler: Any) -> Any:
    if limit.whole:
        return handler(source)
    # One error for both kinds of numbers, at the place of the value.
    kinds: list[Any] = [core_schema.int_schema(strict=True), core_schema.float_schema(strict=True)]
    return core_schema.union_schema(kinds, custom_error_type="number_type", custom_error_message="this is a number")


Number.__get_pydantic_core_schema__ = _number  # type: ignore[attr-defined]
# Pydantic asks for the keywords of a limit wherever it meets the limit in the type of something that is given.
for _kind in limits.LIMITS:
    _kind.__get_pydantic_json_schema__ = _with_keywords  # type: ignore[union-attr]


def schema_of(hint: Any) -> Schema:
    """Return the schema of a plain type: strings, numbers, booleans, literals, lists, maps and typed dictionaries.

    For an optional type, it is the schema of the value without None.
    """
    hint, _ = _present(hint)
    bare, _ = limits.limits_of(hint)
    if bare is Any:
        return bounded({}, hint)
    origin = get_origin(bare)
    if origin is Literal:
        return {"type": "string", "enum": list(get_args(bare))}
    if is_typeddict(bare):
        return {
            "type": "object",
            "properties": {name: schema_of(part) for name, part in limits.hints_of(bare).items()},
        }
    if origin is dict:
        inner = get_args(bare)[1]
        return bounded({"type": "object", "additionalProperties": True if inner is Any else schema_of(inner)}, hint)
    if origin in (tuple, list):
        return bounded({"type": "array", "items": schema_of(get_args(bare)[0])}, hint)
    return bounded({"type": _TYPES[bare]}, hint)


def _present(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    (found,) = (part for part in get_args(hint) if part is not type(None))
    return found, True
