"""What a decision says when it refuses; a refusal is an answer with a stable code, never a failure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a command was refused."""

    # Kebab-case, and part of the contract.
    code: str
    # For people.
    detail: str
    # The JSON pointer (RFC 6901) of the field in the command's data that is at fault, or empty.
    pointer: str = ""


class RefusalError(Exception):
    """The base of exceptions that carry a refusal."""

    def __init__(self, code: str, detail: str, pointer: str = "") -> None:
        super().__init__(f"{code}: {detail}")
        self.refusal = Refusal(code, detail, pointer)

    @property
    def code(self) -> str:
        """The refusal's code."""
        return self.refusal.code

    @property
    def detail(self) -> str:
        """The refusal's sentence."""
        return self.refusal.detail

    @property
    def pointer(self) -> str:
        """The place of what is at fault."""
        return self.refusal.pointer


class Rejected(RefusalError):
    """A command refused by the domain."""
