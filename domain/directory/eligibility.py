"""Who may do what: what an actor is to a task or a project, and who may have a task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from domain.compare import text_key
from domain.decider import Context
from domain.directory.lookup import Entry
from domain.lifecycle import ADMIN, ASSIGNEE, MANAGER, OTHER, SYSTEM

# The field of a member that makes a tenant-admin.
TENANT_ADMIN = "tenant_admin"


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Who may have a task: members of its project, with a role, on the whitelist, and never on the blacklist."""

    project: str | None = None
    roles: tuple[str, ...] = ()
    whitelist: tuple[str, ...] = ()
    blacklist: tuple[str, ...] = ()

    def refuses(self, member: str, entry: Entry | None) -> str | None:
        """Return why the member is not eligible, or None. `entry` is None for one registered by the same command."""
        fields: Mapping[str, Any] = entry.fields if entry is not None else {}
        if member in self.blacklist:
            return "is on the blacklist"
        if self.whitelist and member not in self.whitelist:
            return "is not on the whitelist"
        if self.roles and not set(map(text_key, self.roles)) & set(map(text_key, roles_in(fields, self.project))):
            return f"has none of the roles {', '.join(self.roles)}"
        if self.project is not None and self.project not in (fields.get("projects") or {}):
            return f"is no member of project {self.project}"
        return None


def roles_in(fields: Mapping[str, Any], project: str | None) -> list[str]:
    """Return the roles that a member has in a project: the member's own, and those of the membership."""
    own = fields.get("actor_roles") or []
    if project is None:
        return own
    membership = (fields.get("projects") or {}).get(project)
    there = membership.get("actor_roles") if isinstance(membership, dict) else None
    # What was recorded before memberships had roles may be anything.
    more = [role for role in there if isinstance(role, str)] if isinstance(there, list) else []
    return [*own, *(role for role in more if role not in own)]


def is_manager(fields: Mapping[str, Any], project: str | None) -> bool:
    """Tell whether a member manages the project; of a thing without one, whether it manages any."""
    projects = fields.get("projects") or {}
    asked = [projects.get(project) or {}] if project is not None else list(projects.values())
    return any(membership.get("is_manager") is True for membership in asked)


def standing(fields: Mapping[str, Any], project: str | None) -> str:
    """Return what a member who was not retired is to a thing of this project that others have."""
    if fields.get(TENANT_ADMIN) is True:
        return ADMIN
    return MANAGER if is_manager(fields, project) else OTHER


def actor_kind(context: Context, assignees: Iterable[str], project: str | None) -> str:
    """Return what the command's actor is to a thing with these assignees, as one of `KINDS`."""
    if context.actor == SYSTEM:
        return SYSTEM
    if context.actor in assignees:
        return ASSIGNEE
    entry: Entry | None = context.state("member", context.actor)
    return OTHER if entry is None or entry.retired else standing(entry.fields, project)
