"""How the field dialect answers a write: what it left, or where its receipt lies, and in which pages it lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response

from domain.recorded import Recorded
from services.http.endpoints import JSON, Call
from services.http.service import Service
from services.http.writes import Answered


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a body as JSON."""
    return Response(msgspec.json.encode(body), status, headers, JSON)


def accepted(answered: Answered, what: str) -> Response:
    """Answer a write that cannot be shown: its outcome is not known yet, or what it left cannot be read now."""
    known = "it took effect, but cannot be shown now" if answered.reply is not None else "its outcome is not known yet"
    receipt = {"commandId": answered.command_id, "receipt": answered.receipt}
    body = {"status": True, "code": 202, "message": f"{what} accepted, {known}", "data": receipt}
    return answer(body, 202, {"Location": answered.receipt})


async def emails(
    service: Service, tenant: str, members: Iterable[str], events: Sequence[Recorded] = ()
) -> dict[str, str]:
    """Return the members' e-mails; `events` are ones that the directory may not show yet."""
    known = await service.people.members(tenant, members, events)
    return {member: found.email for member, found in known.items() if found.email is not None}


def paginator(
    call: Call, parameters: Mapping[str, list[str]], data: list[Any], *, page: int, limit: int, total: int
) -> dict[str, Any]:
    """Return a page with what leads to its neighbours; `parameters` are the question's, which the links repeat."""
    last = max(1, -(-total // limit))
    offset = (page - 1) * limit
    path = call.scope["path"]

    def url(number: int) -> str | None:
        if not 1 <= number <= last:
            return None
        return f"{path}?{urlencode({**parameters, 'page': [str(number)]}, doseq=True)}"

    return {
        "current_page": page,
        "data": data,
        "from": offset + 1 if data else None,
        "last_page": last,
        "next_page_url": url(page + 1),
        "path": path,
        "per_page": limit,
        "prev_page_url": url(page - 1),
        "to": offset + len(data) if data else None,
        "total": total,
    }
