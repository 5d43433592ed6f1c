"""What all operations of the dispatch dialect share: permissions, the tenant's header, the people that are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from domain.recorded import Recorded
from projections import directory
from services.http.core.call import Call
from services.http.core.errors import ApiError
from services.http.core.lookups import needed_by
from services.http.core.members import Member
from services.http.core.openapi import parameter
from services.http.core.operation import Dialect
from services.http.dispatch.errors import Accepted, Failure, failed, failure

VIEW, CREATE, CANCEL, DISPATCH = "VIEW_ACTIVITIES", "CREATE_ACTIVITY", "CANCEL_ACTIVITY", "DISPATCH_ACTIVITY"
MANAGE, RESULTS = "MANAGE_ACTIVITY_CONFIG", "SUBMIT_ACTIVITY_RESULT"


def _of_tenant(call: Call) -> None:
    """Refuse a request for another tenant than the token's own; a request need not say which one it is for."""
    for name, value in call.scope["headers"]:
        if name == b"x-tenant-id" and value.decode("latin-1").strip() != call.caller.tenant:
            raise ApiError("forbidden", "the token is of another tenant", parameter="x-tenant-id")


@dataclass(frozen=True, slots=True)
class Shown:
    """What activities are shown with: the members who have them, and the fields of their commerces and operators."""

    members: Mapping[str, Member]
    commerces: Mapping[str, Mapping[str, Any]]
    operators: Mapping[str, Mapping[str, Any]]


async def shown_with(
    call: Call, resources: Sequence[Mapping[str, Any]], events: Sequence[Recorded], view: type[BaseModel]
) -> Shown:
    """Look up what a view of tasks needs, for all of them at once."""
    tenant, needed = call.caller.tenant, needed_by(view)

    async def entries(kind: str) -> Mapping[str, Mapping[str, Any]]:
        ids = {resource[kind] for resource in resources if resource.get(kind) is not None}
        if f"{kind}s" not in needed or not ids:
            return {}
        rows = await call.entries(directory.get_many(tenant, kind, sorted(ids)), ids)
        return {found["id"]: found["fields"] for found in map(directory.resource, rows)}

    people = [member for resource in resources for member in resource.get("assignees", ())[:1]]
    members = await call.service.members.by_id(tenant, people if "members" in needed else [], events)
    return Shown(members, await entries("commerce"), await entries("operator"))


_TENANT = parameter(
    "x-tenant-id",
    "The token's tenant; another one is refused, and the header may be left out",
    place="header",
    pattern="^[a-z0-9-]{1,63}$",
)
SPOKEN = Dialect(
    "dispatch", failed, failure, Failure, Accepted, shown_with,
    failures=(401, 403, 500, 503), admit=_of_tenant, parameters=(_TENANT,), paths=("/api/",),
)  # fmt: skip
