"""Who and what may be referred to? One row for each directory entry and each workflow, the retired ones included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from domain.compare import address_key
from domain.decider import merged
from domain.directory import EntryChanged, EntryRegistered, EntryRetired
from domain.directory.settings import CREDENTIALS, DISPATCH
from domain.recorded import Recorded
from domain.references import Reference
from domain.steps import stored_steps
from domain.streams import ENTRY_KINDS
from domain.workflow import WorkflowChanged, WorkflowDefined, WorkflowRetired
from projections.statement import Query
from projections.support import query
from projections.support.conditions import Where
from projections.support.documents import Documents, MissingDocument
from projections.support.query import BadQuery
from projections.support.table import Key, Table, array, held, indexed
from projections.support.time import stamp

NAME = "directory"
VERSION = 5
VIEWS: tuple[str, ...] = ("entries",)
WORKFLOW = "workflow"
KINDS = (*ENTRY_KINDS, WORKFLOW)
EVENTS = frozenset(
    {
        "workflow.defined",
        "workflow.changed",
        "workflow.retired",
        "directory.entry-registered",
        "directory.entry-changed",
        "directory.entry-retired",
    }
)

TABLES = """
CREATE TABLE entries_{suffix} (
    tenant     text COLLATE "C" NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    id         text COLLATE "C" NOT NULL,
    email      text COLLATE "C",
    account_id bigint,
    operator   text COLLATE "C",
    projects   text[] COLLATE "C",
    outside    text COLLATE "C",
    retired    boolean NOT NULL,
    position   bigint NOT NULL,
    doc        text NOT NULL,
    PRIMARY KEY (tenant, kind, id)
)
"""
INDEXES = """
CREATE INDEX IF NOT EXISTS entries_{suffix}_email_idx ON entries_{suffix} (tenant, email) WHERE email IS NOT NULL;
CREATE INDEX IF NOT EXISTS entries_{suffix}_account_idx ON entries_{suffix} (tenant, account_id)
    WHERE account_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS entries_{suffix}_operator_idx ON entries_{suffix} (tenant, operator)
    WHERE operator IS NOT NULL;
CREATE INDEX IF NOT EXISTS entries_{suffix}_outside_idx ON entries_{suffix} (tenant, kind, outside)
    WHERE outside IS NOT NULL;
CREATE INDEX IF NOT EXISTS entries_{suffix}_projects_idx ON entries_{suffix} USING gin (projects)
    WHERE projects IS NOT NULL
"""
_TABLE = Table.of(TABLES, key=("tenant", "kind", "id"))


class Entry(msgspec.Struct):
    """An entry of the directory; `fields` are its caller's own, and a workflow's are its definition."""

    kind: str
    id: str
    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    retired: bool = False
    created_at: str = ""
    created_by: str = ""
    updated_at: str = ""
    version: int = 0
    position: int = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


def apply(entry: Entry | None, event: Recorded) -> Entry | None:
    """Return the entry after one more of its events; one that was applied before changes nothing."""
    if entry is not None and event.position <= entry.position:
        return entry
    at = stamp(event.occurred_at)
    if isinstance(event.data, (EntryRegistered, WorkflowDefined)):
        entry = Entry(event.category, event.entity_id, created_at=at, created_by=event.actor)
    elif entry is None:
        raise MissingDocument(f"no {event.category} {event.entity_id} of {event.tenant} at position {event.position}")
    match event.data:
        case EntryRegistered(fields=fields):
            entry.fields = _shown(entry.kind, fields)
        case EntryChanged(new=new):
            entry.fields = merged(entry.fields, _shown(entry.kind, new))
        case WorkflowDefined() as defined:
            entry.fields = {
                "name": defined.name,
                "steps": stored_steps(defined.steps),
                "gating": defined.gating,
                "failure": defined.failure,
                "project": defined.project,
                "version": 1,
            }
        case WorkflowChanged(version=version, new=new):
            entry.fields = {**entry.fields, **new, "version": version}
        case EntryRetired() | WorkflowRetired():
            entry.retired = True
    entry.updated_at = at
    entry.version = event.version
    entry.position = event.position
    return entry


def _shown(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields as they are shown: of credentials, only whether there are any."""
    hidden = kind == DISPATCH and fields.get(CREDENTIALS) is not None
    return {**fields, CREDENTIALS: True} if hidden else fields


def projection(suffix: str, keep: int = 4096) -> Documents[Entry]:
    """Return what folds the log into the tables of this suffix."""
    return Documents(_TABLE, suffix, key_of=_key_of, fold=apply, decode=_decode, row=_row, keep=keep)


def _key_of(event: Recorded) -> Key | None:
    return (event.tenant, event.category, event.entity_id) if event.category in KINDS else None


def _row(key: Key, entry: Entry) -> Sequence[Any]:
    fields = entry.fields if entry.kind == "member" else {}
    outside = entry.fields.get("external_id")
    account = fields.get("account_id")
    return (
        *key,
        _address(fields.get("email")),
        account if type(account) is int else None,
        _address(fields.get("operator_id")),
        _projects_of(key[0], entry),
        indexed(outside) if isinstance(outside, str) else None,
        entry.retired,
        entry.position,
        _encode(entry).decode(),
    )


def _projects_of(tenant: str, entry: Entry) -> str | None:
    """Return the projects of a member or a workflow as the index over them holds them."""
    if entry.kind == "member":
        projects = entry.fields.get("projects")
        # What was stored before there were rules may be no object.
        found = list(projects) if isinstance(projects, dict) else []
    else:
        found = [entry.fields["project"]] if entry.kind == WORKFLOW and entry.fields["project"] is not None else []
    return array([held(tenant, project) for project in found]) if found else None


