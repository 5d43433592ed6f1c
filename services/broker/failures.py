"""What a failure of the broker means, in one line for people."""

from __future__ import annotations

from aiormq.exceptions import (
    AMQPChannelError,
    AMQPError,
    AuthenticationError,
    InvalidFrameError,
    ProbableAuthenticationError,
)


def explain(error: BaseException) -> str | None:
    """Return what went wrong, or None for what is no failure of the broker."""
    if not isinstance(error, AMQPError):
        return None
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, AuthenticationError | ProbableAuthenticationError):
        return f"the broker refused the login: {said}"
    if isinstance(error, InvalidFrameError) and "Close" in said:
        # The client says only that it was not let in; logged in it was.
        return "the broker has no such virtual host, or this user may not use it"
    if isinstance(error, AMQPChannelError):
        return f"the broker refused: {said}"
    return f"the broker cannot be reached: {said}"
