"""What all operations of all dialects have in common: a case for each, taken from the operations and their documents.

Dialects are found by `core.app`. Its bodies are the documented examples, which refer to the data of `services.dev
.seed`; its paths lead to the task `t1`, unless `PARTS` names something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote

import httpx
import jsonschema_rs

from projections.task import table as tasks
from services.dev import seed
from services.http.core import openapi
from services.http.core.app import OPERATIONS
from services.http.core.components import Components
from services.http.core.errors import ApiError
from services.http.core.middleware import Envelope
from services.http.core.operation import Operation
from services.http.native.models import EXTERNAL
from services.keys import PERMISSIONS, granted_by
from tests.services.http.api import Api
from tests.services.http.contract_scene import BULK_ID, COMMAND_ID, KEY, LETTER

Json = dict[str, Any]


COMPONENTS = Components(EXTERNAL)
ABOUT = {one.name: openapi.about(one, COMPONENTS) for one in OPERATIONS}
# The parameters that an operation cannot do without, by its name.
ASKED = {"search": "?q=a1"}
FIELD_PARTS = {"email": "driver@example.com", "order": "0"}
# The parts of the path of an operation, by the beginning of its path, or by its name. The longest one is taken.
PARTS: Mapping[str, Mapping[str, str]] = {
    "": {"id": "t1", "kind": "hub", "target_id": "t1", "account_id": "42", **FIELD_PARTS},
    "/v1/activities/": {"id": "a1"},
    "/v1/commands/": {"id": COMMAND_ID},
    "/v1/effects/": {"id": COMMAND_ID},
    "/v1/bulks/": {"id": BULK_ID},
    "/v1/dead-letters/": {"letter": LETTER},
    "/v1/bulk/": {"id": BULK_ID},
    "pause_bulk": {"id": "bulk-paused"},
    "resume_bulk": {"id": "bulk-resumed"},
    "abort_bulk": {"id": "bulk-aborted"},
    "/v1/directory/": {"id": seed.HUB},
    "/v1/keys/": {"id": KEY},
    "/v1/projections/": {"name": tasks.NAME},
    "/v1/webhooks/": {"id": "h1", "position": "1"},
    "replay_webhook": {"id": "h2"},
    "delete_webhook": {"id": "h3"},
    "/api/v3/workflow/": {"id": seed.WORKFLOW},
    "/api/v3/activity/": {"id": "a1"},
    "/api/v3/activities/workflow/": {"id": seed.WORKFLOW},
    "/api/v3/flow/": {"id": "Pickup"},
    "/api/v3/hub/": {"id": seed.HUB},
    "/api/v3/user/": {"id": "m42"},
    "/api/v3/workflow/activities/": {"id": "t1"},
    "/api/v3/workflow/work_units/": {"id": "a1"},
    "/api/v3/workflow/projects/": {"id": "north"},
    "/api/v3/workflow/members/": {"id": "north:m42"},
    "/api/v3/workflow/work_periods/": {"id": "running:3"},
    "/api/activities/": {"id": "sent"},
    "/api/attribute-policies/": {"id": "promotions"},
    "/api/target-resolution-policies/": {"id": "default"},
    "/api/dispatch-configurations/": {"id": "SALESMAN"},
    "/api/dispatch-providers/": {"id": "http"},
    "field_delete_workflow": {"id": "unused"},
    "workflow_assign_activity": {"id": "free"},
    "dispatch_retry_resolution": {"id": "lost"},
    "dispatch_resolve_target": {"id": "lost"},
}
# Bodies that are no documented example, by the operation's name.
BODIES: Mapping[str, Json] = {
    # Whoever may create keys and nothing else has nothing else to give.
    "create_key": {"permissions": ["keys"]},
    "preview_bulk": {"command": "task.cancel", "ids": ["nobody"]},
    **{
        f"field_bulk_{verb}_tasks": {"tasks": [{"_id": "t1", **what}, {"_id": "free", **what}]}
        for verb, what in (
            ("update", {"receivedBy": "Jane"}),
            ("patch", {"receivedBy": "Jane"}),
            ("delete", {}),
            ("assign", {"assignee": ["m43"]}),
            ("move", {"hubId": seed.HUB}),
        )
    },
    "workflow_reassign_activity": {"account_id": 43},
    "workflow_resume_tracker": {"account_id": 43},
    "workflow_start_tracker": {"data": {"attributes": {"activity_id": "t1"}}},
    "dispatch_submit_result": {"activity_id": "sent", "result": "COMPLETED"},
    "dispatch_submit_effect": {
        "activity_id": "sent",
        "commerce_external_id": seed.COMMERCE,
        "occurred_at": "2026-04-11T10:30:00.000Z",
        "status": "EFFECTIVE",
        "task_result": {"result": "SALE_COMPLETED"},
    },
    "dispatch_resolve_target": {"user_id": "shopkeeper-1"},
    "dispatch_create_attribute_policy": {"key": "name", "strategy": "UPFRONT", "source": "commerce.name"},
    "dispatch_create_dispatch_configuration": {"channel": "SMS", "provider": "console", "timeout_seconds": 5},
}
# What an operation does to another kind of thing under the same path: the parts of the path, and the body.
OTHERS: tuple[tuple[str, Mapping[str, str], Any], ...] = (
    ("field_get_task", {"id": "a1"}, None),
    ("field_get_task", {"id": "a1-t1"}, None),
    ("field_update_task", {"id": "a1"}, {"title": "Order 7"}),
    ("field_patch_task", {"id": "a1"}, {"title": "Order 7"}),
    ("field_move_task", {"id": "a1"}, {"hubId": seed.HUB}),
    ("field_delete_task", {"id": "a1"}, None),
)


@dataclass(frozen=True)
class Case:
    """An operation with a request that succeeds in the scene."""

    operation: Operation
    body: Any = None
    # Parts of the path, where they are not those of `PARTS`.
    other: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return self.operation.name

    @property
    def parts(self) -> dict[str, str]:
        """Return what stands in the path."""
        path, found = self.operation.path, dict(PARTS[""])
        for start in (*sorted(PARTS, key=len), self.name):
            if path.startswith(start) or start == self.name:
                found |= PARTS.get(start, {})
        found |= dict(self.other)
        return {name: found[name] for name in re.findall(r"{(\w+)", path)}

    def at(self, **others: str) -> str:
        """Return the address, with other parts of the path where they are given."""
        path = self.operation.path.replace(":path}", "}")
        return path.format(**{name: quote(part, safe="%") for name, part in {**self.parts, **others}.items()})

    @property
    def content(self) -> bytes | None:
        return None if self.body is None else json.dumps(self.body).encode()

    @property
    def said(self) -> Json:
        """Return what the document says of the operation."""
        return ABOUT[self.name]

    @property
    def schema(self) -> Json:
        """Return the schema of the body."""
        (schema, *_) = [media["schema"] for media in self.said["requestBody"]["content"].values()]
        return dict(schema)


def examples(media: Json) -> list[Any]:
    """Return the documented examples of a body."""
    return [media["example"]] if "example" in media else [each["value"] for each in media.get("examples", {}).values()]


def _cases() -> Iterator[Case]:
    # What needs no key has tests of its own.
    for operation in (each for each in OPERATIONS if each.permission):
        content = ABOUT[operation.name].get("requestBody", {}).get("content", {})
        bodies = [BODIES[operation.name]] if operation.name in BODIES else []
        for media in list(content.values())[:1]:
            bodies = bodies or examples(media)
        yield from (Case(operation, body) for body in bodies or [None])


_ALL = tuple(_cases())
# The first example of each operation.
CASES = tuple({case.name: case for case in reversed(_ALL)}.values())[::-1]
_NAMED = {case.name: case for case in CASES}
EXAMPLES = (*_ALL, *(Case(_NAMED[name].operation, body, tuple(parts.items())) for name, parts, body in OTHERS))
READS = [case for case in CASES if case.operation.method == "GET"]
WRITES = [case for case in CASES if case.operation.writes]
WITH_BODY = [case for case in CASES if case.operation.request is not None]
# What waits for a position.
WAITING = [case for case in READS if any(each["name"] == "min_position" for each in case.said.get("parameters", ()))]
# What has an id of a tenant's own in its path; a provider is the service's.
WITH_ID = [case for case in CASES if "id" in case.parts and case.name != "dispatch_list_channel_definitions"]


def name_of(case: Case) -> str:
    return case.name


async def send(api: Api, case: Case, path: str | None = None, **rest: Any) -> httpx.Response:
    """Send a case's request, or one that differs from it in what is given; a header that is None is left out."""
    headers = {"Content-Type": "application/json"} if case.operation.request is not None else {}
    others = rest.pop("headers", {})
    headers = {**({} if "Authorization" in others else api.by(able(api, case))), **headers, **others}
    given = {name: value for name, value in headers.items() if value is not None}
    content = rest.pop("content", case.content)
    address = path or f"{case.at()}{ASKED.get(case.name, '')}"
    return await api.client.request(case.operation.method, address, content=content, headers=given, **rest)


