"""One-line explanations of the broker's errors."""

from __future__ import annotations

from aiormq.exceptions import (
    AMQPChannelError,
    AMQPError,
    AuthenticationError,
    InvalidFrameError,
    ProbableAuthenticationError,
)


def explain(error: BaseException) -> str | None:
    """Return an explanation, or None if the error does not come from the broker."""
    if not isinstance(error, AMQPError):
        return None
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, AuthenticationError | ProbableAuthenticationError):
        return f"the broker refused the login: {message}"
    if isinstance(error, InvalidFrameError) and "Close" in message:
        # The login succeeded, and the broker closed the connection when the virtual host was opened.
        return "the broker has no such virtual host, or this user may not use it"
    if isinstance(error, AMQPChannelError):
        return f"the broker refused: {message}"
    return f"the broker cannot be reached: {message}"
