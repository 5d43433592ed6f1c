"""Members by id, for what a dialect shows of them and for what an actor may do; kept for a few seconds at most."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from domain.decider import SYSTEM
from domain.directory import EntryRegistered
from domain.directory.eligibility import TENANT_ADMIN, standing
from domain.errors import Rejected
from domain.lifecycle import OTHER
from domain.recorded import Recorded
from domain.references import Reference, reference
from domain.streams import ID
from projections import directory
from projections.support.query import MAX_FILTER_VALUES, BadQuery, demand_text, within
from services.store.pool import Pool

_CACHE_SECONDS = 5.0
# Members that are kept, and characters of their entries. Whose entry has more is asked for each time.
_MAX_CACHED, MAX_CHARACTERS = 20_000, 8 << 20
_MAX_DOCUMENT = 8192
# Bytes of the entries that are read at once.
BYTES = 4 << 20


class _Fields(msgspec.Struct):
    name: Any = None
    hubId: Any = None  # noqa: N815 - as the field dialect calls it
    email: Any = None
    account_id: Any = None
    operator_id: Any = None
    projects: Any = None
    tenant_admin: Any = None


class _Document(msgspec.Struct):
    id: str
    fields: _Fields
    retired: bool = False


_decode = msgspec.json.Decoder(_Document).decode


@dataclass(frozen=True, slots=True)
class Member:
    """The public fields of a member."""

    email: str | None
    account_id: int | None
    operator_id: str | None
    projects: dict[str, Any]
    retired: bool
    name: str | None = None
    hubs: tuple[str, ...] = ()
    tenant_admin: bool = False

    def standing(self, project: str | None) -> str:
        """Return what the member is to a thing of this project that others have, by the domain's own rule."""
        if self.retired:
            return OTHER
        return standing({"projects": self.projects, TENANT_ADMIN: self.tenant_admin}, project)


@dataclass(slots=True)
class MemberCache:
    """Looks members up in the directory, a whole page's at once. Who is not there is asked for again each time."""

    pool: Pool
    _known: dict[tuple[str, str], tuple[float, Member]] = field(default_factory=dict)
    _characters: int = 0

    async def by_id(self, tenant: str, ids: Iterable[str], events: Iterable[Recorded] = ()) -> dict[str, Member]:
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
            elif member_id != SYSTEM and ID.match(member_id):
                # What is no id is no member's, and a question that names it is refused.
                missing.append(member_id)
        while missing:
            rows = await self.pool.fetch(*within(directory.members(tenant, missing), BYTES))
            for row in rows:
                found[row[1]] = self._taken(tenant, row[0], now)
            # The last number of a row is how many members there are.
            missing = [member for member in missing if member not in found] if rows and rows[-1][-1] > len(rows) else []
        return found

    def _taken(self, tenant: str, text: str, now: float) -> Member:
        document = _decode(text)
        member = _member(document.fields, document.retired)
        if len(text) <= _MAX_DOCUMENT:
            if len(self._known) >= _MAX_CACHED or self._characters > MAX_CHARACTERS:
                self._known.clear()
                self._characters = 0
            self._known[tenant, document.id] = (now + _CACHE_SECONDS, member)
            self._characters += len(text)
        return member

    async def named(self, tenant: str, texts: Iterable[Any], parameter: str) -> dict[str, tuple[str, ...]]:
        """Return for each reference the members that it names, or named before they were retired, which may be none.

        Raises `BadQuery` for what can name nobody, or for too many of them.
        """
        wanted = references(texts, parameter)
        question = directory.named(tenant, wanted.values())
        return resolved(wanted, await self.pool.fetch(*question) if question is not None else ())

    async def one(self, tenant: str, member_id: str) -> Member | None:
        """Return one member, or None."""
        return (await self.by_id(tenant, (member_id,))).get(member_id)


def references(texts: Iterable[Any], parameter: str) -> dict[str, Reference]:
    """Return a filter's values as references, by the same rule as in a command; raises `BadQuery`."""
    try:
        wanted = {text: reference(demand_text(text, parameter), "") for text in texts}
    except Rejected as refusal:
        raise BadQuery("bad-filter", refusal.detail, parameter) from None
    if len(wanted) > MAX_FILTER_VALUES:
        raise BadQuery("bad-filter", f"a filter has at most {MAX_FILTER_VALUES} values", parameter)
    return wanted


def resolved(wanted: Mapping[str, Reference], rows: Iterable[Sequence[Any]]) -> dict[str, tuple[str, ...]]:
    """Return the members that references name; `rows` are what `directory.named` found."""
    found: dict[Reference, tuple[str, ...]] = {one: (one.key,) for one in wanted.values() if one.form == "id"}
    for form, key, member_id in rows:
        one = Reference(form, key)
        found[one] = (*found.get(one, ()), member_id)
    return {text: found.get(one, ()) for text, one in wanted.items()}


def _member(fields: _Fields, retired: bool) -> Member:
    return Member(
        fields.email if isinstance(fields.email, str) else None,
        fields.account_id if type(fields.account_id) is int else None,
        fields.operator_id if isinstance(fields.operator_id, str) else None,
        fields.projects if isinstance(fields.projects, dict) else {},
        retired,
        fields.name if isinstance(fields.name, str) else None,
        tuple(hub for hub in fields.hubId if isinstance(hub, str)) if isinstance(fields.hubId, list) else (),
        fields.tenant_admin is True,
    )
