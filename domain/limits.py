"""The limits of what a command holds. Each is part of a field's type, so checks, schemas and documents derive from it.

`domain.checks` holds values against them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from domain.streams import ID

# The most items of lists and maps.
MAX_STEPS = 10
MAX_MAPPINGS = 100
MAX_ASSIGNEES = 50
# A whitelist is copied to each task, and into the workflow's and the activity's own events.
MAX_LISTED = 500
MAX_ROLES = 100
# Of all steps of a workflow together, as JSON: each activity has them all in its own event, and each task its step's.
MAX_STEPS_BYTES = 128 * 1024
# Different people whom one command names, and events that it records.
MAX_PEOPLE = 1000
MAX_EVENTS = 1000
# Criteria, attribute keys and attributes of a task.
MAX_KEYS = 100
MAX_LABELS = 20
# Of a member: an e-mail address, an operator's id, an account number; the most projects. Of a commerce: the most users.
MAX_EMAIL = 254
MAX_OPERATOR = 200
MAX_ACCOUNT = 2**53 - 1
MAX_PROJECTS = 500
MAX_USERS = 500
# Names of fields that a change keeps.
MAX_KEPT = 100
# A free map of JSON: what a command brings, and what a task, an activity or an entry holds after it.
MAX_FIELDS = 1000
MAX_KEY = 200
# A short value takes up to 40 times its bytes in memory, and has an entry in an index of its own.
MAX_VALUES = 5000
MAX_FIELDS_BYTES = 256 * 1024
# Of one attribute; what a task has of them is bounded as its fields are.
MAX_ATTRIBUTE_BYTES = 64 * 1024
MAX_ATTRIBUTE_VALUES = 1000
MAX_WHOLE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Text:
    """A text of `least` to `most` characters. `pattern` is a regular expression of the whole text, as in ECMA-262."""

    least: int
    most: int
    pattern: str | None = None
    detail: str | None = None

    @property
    def said(self) -> str:
        """Return what is demanded, for people."""
        return self.detail or f"a text of {f'{self.least} to' if self.least else 'at most'} {self.most} characters"


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `least` to `most`, a whole one unless it may be a fraction."""

    least: int
    most: int
    whole: bool = True

    @property
    def said(self) -> str:
        """Return what is demanded, for people."""
        return f"a {'whole ' if self.whole else ''}number from {self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class Items:
    """A list, or a map of named values, of `least` to `most` items; `code` is what another number is refused with."""

    most: int
    least: int = 0
    code: str = "invalid"


@dataclass(frozen=True, slots=True)
class Json:
    """Any JSON, of at most so many bytes when it is encoded without spaces. `fields` is the most keys of a map.

    `values` is the most values in it: members of maps and items of lists, also further inside, empty ones too.
    A key, also further inside, has at most `MAX_KEY` characters.
    """

    most: int = MAX_FIELDS_BYTES
    fields: int = MAX_FIELDS
    values: int = MAX_VALUES


_ID = ID.pattern.removesuffix(r"\Z")
# The date's own rule, and what lies outside the years 1 to 9999 in UTC, is for `domain.decider.instant`. The hour is
# part of the pattern because newer Pythons read 24:00:00.
INSTANT = (
    r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
INSTANT_DETAIL = "a time is RFC 3339 with an offset, such as 2025-10-31T08:55:00.000+07:00"

Id = Annotated[str, Text(1, 64, _ID, "an id is 1 to 64 characters of A-Z a-z 0-9 _ -")]
# A member's id, an e-mail address, `account:<number>` or `operator:<id>`.
Person = Annotated[str, Text(1, MAX_EMAIL)]
Instant = Annotated[str, Text(20, 35, INSTANT, INSTANT_DETAIL)]
WorkflowName = Annotated[str, Text(2, 100)]
StepName = Annotated[str, Text(1, 100)]
# In the form that names are compared by, a character takes up to twelve bytes, and an index takes 2,704.
Title = Annotated[str, Text(0, 200)]
Flow = Annotated[str, Text(0, 200)]
Role = Annotated[str, Text(1, 100)]
Label = Annotated[str, Text(0, 200)]
Channel = Annotated[str, Text(1, 64)]
FieldName = Annotated[str, Text(1, 100)]
Key = Annotated[str, Text(0, MAX_KEY)]
# A time as the log has it, or an attempt's number; one that is not current is of no consequence.
Due = Annotated[str, Text(0, 64)]
Comment = Annotated[str, Text(0, 2000)]
# A provider's own words, of which the service keeps no more.
Said = Annotated[str, Text(0, 500)]
Whole = Annotated[int, Number(-MAX_WHOLE - 1, MAX_WHOLE)]
Count = Annotated[int, Number(0, 2**31 - 1)]
# A number is kept as it was written; beyond these, a column of floating point could not tell it from its neighbours.
Order = Annotated[int | float, Number(-(2**53), 2**53, whole=False)]
Fields = Annotated[dict[str, Any], Json()]
Assignees = Annotated[tuple[Person, ...], Items(MAX_ASSIGNEES)]
NewAssignees = Annotated[tuple[Person, ...], Items(MAX_ASSIGNEES, 1)]
Listed = Annotated[tuple[Person, ...], Items(MAX_LISTED)]
Roles = Annotated[tuple[Role, ...], Items(MAX_ROLES)]
Value = Annotated[Any, Json(MAX_ATTRIBUTE_BYTES, values=MAX_ATTRIBUTE_VALUES)]

Limit = Text | Number | Items | Json
LIMITS = (Text, Number, Items, Json)


def limits_of(hint: Any) -> tuple[Any, tuple[Limit, ...]]:
    """Return a type without its limits, and the limits."""
    if get_origin(hint) is not Annotated:
        return hint, ()
    bare, *marks = get_args(hint)
    return bare, tuple(mark for mark in marks if isinstance(mark, LIMITS))


def hints_of(kind: type) -> dict[str, Any]:
    """Return the types of a class's fields, with their limits."""
    return get_type_hints(kind, include_extras=True)
