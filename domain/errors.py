"""What a decision says when it refuses; a refusal is an answer with a stable code, never a failure."""

from __future__ import annotations


class Rejected(Exception):
    """A command refused by the domain.

    `code` is kebab-case and part of the contract, `detail` is for people, `pointer` is the JSON pointer (RFC 6901)
    of the field in the command's data that is at fault, or empty.
    """

    def __init__(self, code: str, detail: str, pointer: str = "") -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.pointer = pointer
