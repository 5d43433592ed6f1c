"""Endpoints of the dialects that describe themselves by hand, as parts of the application."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from services.http.core.call import JSON, Call, Ready
from services.http.core.errors import problem
from services.http.core.middleware import Envelope
from services.http.core.operation import Handler
from services.http.core.parameters import nothing_else, number, one
from services.http.core.routes import refusal

__all__ = ["JSON", "Call", "Endpoint", "Handler", "Ready", "nothing_else", "number", "one", "refusal"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation with what the documentation says of it. `about` goes into its OpenAPI operation as it stands."""

    method: str
    path: str
    permission: str
    handler: Handler
    about: dict[str, Any] = field(default_factory=dict)
    envelope: Envelope = problem

    @property
    def name(self) -> str:
        """Return the operation's id."""
        name: str = self.about["operationId"]
        return name

    def serve(self) -> Handler:
        """Return what serves it."""
        return self.handler
