"""Refusals of requests: the exception, the table of codes."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Self

from domain.errors import Refusal, RefusalError

RETRY_SOON = {"Retry-After": "1"}
# What Python 3.13 calls otherwise than 3.11.
_PHRASES = {413: "Request Entity Too Large", 422: "Unprocessable Entity"}

# What says that a question cannot be asked.
OF_QUESTIONS = (
    "unknown-parameter",
    "unknown-filter",
    "bad-filter",
    "bad-sort",
    "bad-limit",
    "bad-offset",
    "bad-cursor",
    "bad-position",
    "position-beyond-head",
)
# The status of every code that a command, its data or a question can be refused with.
STATUS_OF_CODE: Mapping[str, int] = {
    # the body is no JSON that may be stored
    "not-gzip": 400,
    "not-json": 400,
    "not-utf-8": 400,
    "duplicate-key": 400,
    "too-deep": 400,
    "bad-header": 400,
    **dict.fromkeys(OF_QUESTIONS, 400),
    # who asks
    "unauthorized": 401,
    "forbidden": 403,
    "not-assignee": 403,
    # what is not there, or belongs to another tenant
    "not-found": 404,
    "unknown-or-undecided": 404,
    "method-not-allowed": 405,
    # the command does not fit what is
    "activity-canceled": 409,
    "already-assigned": 409,
    "already-processing": 409,
    "blocked": 409,
    "command-id-conflict": 409,
    "idempotency-conflict": 409,
    "in-use": 409,
    "late": 409,
    "limit-reached": 409,
    "name-taken": 409,
    "no-provider": 409,
    "older-letter": 409,
    "not-parked": 409,
    "not-retryable": 409,
    "not-assigned": 409,
    "not-failed": 409,
    "not-paused": 409,
    "not-processing": 409,
    "not-ready": 409,
    "not-unresolved": 409,
    "result-final": 409,
    "retired": 409,
    "same-assignee": 409,
    "taken": 409,
    "target-locked": 409,
    "terminal": 409,
    "unresolved": 409,
    "version-conflict": 409,
    "body-late": 408,
    "precondition-failed": 412,
    "too-large": 413,
    "unsupported-media-type": 415,
    # the command's data is wrong in itself
    "end-before-start": 422,
    "invalid": 422,
    "lone-surrogate": 422,
    "not-eligible": 422,
    "nul": 422,
    "number-out-of-range": 422,
    "step-count-fixed": 422,
    "unknown-field": 422,
    "unknown-type": 422,
    "wrong-shape": 422,
    "wrong-task-count": 422,
    "too-many-requests": 429,
    # not the caller's fault
    "internal": 500,
    "newer-version": 503,
    "overloaded": 503,
    "unavailable": 503,
    "view-late": 503,
}
# A refusal of a kind that is newer than this table is still about what is.
_OTHER = 409


def status_of(code: str) -> int:
    """Return the HTTP status of a refusal's code."""
    return STATUS_OF_CODE.get(code, _OTHER)


class ApiError(RefusalError):
    """A request that is not served; each dialect renders it in its own envelope.

    `pointer` is the JSON pointer into the body, `parameter` the query parameter or header at fault.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        pointer: str = "",
        parameter: str = "",
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(code, detail, pointer)
        self.parameter = parameter
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    @classmethod
    def of(cls, refusal: Refusal, parameter: str = "") -> Self:
        """Return what refuses a request for this reason."""
        return cls(refusal.code, refusal.detail, refusal.pointer, parameter)

    @classmethod
    def caused_by(cls, error: RefusalError) -> ApiError:
        """Return the refusal of a request by an error that carries one."""
        return error if isinstance(error, ApiError) else cls.of(error.refusal, getattr(error, "parameter", ""))

    @property
    def message(self) -> str:
        """Return the detail with the place at fault, for envelopes that have no field for it."""
        where = self.pointer or self.parameter
        return f"{self.detail} ({where})" if where else self.detail

    def at(self, pointer: str) -> ApiError:
        """Return the refusal with another place."""
        return ApiError(self.code, self.detail, pointer, self.parameter, self.headers, self.extra)

    @property
    def status(self) -> int:
        """Return the status outside dialects."""
        return status_of(self.code)


def unavailable(detail: str, code: str = "unavailable") -> ApiError:
    """Return the refusal of what may succeed in a moment."""
    return ApiError(code, detail, headers=RETRY_SOON)


def too_many(detail: str, seconds: int = 1) -> ApiError:
    """Return the refusal of one tenant's, or one key's, requests that are too many; others may come after a while."""
    return ApiError("too-many-requests", detail, headers={"Retry-After": str(seconds)})


def phrase(status: int) -> str:
    """Return the name of a status, the same under every Python."""
    return _PHRASES.get(status) or HTTPStatus(status).phrase
