"""Members by id, for what a dialect shows of them and for what an actor may do; kept for a few seconds at most."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from domain.decider import SYSTEM
from domain.directory import EntryRegistered, is_manager
from domain.recorded import Recorded
from projections import directory
from services.http.database import Database

_BELIEVED = 5.0
_MOST = 20_000


class _Fields(msgspec.Struct):
    email: Any = None
    account_id: Any = None
    operator_id: Any = None
    projects: Any = None


class _Document(msgspec.Struct):
    id: str
    fields: _Fields
    retired: bool = False


_decode = msgspec.json.Decoder(_Document).decode


@dataclass(frozen=True, slots=True)
class Member:
    """What others may see of a member."""

    email: str | None
    account_id: int | None
    operator_id: str | None
    projects: dict[str, Any]
    retired: bool

    def manages(self, project: str | None) -> bool:
        """Tell whether the member manages the project, by the domain's own rule."""
        return not self.retired and is_manager({"projects": self.projects}, project)


@dataclass(slots=True)
class People:
    """Looks members up in the directory, a whole page's at once. Who is not there is asked for again each time."""

    database: Database
    _known: dict[tuple[str, str], tuple[float, Member]] = field(default_factory=dict)

    async def members(self, tenant: str, ids: Iterable[str], events: Iterable[Recorded] = ()) -> dict[str, Member]:
        """Return those of the members that the directory has; `events` are ones that it may not show yet."""
        now = time.monotonic()
        found = {
            event.entity_id: _member(msgspec.convert(event.data.fields, _Fields), retired=False)
            for event in events
            if isinstance(event.data, EntryRegistered) and event.category == "member"
        }
        missing = []
        for member_id in dict.fromkeys(ids):
            known = self._known.get((tenant, member_id))
            if member_id in found:
                continue
            if known is not None and known[0] > now:
                found[member_id] = known[1]
            elif member_id != SYSTEM:
                missing.append(member_id)
        if missing:
            if len(self._known) > _MOST:
                self._known.clear()
            for row in await self.database.fetch(*directory.members(tenant, missing)):
                document = _decode(row[0])
                member = found[document.id] = _member(document.fields, document.retired)
                self._known[tenant, document.id] = (now + _BELIEVED, member)
        return found

    async def member(self, tenant: str, member_id: str) -> Member | None:
        """Return one member, or None."""
        return (await self.members(tenant, (member_id,))).get(member_id)


def _member(fields: _Fields, retired: bool) -> Member:
    return Member(
        fields.email if isinstance(fields.email, str) else None,
        fields.account_id if type(fields.account_id) is int else None,
        fields.operator_id if isinstance(fields.operator_id, str) else None,
        fields.projects if isinstance(fields.projects, dict) else {},
        retired,
    )
