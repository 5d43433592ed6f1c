"""What a decision says when it refuses; a refusal is an answer with a stable code, never a failure."""

from __future__ import annotations

from dataclasses import dataclass

# Characters of what a refusal says, and of the place that it names; longer ones are cut.
MAX_DETAIL, MAX_POINTER = 500, 500


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a command was refused."""

    # Kebab-case, and part of the contract.
    code: str
    # For people.
    detail: str
    # The JSON pointer (RFC 6901) of the field in the command's data that is at fault, or empty.
    pointer: str = ""

    def __post_init__(self) -> None:
        # Both quote what was sent, and are kept on the receipt.
        if len(self.detail) > MAX_DETAIL:
            object.__setattr__(self, "detail", f"{self.detail[: MAX_DETAIL - 1]}…")
        if len(self.pointer) > MAX_POINTER:
            # The place around the one at fault.
            object.__setattr__(self, "pointer", self.pointer[: MAX_POINTER + 1].rpartition("/")[0])


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
