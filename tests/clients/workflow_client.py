"""A client of the workflow API as its vendor writes one: it knows a base URL and a key, and nothing of Foldwork.

The calls are those of the vendor's n8n node: a log-in for a bearer token, no `Accept` after that, a `Content-Type` only
with a body, account numbers as texts, and every filter as `filter%5Bname%5D[]=value`, whatever its operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import requests

Json = dict[str, Any]
_API = "/api/v3"
_TIMEOUT = 60


class Refused(Exception):
    """What the API answered instead, as the client shows it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """A session of one account."""

    def __init__(self, base: str, key: str) -> None:
        self._base = base
        self._session = requests.Session()
        # Else the library would send both with every request.
        del self._session.headers["Accept"]
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        answer = requests.post(f"{base}{_API}/iam/auth/api/login", json={"key": key}, headers=headers, timeout=_TIMEOUT)
        if not answer.ok:
            raise Refused(answer.status_code, answer.json()["message"])
        self._session.headers["Authorization"] = f"Bearer {answer.json()['meta']['token']}"

    def request(self, method: str, path: str, body: Any = None, query: str = "") -> Any:
        """Send a request and return its decoded answer, None when that is empty."""
        url = f"{self._base}{_API}{path}{'?' if query else ''}{query}"
        answer = self._session.request(method, url, json=body, timeout=_TIMEOUT)
        found = answer.json() if answer.content else None
        if not answer.ok:
            raise Refused(answer.status_code, _message(found))
        return found

    def listed(
        self,
        resource: str,
        filters: Mapping[str, str] | None = None,
        included: Iterable[str] = (),
        fields: Mapping[str, Iterable[str]] | None = None,
        page: tuple[int, int] | None = None,
        **rest: str,
    ) -> Json:
        """Return a page; several values of a filter are separated by commas."""
        given = filters or {}
        parts = [
            f"filter{quote(f'[{name}]')}[]={quote(value.strip())}"
            for name, values in given.items()
            for value in values.split(",")
        ]
        parts += [f"included[]={name}" for name in included]
        parts += [
            f"fields{quote(f'[{kind}]', safe='')}[]={name}" for kind, its in (fields or {}).items() for name in its
        ]
        if page is not None:
            parts += [f"page[number]={page[0]}", f"page[size]={page[1]}"]
        parts += [f"{name}={quote(value)}" for name, value in rest.items()]
        found: Json = self.request("GET", f"/workflow/{resource}", query="&".join(parts))
        return found

    def read(self, resource: str, resource_id: str, query: str = "") -> Json:
        """Return one resource."""
        found: Json = self.request("GET", f"/workflow/{resource}/{resource_id}", query=query)["data"]
        return found

    def create(self, resource: str, kind: str, attributes: Json, project: str | None = None) -> Json:
        """Create a resource, of a project if it belongs to one."""
        data: Json = {"type": kind, "attributes": attributes}
        if project is not None:
            data["relationships"] = {"project": {"data": {"type": "workflow/projects", "id": project}}}
        found: Json = self.request("POST", f"/workflow/{resource}", {"data": data})["data"]
        return found

    def patch(self, resource: str, kind: str, resource_id: str, attributes: Json) -> Json:
        """Change attributes of a resource."""
        data = {"type": kind, "id": resource_id, "attributes": attributes}
        found: Json = self.request("PATCH", f"/workflow/{resource}/{resource_id}", {"data": data})["data"]
        return found

    def act(self, activity: str, action: str, body: Any = None, method: str = "PATCH") -> Json:
        """Do something to an activity, and return it as it is then."""
        found: Json = self.request(method, f"/workflow/activities/{activity}/{action}", body)["data"]
        return found

    def assign(self, activity: str, account_id: str, start_working: bool) -> Json:
        """Give an activity to an account."""
        return self.act(activity, "assign", {"account_id": account_id, "start_working": start_working})

    def track(self, way: str, body: Any = None) -> Json:
        """Use the tracker of the caller, or of somebody else whose account is in the path."""
        found: Json = self.request("POST", f"/workflow/tracker/{way}", body)
        return found


def _message(body: Any) -> str:
    """Return what a refusal says, by the keys that the vendor's client looks for."""
    if errors := body.get("errors"):
        return "; ".join(f"{error['title']}: {error['detail']}" for error in errors)
    return str(body.get("message") or body.get("error"))
