"""What a change leaves out, which is another thing than null."""

from __future__ import annotations

from dataclasses import field
from enum import Enum
from typing import Any


class _LeftOut(Enum):
    # A value that no JSON can hold, so that it is never sent by mistake.
    LEFT_OUT = object()


# The value of a field that a change leaves out, which stays as it is; null takes it away.
LEFT_OUT: Any = _LeftOut.LEFT_OUT


def left_out() -> Any:
    """Give a field of a change the default `LEFT_OUT`; it is optional, and null is for its type to allow."""
    # By a factory, so that no JSON Schema shows it as a value that could be sent.
    return field(default_factory=lambda: LEFT_OUT)
