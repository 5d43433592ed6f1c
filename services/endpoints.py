"""The endpoints that give each command, for the documents."""

from __future__ import annotations

from collections.abc import Mapping

_PUT = ("activity-config/attribute-policies", "activity-config/target-resolution", "dispatch-configs")
_UPSERTS = tuple(f"POST /api/{path}" for path in _PUT)
_CONFIGURED = ("/api/attribute-policies", "/api/target-resolution-policies", "/api/dispatch-configurations")
_CHANGED = (*_CONFIGURED, "/api/v3/workflow/projects")
_MEMBERS = (("POST", ""), ("PATCH", "/{id}"), ("DELETE", "/{id}"))
# The endpoints that give each command; one that none is named for is given over `POST /v1/commands` alone.
ENDPOINTS: Mapping[str, tuple[str, ...]] = {
    "workflow.define": ("POST /api/v3/internal/workflows",),
    "workflow.change": ("PUT /api/v3/workflow/{id}",),
    "workflow.retire": ("DELETE /api/v3/workflow/{id}",),
    "activity.create": ("POST /api/v3/activity", "POST /api/v3/workflow/work_units"),
    "activity.change": (
        "PUT /api/v3/task/{id}",
        "PATCH /api/v3/task/{id}",
        "PUT /api/v3/task/{id}/move",
        "PATCH /api/v3/workflow/work_units/{id}",
    ),
    "activity.cancel": ("DELETE /api/v3/task/{id}", "POST /api/v3/workflow/work_units/{id}/cancel"),
    "task.create": ("POST /api/v3/task", "POST /api/v3/tasks/bulk", "POST /api/activities/tasks"),
    "task.assign": ("PATCH /api/v3/workflow/activities/{id}/assign",),
    "task.claim": ("PATCH /api/v3/workflow/activities/{id}/assign",),
    "task.reassign": ("PATCH /api/v3/workflow/activities/{id}/reassign",),
    "task.unassign": ("PATCH /api/v3/workflow/activities/{id}/unassign",),
    "task.process": ("PATCH /api/v3/workflow/activities/{id}/process", "POST /api/v3/workflow/tracker/start"),
    "task.save": ("PATCH /api/v3/workflow/activities/{id}",),
    "task.change": (
        *(f"{method} /api/v3/task/{{id}}" for method in ("PUT", "PATCH")),
        *(f"PUT /api/v3/task/{{id}}/{what}" for what in ("assign", "move")),
    ),
    "task.complete": ("PATCH /api/v3/workflow/activities/{id}/complete",),
    "task.error": ("POST /api/v3/workflow/activities/{id}/error",),
    "task.cancel": (
        "DELETE /api/v3/task/{id}",
        "PATCH /api/activities/{id}/cancel",
        "POST /api/v3/workflow/activities/{id}/cancel",
    ),
    "tracker.pause": ("POST /api/v3/workflow/tracker/pause", "POST /api/v3/workflow/tracker/pause/{account_id}"),
    "tracker.resume": ("POST /api/v3/workflow/tracker/resume",),
    "task.dispatch": ("POST /api/activities/tasks/{id}/dispatch",),
    "task.submit-result": ("POST /api/activity-results/tasks",),
    "task.retry-resolution": ("PATCH /api/activities/{id}/retry-resolution",),
    "task.resolve-target": ("PATCH /api/activities/{id}/target-users/{target_id}/resolve",),
    "directory.register": ("POST /v1/directory/{kind}", *(f"POST {path}" for path in _CHANGED)),
    "directory.change": (
        *(f"{method} /api/v3/workflow/members{rest}" for method, rest in _MEMBERS),
        "PATCH /v1/directory/{kind}/{id}",
        *(f"PATCH {one}/{{id}}" for one in _CHANGED),
    ),
    "directory.put": _UPSERTS,
    "directory.retire": ("DELETE /v1/directory/{kind}/{id}", *(f"DELETE {path}/{{id}}" for path in _CONFIGURED)),
}
