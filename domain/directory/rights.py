"""Who may make what of a directory entry: a manager of one project gets no power over another, or over the tenant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.decider import Context, changes
from domain.directory.eligibility import TENANT_ADMIN, actor_kind
from domain.directory.lookup import Entry
from domain.errors import Rejected
from domain.lifecycle import ENTRY_RIGHTS, MANAGER
from domain.references import FIELDS


def permit_entry(
    kind: str, entry_id: str, present: Entry | None, wanted: Mapping[str, Any] | None, context: Context
) -> None:
    """Refuse an actor who may not make this of an entry: `wanted` are its fields from now on, None retires it."""
    who = actor_kind(context, (), None)
    if who not in ENTRY_RIGHTS[kind]:
        raise Rejected("forbidden", "only a tenant-admin may do this")
    if who != MANAGER:
        return
    if kind == "project":
        _demand_manager(context, entry_id, "/id")
    else:
        _permit_member(present, wanted, context)


def _permit_member(present: Entry | None, wanted: Mapping[str, Any] | None, context: Context) -> None:
    before, after = present.fields if present is not None else {}, wanted or {}
    old, new = before.get("projects") or {}, after.get("projects") or {}
    of_person = changes(before, {**dict.fromkeys(before), **after})[1].keys() - {"projects"}
    whole = present is not None and (wanted is None or present.retired or bool(of_person))
    if whole and (not old or before.get(TENANT_ADMIN)):
        # Of no project's manager: a role is a way into whatever the person has.
        of_whom = "a tenant-admin" if before.get(TENANT_ADMIN) else "a member of no project"
        raise Rejected("forbidden", f"only a tenant-admin may do this to {of_whom}", "/id")
    moved = changes(old, {**dict.fromkeys(old), **new})[1]
    # Who changes, retires or brings back a person needs all projects that the person is in.
    for project, pointer in {
        **dict.fromkeys(moved, "/fields/projects"),
        **dict.fromkeys(old if whole else (), "/id"),
    }.items():
        _demand_manager(context, project, pointer)
    # Whoever is named by an identifier gets the work that was meant for the person, from all projects.
    identifiers = [name for name, _ in FIELDS.values()] if present is not None and wanted is not None else []
    for name in (TENANT_ADMIN, *identifiers):
        if name in of_person:
            raise Rejected("forbidden", f"only a tenant-admin may change the {name} of a member", f"/fields/{name}")


def _demand_manager(context: Context, project: str, pointer: str) -> None:
    if actor_kind(context, (), project) != MANAGER:
        raise Rejected("forbidden", f"only a manager of project {project} may do this", pointer)
