"""The field dialect itself: what its operations share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import create_model

from domain.recorded import Recorded
from projections import directory
from services.http.core.call import Call
from services.http.core.lookups import needed_by
from services.http.core.models import From, Json, View
from services.http.core.operation import Dialect, Link
from services.http.field.errors import Accepted, Failure, Good, failed, failure
from services.http.field.models import HUBS, AssignedTo, Beside, TaskHub, people_of


async def beside(
    call: Call,
    resources: Sequence[Mapping[str, Any]],
    events: Sequence[Recorded] = (),
    view: type[View] | None = None,
) -> Beside:
    """Return what is shown beside resources; `events` are ones that the directory may not show yet."""
    tenant = call.caller.tenant
    people = [member for resource in resources for member in people_of(resource)]
    known, hubs = await asyncio.gather(
        call.service.members.by_id(tenant, people, events),
        _hubs(call, resources) if view is None or HUBS in needed_by(view) else _none(),
    )
    emails = {member: found.email for member, found in known.items() if found.email is not None}
    having = {resource["assignees"][0] for resource in resources if resource.get("assignees")}
    first = {
        member: AssignedTo.show({"id": member, "name": found.name, "email": found.email, "hubs": list(found.hubs)})
        for member in sorted(having)
        if (found := known.get(member)) is not None
    }
    return Beside(tenant, emails, first, hubs)


async def _none() -> dict[str, Json]:
    return {}


async def _hubs(call: Call, resources: Sequence[Mapping[str, Any]]) -> dict[str, Json]:
    """Return the hubs of resources by their ids."""
    wanted = {resource["hub"] for resource in resources if resource.get("hub") is not None}
    asked = directory.get_many(call.caller.tenant, "hub", sorted(wanted))
    found = map(directory.resource, await call.entries(asked, wanted))
    return {hub["id"]: TaskHub.show(hub) for hub in found}


FIELD = Dialect("field", failed, failure, Failure, Accepted, beside, paths=("/api/v3/",), slash=True)


def answer(name: str, what: str, message: Any, status: int | None = None, **held: Any) -> type[View]:
    """Return an answer to what was done, which holds what is shown under a key; some have no message."""
    fields: Any = {} if status is None else {"code": Literal[status]}
    if message is not None:
        fields["message"] = Literal[message] if isinstance(message, str) else message
    fields |= {key: Annotated[view, From("")] if isinstance(view, type) else view for key, view in held.items()}
    return create_model(name, __base__=Good, __module__=__name__, __doc__=what, **fields)


def links(kind: str, name: str, place: str) -> dict[str, Link]:
    """Return what may follow the creation of a task, an activity or a workflow whose id is at the place."""
    return {
        word: Link(f"field_{verb}_{kind}", place)
        for word, verb in ((name, "get"), ("change", "update"), ("delete", "delete"))
    }