def _address(value: Any) -> str | None:
    return indexed(address_key(value)) if isinstance(value, str) else None


# Questions. Every one gives rows of (doc, id), which `resource` takes.


def get(tenant: str, kind: str, entry_id: str) -> Query:
    """Ask for one entry, a retired one too."""
    return _ask(tenant, ["kind = %s", "id = %s"], [kind, entry_id])


def get_many(tenant: str, kind: str, ids: Iterable[str]) -> Query:
    """Ask for entries of a kind by their ids, in the order of ids, retired ones too; missing ones are left out."""
    return _ask(tenant, ["kind = %s", "id = ANY(%s::text[])"], [kind, list(ids)], " ORDER BY id")


def refers_to(column: str, tenant: str, kind: str, external_id: str) -> Where:
    """Return the condition that a column has the id of an entry which has this text as its id or its `external_id`.

    Retired entries count too. An `external_id` that is longer than an index takes is found by its beginning.
    """
    query.demand_text(external_id, "external_id")
    ids = (
        "SELECT id FROM entries WHERE tenant = %s AND kind = %s"
        " AND (id = %s OR (outside = %s AND doc::jsonb -> 'fields' ->> 'external_id' = %s))"
    )
    return Where(f"{column} = ANY(ARRAY({ids}))", (tenant, kind, external_id, indexed(external_id), external_id))


def members(tenant: str, ids: Iterable[str]) -> Query:
    """Ask for members by their ids, to show their e-mails and account numbers."""
    return get_many(tenant, "member", ids)


# The forms of a reference that are looked up here, each with its column and that column's type.
_NAMED_BY: Mapping[str, tuple[str, str]] = {
    "email": ("email", "text"),
    "account": ("account_id", "bigint"),
    "operator": ("operator", "text"),
}


def named(tenant: str, references: Iterable[Reference]) -> Query | None:
    """Ask for the members that references name, retired ones too; rows of (form, key, id).

    None when nothing is to be asked: an id names its member by itself.
    """
    keys: dict[str, list[str]] = {}
    for one in references:
        if one.form in _NAMED_BY:
            keys.setdefault(one.form, []).append(one.key)
    if not keys:
        return None
    parts = [
        query.select(
            "entries",
            f"'{form}', {_NAMED_BY[form][0]}::text, id",
            tenant,
            ["kind = 'member'", f"{_NAMED_BY[form][0]} = ANY(%s::{_NAMED_BY[form][1]}[])"],
            [wanted],
        )
        for form, wanted in keys.items()
    ]
    return Query(
        " UNION ALL ".join(part.sql for part in parts), tuple(value for part in parts for value in part.params)
    )


def page(
    tenant: str, kind: str, after: str | None = None, limit: int = 50, *, offset: int = 0, retired: bool | None = False
) -> Query:
    """Ask for entries of a kind in order of id; `after` is the last id seen, `retired` None gives both."""
    if not 1 <= limit <= query.MAX_ROWS:
        raise BadQuery("bad-limit", f"a page has 1 to {query.MAX_ROWS} rows", "limit")
    if not 0 <= offset <= query.MAX_OFFSET:
        raise BadQuery("bad-offset", f"an offset is 0 to {query.MAX_OFFSET}", "offset")
    conditions, values = _of_kind(kind, retired)
    if after is not None:
        conditions.append("id > %s")
        values.append(after)
    tail = f" ORDER BY id LIMIT {limit:d}" + (f" OFFSET {offset:d}" if offset > 0 else "")
    return _ask(tenant, conditions, values, tail)


def count(tenant: str, kind: str, *, retired: bool | None = False) -> Query:
    """Ask how many entries of a kind there are; one row with one number."""
    return query.select("entries", "count(*)", tenant, *_of_kind(kind, retired), "")


def _of_kind(kind: str, retired: bool | None) -> tuple[list[str], list[Any]]:
    if kind not in KINDS:
        raise BadQuery("bad-filter", f"kinds are {', '.join(KINDS)}", "kind")
    state = [] if retired is None else ["retired" if retired else "NOT retired"]
    return ["kind = %s", *state], [kind]


def _ask(tenant: str, conditions: Sequence[str], values: Sequence[Any], tail: str = "") -> Query:
    for value in values:
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, int):
                query.demand_text(text, "id")
    return query.select("entries", "doc, id", tenant, conditions, values, tail)


# Rendering.


def resource_bytes(row: Sequence[Any]) -> bytes:
    """Return a row's resource as JSON."""
    doc: str = row[0]
    return doc.encode()


def resource(row: Sequence[Any]) -> dict[str, Any]:
    """Return a row's resource in the native shape."""
    shown: dict[str, Any] = msgspec.json.decode(row[0])
    return shown


def render_from_events(
    events: Iterable[Recorded], kind: str, entry_id: str, base: str | None = None
) -> dict[str, Any] | None:
    """Return the entry's resource as the events leave it; `base` is the `doc` of a row that may be behind them."""
    entry = _decode(base) if base is not None else None
    for event in events:
        if event.category == kind and event.entity_id == entry_id:
            if entry is None and not isinstance(event.data, (EntryRegistered, WorkflowDefined)):
                return None
            entry = apply(entry, event)
    return None if entry is None else resource((_encode(entry).decode(),))