def able(api: Api, case: Case) -> str | None:
    """Return a token for an operation whose permission `read` and `write` do not include, the same one each time."""
    permission = case.operation.permission
    if not permission or permission in granted_by(("read", "write")):
        return None
    if permission not in api.tokens:
        api.tokens[permission] = api.key("acme", "system", "read", "write", permission)
    return api.tokens[permission]


def without(permission: str) -> tuple[str, ...]:
    """Return all permissions but one and those that imply it."""
    return tuple(name for name in PERMISSIONS if permission not in {name, *granted_by([name])})


# What is expected.


@cache
def _validator(reference: str) -> jsonschema_rs.Draft202012Validator:
    schema = {"$ref": reference, "components": {"schemas": COMPONENTS.schemas}}
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def validator(schema: Json) -> jsonschema_rs.Draft202012Validator:
    """Return what holds values against a schema of the document, which is a reference to a component."""
    assert list(schema) == ["$ref"]
    return _validator(schema["$ref"])


def documented(case: Case, response: httpx.Response) -> None:
    """Expect an answer to be one that the document describes."""
    said = case.said["responses"]
    assert str(response.status_code) in said, f"{case.name}: {response.status_code} {response.text[:500]}"
    content = said[str(response.status_code)].get("content")
    if content is None:
        assert response.content == b""
        return
    media = response.headers["content-type"]
    assert media in content
    shown = response.json() if media.endswith("json") else response.text
    validator(content[media]["schema"]).validate(shown)


