"""What the OpenAPI document says of the dispatch dialect's configuration: three kinds, five operations each."""

from __future__ import annotations

from dataclasses import dataclass

from services.http.dispatch import schemas
from services.http.dispatch.documented import answer, body, failures, link, operation, write
from services.http.dispatch.lists import DEFAULT_LIMIT, MOST_LIMIT, MOST_PAGE
from services.http.native.examples import ID, MIN_POSITION, Json, parameter

_STAMPS = {"createdAt": "2025-01-15T08:00:00.000Z", "updatedAt": "2025-01-15T08:00:00.000Z"}


@dataclass(frozen=True, slots=True)
class About:
    """The documentation of one kind's operations."""

    create: Json
    page: Json
    get: Json
    change: Json
    delete: Json


def _about(
    name: str,
    plural: str,
    what: str,
    entry_id: str,
    required: tuple[str, ...],
    fields: dict[str, Json],
    shown: Json,
    request: Json,
    example: Json,
) -> About:
    new = schemas.body_of((entry_id, *required), **{entry_id: schemas.ID}, **fields)
    example = {**example, **_STAMPS}
    one = answer(f"The {what}", shown, example)
    links = {verb: link(f"dispatch_{verb}_{name}", f"/{entry_id}") for verb in ("get", "change", "delete")}
    meta = {"page": 1, "limit": DEFAULT_LIMIT, "total": 1, "totalPages": 1}
    size: Json = {"minimum": 1, "maximum": MOST_LIMIT}
    return About(
        create=write(
            f"create_{name}",
            f"Create a {what}",
            "The same again is accepted and changes nothing.",
            status=201,
            requestBody=body(new, request),
            responses={"201": answer("Created", shown, example, **links), **failures(400, 404, 409, 413, 415)},
        ),
        page=operation(
            f"list_{plural}",
            f"List every {what}, in order of {entry_id}",
            parameters=[
                parameter("page", "From 1", "integer", minimum=1, maximum=MOST_PAGE, default=1),
                parameter("per_page", "Rows of a page", "integer", **size, default=DEFAULT_LIMIT),
                parameter("limit", "Another name of per_page", "integer", **size),
                MIN_POSITION,
            ],
            responses={
                "200": answer("A page", schemas.page_of(shown), {"data": [example], "meta": meta}),
                **failures(400),
            },
        ),
        get=operation(
            f"get_{name}",
            f"Read one {what}",
            parameters=[ID, MIN_POSITION],
            responses={"200": one, **failures(400, 404)},
        ),
        change=write(
            f"change_{name}",
            f"Change a {what}",
            "What is left out stays as it is; a null takes a field away.",
            parameters=[ID],
            requestBody=body(schemas.body_of((), **fields), {key: request[key] for key in fields if key in request}),
            responses={"200": one, **failures(400, 404, 409, 413, 415)},
        ),
        delete=write(
            f"delete_{name}",
            f"Delete a {what}",
            "What was created before keeps what it took from it.",
            status=204,
            parameters=[ID],
            responses={"204": {"description": "Deleted"}, **failures(400, 404, 409)},
        ),
    )


_POLICY = {"key": "commerce_info", "strategy": "UPFRONT", "source": "commerce", "fallback": {}}
ATTRIBUTE_POLICIES = _about(
    "attribute_policy",
    "attribute_policies",
    "policy for an attribute",
    "key",
    ("strategy",),
    schemas.ATTRIBUTE_POLICY,
    schemas.SHOWN_ATTRIBUTE_POLICY,
    _POLICY,
    _POLICY,
)
_CRITERIA = [{"type": "LAST_CONTACTED_SAME_CHANNEL", "priority": 1, "role": None}]
_FALLBACKS = [{"type": "ROLE_MATCH", "priority": 0, "role": "OWNER"}]
_TARGETING = {"channel": "SALESMAN", "criteria": _CRITERIA, "fallbacks": _FALLBACKS}
TARGET_RESOLUTION_POLICIES = _about(
    "target_resolution_policy",
    "target_resolution_policies",
    "policy for target resolution",
    "channel",
    ("criteria",),
    schemas.TARGET_RESOLUTION,
    schemas.SHOWN_TARGET_RESOLUTION,
    _TARGETING,
    _TARGETING,
)
_PROVIDER = {"channel": "SALESMAN", "provider": "http", "url": "https://dispatch.example.com/tasks", "secret": "main"}
DISPATCH_CONFIGURATIONS = _about(
    "dispatch_configuration",
    "dispatch_configurations",
    "dispatch configuration",
    "channel",
    ("provider",),
    schemas.DISPATCH_CONFIGURATION,
    schemas.SHOWN_DISPATCH_CONFIGURATION,
    {**_PROVIDER, "timeout_seconds": 5, "backoff_seconds": 30},
    {**_PROVIDER, "timeoutSeconds": 5, "backoffSeconds": 30},
)
