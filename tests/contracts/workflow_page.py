"""The workflow page's own types, word for word, and a reader of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

ENDPOINTS = """
- get /api/v3/workflow/activities
- patch /api/v3/workflow/activities/:id
- patch /api/v3/workflow/activities/:id/assign
- post /api/v3/workflow/activities/:id/cancel
- patch /api/v3/workflow/activities/:id/complete
- post /api/v3/workflow/activities/:id/error
- patch /api/v3/workflow/activities/:id/process
- patch /api/v3/workflow/activities/:id/reassign
- patch /api/v3/workflow/activities/:id/unassign
- get /api/v3/workflow/activities/:resource_id
"""
LIST_INPUT = """
type InputSchema = {
page?: {
// The page number, default to 1
number?: number;
// The number of items per page, default to 1000
size?: number;
};
// The sort order, comma separated list of fields. See sorting section for more details
sort?: string;
// Set to true to return the total number of items in the collection
count?: boolean;
filter?: {
id?: any;
assigned_account_id?: any;
name?: any;
status?: any;
started_at?: any;
completed_at?: any;
try_resolve_at?: any;
actor_roles?: any;
whitelisted_ids?: any;
blacklisted_ids?: any;
working_seconds?: any;
live_seconds?: any;
pipeline_seconds?: any;
project_id?: any;
data?: any;
output?: any;
indicators?: any;
created_at?: any;
work_unit_id?: any;
name?: any;
work_unit_id?: any;
name__in?: any;
actor_roles__contains?: any;
assigned_account_id__in?: any;
status__in?: any;
completed_at__gte?: any;
completed_at__lte?: any;
id__in?: any;
};
// The related resources to include in the response. Allowed resources are:
// - `project`
// - `work_unit`
// - `node`
included?: Array<string>;
// The fields to include in the response.
// The key is the resource type and the value is an array of fields.
fields?: { [key: string]: Array<any> };
};
"""
RESOURCE = """{
type: string;
id?: string;
attributes?: {
id?: string;
assigned_account_id?: number;
name?: string;
status?: string;
started_at?: Date;
completed_at?: Date;
try_resolve_at?: Date;
actor_roles?: Array<any>;
whitelisted_ids?: Array<any>;
blacklisted_ids?: Array<any>;
working_seconds?: number;
live_seconds?: number;
pipeline_seconds?: number;
data?: Record<string, any>;
output?: Record<string, any>;
indicators?: Record<string, any>;
created_at?: Date;
};
relationships?: Record<string, any>;
}"""
LIST_OUTPUT = f"""
type OutputSchema = {{
data: Array<{RESOURCE}>;
included?: Array<Record<string, any>>;
}};
"""
GET_INPUT = """
type InputSchema = {
resource_id: string;
included?: Array<string>;
fields?: { [key: string]: Array<any> };
};
"""
GET_OUTPUT = f"""
type OutputSchema = {{
data: {RESOURCE};
included?: Array<Record<string, any>>;
}};
"""
INPUTS = {
    "patch :id": """
type InputSchema = {
id: string;
// The data to save the activity with. Related to activity type.
data: Record<string, any>;
};
""",
    "patch :id/assign": """
type InputSchema = {
id: string;
// The account id to assign the activity to. Must be a member of the project
account_id?: number;
// Whether to start working on the activity
start_working: boolean;
// Whether this is self-assigning. Default is false.
self_assigning?: boolean;
};
""",
    "post :id/cancel": "type InputSchema = { id: string };",
    "patch :id/complete": """
type InputSchema = {
id: string;
// The data to complete the activity with. Related to activity type.
data: Record<string, any>;
};
""",
    "post :id/error": "type InputSchema = { id: string; data?: { comment: string } };",
    "patch :id/process": "type InputSchema = { id: string };",
    "patch :id/reassign": "type InputSchema = { id: string; account_id: number };",
    "patch :id/unassign": "type InputSchema = { id: string };",
}


@dataclass
class Shape:
    """A type of the page: what it is, its members, and of those the ones that must be there."""

    kind: str
    members: dict[str, Shape] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    items: Shape | None = None


def parsed(text: str) -> Shape:
    """Read a type in the page's own words."""
    plain = re.sub(r"//[^\n]*", "", text).strip().removesuffix(";")
    tokens = re.findall(r"\w+|[{}<>\[\]?:;,]", plain.partition("=")[2])
    shape = _type(tokens)
    assert not tokens
    return shape


def _type(tokens: list[str]) -> Shape:
    first = tokens.pop(0)
    if first == "Array":
        _expect(tokens, "<")
        items = _type(tokens)
        _expect(tokens, ">")
        return Shape("array", items=items)
    if first == "Record":
        _expect(tokens, "<", "string", ",", "any", ">")
        return Shape("record")
    if first != "{":
        return Shape(first)
    shape = Shape("object")
    while tokens[0] != "}":
        name = tokens.pop(0)
        if name == "[":
            _expect(tokens, "key", ":", "string", "]", ":")
            _type(tokens)
            shape.kind = "record"
            continue
        if tokens[0] == "?":
            tokens.pop(0)
        else:
            shape.required.add(name)
        _expect(tokens, ":")
        shape.members[name] = _type(tokens)
        if tokens[0] == ";":
            tokens.pop(0)
    _expect(tokens, "}")
    return shape


def _expect(tokens: list[str], *wanted: str) -> None:
    assert tuple(tokens[: len(wanted)]) == wanted
    del tokens[: len(wanted)]


def conforms(value: Any, shape: Shape, place: str = "") -> None:
    """Demand that a value is of a type; what is optional may be null, as JSON has no `undefined`."""
    fits = {
        "string": lambda: isinstance(value, str),
        "number": lambda: isinstance(value, (int, float)) and not isinstance(value, bool),
        "boolean": lambda: isinstance(value, bool),
        "Date": lambda: isinstance(value, str) and value.endswith("Z") and bool(datetime.fromisoformat(value)),
        "record": lambda: isinstance(value, dict),
        "object": lambda: isinstance(value, dict),
        "array": lambda: isinstance(value, list),
        "any": lambda: True,
    }
    assert fits[shape.kind](), f"{place} is {value!r}, not {shape.kind}"
    if shape.kind == "array":
        assert shape.items is not None
        for index, item in enumerate(value):
            conforms(item, shape.items, f"{place}/{index}")
    for name, member in shape.members.items():
        if value.get(name) is None and name not in shape.required:
            continue
        conforms(value[name], member, f"{place}/{name}")
