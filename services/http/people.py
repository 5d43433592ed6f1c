"""Members by id, for what a dialect shows of them and for what an actor may do; kept for a few seconds at most."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from domain.decider import SYSTEM
from domain.directory import is_manager
from projections import directory
from services.http.database import Database

_BELIEVED = 5.0
_MOST = 20_000


class _Fields(msgspec.Struct):
    email: Any = None
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

    async def members(self, tenant: str, ids: Iterable[str]) -> dict[str, Member]:
        """Return those of the members that the directory has."""
        now = time.monotonic()
        found: dict[str, Member] = {}
        missing = []
        for member_id in dict.fromkeys(ids):
            known = self._known.get((tenant, member_id))
            if known is not None and known[0] > now:
                found[member_id] = known[1]
            elif member_id != SYSTEM:
                missing.append(member_id)
        if missing:
            if len(self._known) > _MOST:
                self._known.clear()
            for row in await self.database.fetch(*directory.members(tenant, missing)):
                document = _decode(row[0])
                email, projects = document.fields.email, document.fields.projects
                member = Member(
                    email if isinstance(email, str) else None,
                    projects if isinstance(projects, dict) else {},
                    document.retired,
                )
                found[document.id] = member
                self._known[tenant, document.id] = (now + _BELIEVED, member)
        return found

    async def member(self, tenant: str, member_id: str) -> Member | None:
        """Return one member, or None."""
        return (await self.members(tenant, (member_id,))).get(member_id)
