"""The memberships of a member: what a person is in each project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.decider import merged
from domain.errors import Rejected


def in_projects(
    member: str, fields: Mapping[str, Any], memberships: Mapping[str, Any], *, join: bool
) -> dict[str, Any]:
    """Return all projects of a member with other memberships in some: null leaves a project, and the rest stays."""
    found = dict(fields.get("projects") or {})
    for project, wanted in memberships.items():
        if project not in found and (wanted is None or not join):
            raise Rejected("not-found", f"member {member} is not in project {project}", "/memberships")
        if wanted is None:
            del found[project]
        elif isinstance(wanted, dict):
            found[project] = merged(found.get(project) or {}, wanted)
        else:
            detail = "memberships are an object of project id to {is_manager, actor_roles}"
            raise Rejected("invalid", detail, "/memberships")
    return found