WORDS = "(words)"
# What says that an act was done before, and is not done again.
DONE_BEFORE = ("not-parked", "not-ready")


def was_taken(case: Case, response: httpx.Response) -> bool:
    """Tell whether a request to a service without workers was read, and what it asks for begun.

    An act that can be done once, or so often, is refused the next time, after its body was read.
    """
    if case.operation.act:
        done = response.status_code == case.operation.status
        return done or response.json().get("code") in DONE_BEFORE or response.status_code == 429
    return response.status_code == 202


def refused(response: httpx.Response, envelope: Envelope, code: str, pointer: str = "", parameter: str = "") -> None:
    """Expect a refusal for this reason in an envelope, whatever its words."""
    wanted = envelope(ApiError(code, WORDS, pointer, parameter))
    assert response.status_code == wanted.status_code, response.text[:500]
    assert response.headers["content-type"] == wanted.headers["content-type"]
    _alike(response.json(), json.loads(bytes(wanted.body)))
    assert response.headers["x-request-id"]


def _alike(found: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        # There may be more, such as what a key was used for.
        assert list(found)[: len(wanted)] == list(wanted), found
        for key, value in wanted.items():
            _alike(found[key], value)
    elif isinstance(wanted, list):
        for one, other in zip(found, wanted, strict=True):
            _alike(one, other)
    elif isinstance(wanted, str) and WORDS in wanted:
        before, _, after = wanted.partition(WORDS)
        assert len(found) > len(before + after), found
        assert found.startswith(before), (found, wanted)
        assert found.endswith(after), (found, wanted)
    else:
        assert found == wanted
