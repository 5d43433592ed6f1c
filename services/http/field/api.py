"""The field dialect: activities, tasks and workflows as its pages say, on the same commands and read models."""

from __future__ import annotations

from services.http.endpoints import Endpoint
from services.http.field import bulk, tasks, workflows
from services.http.service import Service


def endpoints(service: Service) -> list[Endpoint]:
    """Return the endpoints of the dialect."""
    return [*tasks.endpoints(service), *bulk.endpoints(service), *workflows.endpoints(service)]
