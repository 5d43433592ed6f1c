"""What every role serves beside its work (`services.health`), without a key."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field, RootModel

from services.http.core.models import View
from services.http.core.operation import Operation
from services.http.native.dialect import NATIVE

_PROBES = replace(NATIVE, tag="operations", failure=lambda *_: None)


class _Live(View):
    """It is"""

    status: Literal["live"]


class _Readiness(View):
    """How ready it is, and what every part says of itself under its own name"""

    model_config = ConfigDict(extra="allow")
    status: Literal["ready", "degraded", "not ready"]
    not_ready: list[str] = Field(description="the parts that are not ready")
    degraded: list[str] = Field(description="the parts that are degraded")


class _Figures(RootModel[str]):
    """Figures"""

    example: ClassVar[str] = "foldwork_up 1.0\n"


PROBES = (
    Operation(_PROBES, "GET", "/livez", "", "livez", "Is the process alive", view=_Live),
    Operation(
        _PROBES, "GET", "/readyz", "", "readyz", "Is the process ready, and if not, what is missing",
        view=_Readiness, also={503: _Readiness},
    ),
    Operation(
        replace(_PROBES, media="text/plain"), "GET", "/metrics", "", "metrics", "Figures for Prometheus",
        view=_Figures,
    ),
)  # fmt: skip
