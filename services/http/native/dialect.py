"""What the operations of the native API share."""

from __future__ import annotations

from services.http.core.operation import Dialect
from services.http.native import models
from services.http.native.errors import PROBLEM_JSON, Problem, failed, failure

NATIVE = Dialect(
    "commands", failed, failure, Problem, models.Undecided, failure_media=PROBLEM_JSON, paths=("/",),
    failures=(401, 403, 500, 503),
)  # fmt: skip
