"""A client of the original dispatch API, written from its documentation alone; it knows nothing of Foldwork.

Every method is one documented call, in the documented words, and returns the answer after holding it against the
documented shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

# What an answer is documented to hold: a type for each key, `None` among several when it may be null.
Shape = Mapping[str, Any]
TEXT, MAYBE_TEXT = (str,), (str, type(None))
CREATED: Shape = {
    "id": TEXT,
    "type": TEXT,
    "channel": TEXT,
    "status": TEXT,
    "taskDetails": {"assignedRouteId": TEXT, "assignedOperatorId": TEXT},
}
MESSAGE_CREATED: Shape = {name: shape for name, shape in CREATED.items() if name != "taskDetails"}
ACTIVITY: Shape = {
    "id": TEXT,
    "type": TEXT,
    "channel": TEXT,
    "status": TEXT,
    "scheduledAt": TEXT,
    "commerceAssignment": {"commerceId": TEXT, "commerce": {"name": TEXT}},
}
ATTRIBUTE: Shape = {
    "id": TEXT,
    "activityId": TEXT,
    "attributeKeyId": TEXT,
    "value": (object,),
    "resolutionStatus": TEXT,
    "resolverType": MAYBE_TEXT,
    "resolvedAt": MAYBE_TEXT,
    "errorMessage": MAYBE_TEXT,
    "createdAt": TEXT,
    "updatedAt": TEXT,
}
TARGET: Shape = {
    "id": TEXT,
    "commerceUserId": MAYBE_TEXT,
    "resolutionStatus": TEXT,
    "resolutionStrategy": TEXT,
    "lockReason": MAYBE_TEXT,
    "resolvedAt": MAYBE_TEXT,
    "lockedAt": MAYBE_TEXT,
    "commerceUser": (dict, type(None)),
}
META: Shape = {"page": (int,), "limit": (int,), "total": (int,), "totalPages": (int,)}
STATUS_EVENT: Shape = {
    "id": TEXT,
    "eventType": TEXT,
    "fromStatus": MAYBE_TEXT,
    "toStatus": TEXT,
    "errorCode": MAYBE_TEXT,
    "errorMessage": MAYBE_TEXT,
    "occurredAt": TEXT,
}
ATTRIBUTE_POLICY: Shape = {
    "id": TEXT,
    "attributeKeyId": TEXT,
    "resolutionStrategy": TEXT,
    "resolverType": TEXT,
    "attributeKey": {"key": TEXT, "label": TEXT},
}
TARGET_RESOLUTION: Shape = {
    "id": TEXT,
    "resolutionStrategy": TEXT,
    "fallbackToCommerceRep": (bool,),
    "fallbackToOwner": (bool,),
    "priority": (int,),
    "isActive": (bool,),
    "criteria": [{"id": TEXT, "criteriaType": TEXT, "criteriaConfig": (dict,), "priority": (int,)}],
}
DISPATCH_CONFIG: Shape = {
    "id": TEXT,
    "dispatchProviderId": TEXT,
    "channel": TEXT,
    "baseUrl": MAYBE_TEXT,
    "settings": (dict,),
    "isActive": (bool,),
    "dispatchProvider": {"code": TEXT, "name": TEXT},
}
ATTRIBUTE_KEY: Shape = {"id": TEXT, "key": TEXT, "label": TEXT, "description": MAYBE_TEXT}
FIELD: Shape = {"key": TEXT, "label": TEXT, "type": TEXT, "required": (bool,)}
CHANNEL: Shape = {"channel": TEXT, "credentialSchema": [FIELD], "settingsSchema": [FIELD]}
PROVIDER: Shape = {
    "id": TEXT,
    "code": TEXT,
    "name": TEXT,
    "protocolType": TEXT,
    "isActive": (bool,),
    "channelDefinitions": [CHANNEL],
}
CHANNEL_DEFINITION: Shape = {**CHANNEL, "id": TEXT, "dispatchProviderId": TEXT}
RETENTION_STATUS: Shape = {
    "id": TEXT,
    "code": TEXT,
    "label": TEXT,
    "description": MAYBE_TEXT,
    "isActive": (bool,),
    "createdAt": TEXT,
    "updatedAt": TEXT,
}
INTEGRATION_TASK: Shape = {
    "id": TEXT,
    "activityOrigin": TEXT,
    "type": TEXT,
    "status": TEXT,
    "channel": TEXT,
    "scheduledAt": TEXT,
    "occurredAt": MAYBE_TEXT,
    "createdAt": TEXT,
    "lifecycleStatus": TEXT,
    "lifecycleStatusLabel": TEXT,
    "lifecycleStatusDetail": MAYBE_TEXT,
    "canForceRetryDispatch": (bool,),
    "commerceExternalId": TEXT,
    "commerceName": TEXT,
}
RESULT_TYPE: Shape = {"code": TEXT, "label": TEXT, "requiresFutureScheduledAt": (bool,)}
ERROR: Shape = {"statusCode": (int,), "message": TEXT, "error": TEXT}


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


def demand(value: Any, shape: Any, place: str = "answer") -> None:
    """Fail unless a value has the documented keys with the documented types; others are not looked at."""
    if isinstance(shape, Mapping):
        assert isinstance(value, dict), f"{place} is an object, not {value!r}"
        for name, inner in shape.items():
            assert name in value, f"{place} has no {name}"
            demand(value[name], inner, f"{place}.{name}")
    elif isinstance(shape, list):
        assert isinstance(value, list), f"{place} is an array, not {value!r}"
        for index, each in enumerate(value):
            demand(each, shape[0], f"{place}[{index}]")
    else:
        assert isinstance(value, shape), f"{place} is {value!r}"


@dataclass
class DispatchClient:
    """The API at an address, for a token and its tenant, or for an API key alone."""

    base: str
    token: str = ""
    tenant: str = ""
    api_key: str = ""
    session: requests.Session = field(default_factory=requests.Session)

    def _headers(self) -> dict[str, str]:
        if self.api_key:
            return {"x-api-key": self.api_key}
        return {"Authorization": f"Bearer {self.token}", "x-tenant-id": self.tenant}

    def _call(
        self, method: str, path: str, shape: Any, body: Any = None, expected: int = 200, query: Any = None
    ) -> Any:
        response = self.session.request(
            method, f"{self.base}/api{path}", headers=self._headers(), json=body, params=query, timeout=30
        )
        if response.status_code >= 400:
            demand(response.json(), ERROR)
            raise ApiError(response.status_code, response.json()["message"])
        assert response.status_code == expected, response.text
        if expected == 204:
            assert response.content == b""
            return None
        demand(response.json(), shape)
        return response.json()

    # Activities.

    def create_task(self, **body: Any) -> Any:
        return self._call("POST", "/activities/tasks", CREATED, body, 201)

    def create_activity(self, **body: Any) -> Any:
        return self._call("POST", "/activities", MESSAGE_CREATED, body, 201)

    def activities(self, **query: Any) -> Any:
        return self._call("GET", "/activities", {"data": [ACTIVITY], "meta": META}, query=query)

    def activity(self, activity_id: str) -> Any:
        return self._call("GET", f"/activities/{activity_id}", ACTIVITY)

    def status_events(self, activity_id: str) -> Any:
        return self._call("GET", f"/activities/{activity_id}/status-events", [STATUS_EVENT])

    def attributes(self, activity_id: str) -> Any:
        return self._call("GET", f"/activities/{activity_id}/attributes", [ATTRIBUTE])

    def target_users(self, activity_id: str) -> Any:
        return self._call("GET", f"/activities/{activity_id}/target-users", [TARGET])

    def retry_resolution(self, activity_id: str) -> Any:
        return self._call("PATCH", f"/activities/{activity_id}/retry-resolution", ACTIVITY, {})

    def resolve_target(self, activity_id: str, target_id: str, commerce_user_id: str) -> Any:
        body = {"commerce_user_id": commerce_user_id}
        return self._call("PATCH", f"/activities/{activity_id}/target-users/{target_id}/resolve", ACTIVITY, body)

    def cancel(self, activity_id: str) -> Any:
        return self._call("PATCH", f"/activities/{activity_id}/cancel", ACTIVITY, {})

    def dispatch(self, activity_id: str) -> None:
        self._call("POST", f"/activities/tasks/{activity_id}/dispatch", None, expected=204)

    # Results.

    def submit_result(self, **body: Any) -> Any:
        return self._call("POST", "/activity-results/tasks", {}, body, 201)

    # Integration.

    def integration_tasks(self, **query: Any) -> Any:
        return self._call(
            "GET", "/integration/activities/tasks", {"data": [INTEGRATION_TASK], "meta": META}, query=query
        )

    def submit_integration_result(self, **body: Any) -> Any:
        return self._call("POST", "/integration/activity-results/tasks", {}, body, 201)

    def result_types(self) -> Any:
        return self._call("GET", "/integration/task-result-type-configs", [RESULT_TYPE])

    # Catalogues.

    def attribute_keys(self) -> Any:
        return self._call("GET", "/activity-config/attribute-keys", [ATTRIBUTE_KEY])

    def dispatch_providers(self) -> Any:
        return self._call("GET", "/dispatch-providers", [PROVIDER])

    def channel_definitions(self, provider_id: str) -> Any:
        return self._call("GET", f"/dispatch-providers/{provider_id}/channel-definitions", [CHANNEL_DEFINITION])

    def retention_statuses(self, **query: Any) -> Any:
        return self._call("GET", "/user-retention-statuses", [RETENTION_STATUS], query=query)

    def create_retention_status(self, **body: Any) -> Any:
        return self._call("POST", "/user-retention-statuses", RETENTION_STATUS, body, 201)

    # Configuration.

    def attribute_policies(self) -> Any:
        return self._call("GET", "/activity-config/attribute-policies", [ATTRIBUTE_POLICY])

    def put_attribute_policy(self, **body: Any) -> Any:
        return self._call("POST", "/activity-config/attribute-policies", ATTRIBUTE_POLICY, body)

    def target_resolutions(self) -> Any:
        return self._call("GET", "/activity-config/target-resolution", [TARGET_RESOLUTION])

    def put_target_resolution(self, **body: Any) -> Any:
        return self._call("POST", "/activity-config/target-resolution", TARGET_RESOLUTION, body, 201)

    def dispatch_configs(self) -> Any:
        return self._call("GET", "/dispatch-configs", [DISPATCH_CONFIG])

    def put_dispatch_config(self, **body: Any) -> Any:
        return self._call("POST", "/dispatch-configs", DISPATCH_CONFIG, body, 201)
