"""Filters as conditions that an index serves: equal, among, beside, before, after, beginning with; values are bound."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from domain.compare import name_key
from projections.support.query import MAX_FILTER_VALUES, BadQuery, demand_text

OPERATORS = ("neq", "lt", "lte", "gt", "gte", "in", "match", "prefix", "suffix", "contains", "exists")
EQUAL, NEQ, IN, MATCH, PREFIX, SUFFIX, CONTAINS, EXISTS = (
    "", "neq", "in", "match", "prefix", "suffix", "contains", "exists"
)  # fmt: skip
ORDER: Mapping[str, str] = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
SCALAR = frozenset({EQUAL, NEQ, IN, EXISTS, *ORDER})
TEXT = SCALAR | {MATCH, PREFIX, SUFFIX}
SET = frozenset({EQUAL, NEQ, IN, CONTAINS, EXISTS})


class Where(NamedTuple):
    """A condition and its values."""

    sql: str
    params: tuple[Any, ...] = ()


ALL, NONE = Where("TRUE"), Where("FALSE")


@dataclass(frozen=True, slots=True)
class Asked:
    """One filter: the attribute, the operator, and the value as the caller gave it: none, one, or several.

    `parameter` is what the caller calls it; `now` the time at which periods that go on are read.
    """

    tenant: str
    name: str
    operator: str
    value: Any
    parameter: str
    now: datetime | None = None

    def bad(self, detail: str) -> BadQuery:
        """Return the refusal of this filter."""
        return BadQuery("bad-filter", detail, self.parameter)

    def several(self) -> list[Any]:
        """Return the values, when the question is for any of several; one is several too."""
        values = self.value if isinstance(self.value, list) else [self.value]
        if len(values) > MAX_FILTER_VALUES:
            raise self.bad(f"a filter has at most {MAX_FILTER_VALUES} values")
        return values

    def single(self) -> Any:
        """Return the one value that an operator compares with."""
        if self.value is None or isinstance(self.value, (list, tuple)):
            raise self.bad("this operator takes one value")
        return self.value

    def presence(self) -> bool | None:
        """Return whether something has to be there, or nothing; None when the question is for values."""
        if self.operator == EXISTS:
            there = _THERE.get(self.value) if self.value is None or isinstance(self.value, str) else None
            if there is None:
                raise self.bad("exists is true or false, or 1 or 0; an empty value is false")
            return there
        if self.value is not None:
            return None
        if self.operator not in (EQUAL, NEQ):
            raise self.bad("this operator takes a value")
        return self.operator == NEQ


Condition = Callable[[Asked], Where]
# What may be asked of each attribute: with which operators, and how.
Conditions = Mapping[str, tuple[frozenset[str], Condition]]
# The values of `exists`.
_THERE: Mapping[str | None, bool] = {None: False, "": False, "0": False, "false": False, "1": True, "true": True}
# Each letter with two cases at the beginning of a text doubles the stretches of an index that may hold it.
_MAX_FOLDED = 5


def asked_of(conditions: Conditions, asked: Asked) -> Where:
    """Return the condition of a filter on an attribute that is known; raises `BadQuery`."""
    operators, condition = conditions[asked.name]
    if asked.operator not in operators:
        listed = ", ".join(name or "no operator" for name in (EQUAL, *OPERATORS) if name in operators)
        raise asked.bad(f"{asked.name} may be asked with {listed}")
    return condition(asked)


def above(prefix: str) -> str | None:
    """Return the least text that is greater than every text with this prefix; None when there is none."""
    while prefix and prefix[-1] == "\U0010ffff":
        prefix = prefix[:-1]
    if not prefix:
        return None
    code = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if code == 0xD800 else code)


def scalar(column: str, kind: str, read: Callable[[Asked, Any], Any], null: str, present: str = "") -> Condition:
    """Return the conditions of a column of values in an order; `present` is what all that have a value fulfil."""
    guard = f"{present} AND " if present else ""

    def condition(asked: Asked) -> Where:
        operator, there = asked.operator, asked.presence()
        if there is not None:
            return Where((present or f"{column} IS NOT NULL") if there else null)
        if operator in ORDER:
            return Where(f"({guard}{column} {ORDER[operator]} %s::{kind})", (read(asked, asked.single()),))
        wanted = [read(asked, item) for item in asked.several()]
        if operator != NEQ:
            return among(column, kind, wanted, guard)
        return beside(column, kind, wanted, null, guard)

    return condition


def among(column: str, kind: str, wanted: Sequence[Any], guard: str = "") -> Where:
    """Return that a column has one of the values; among none there is none."""
    if not wanted:
        return NONE
    if len(wanted) == 1:
        # One value has an index in the order of the sort; several have not.
        return Where(f"({guard}{column} = %s::{kind})", (wanted[0],))
    return Where(f"({guard}{column} = ANY(%s::{kind}[]))", (list(wanted),))


def overlapping(column: str, wanted: Sequence[str], present: str = "") -> Where:
    """Return that a column's list has one of the values; `present` is what all that have any fulfil."""
    guard = f"{present} AND " if present else ""
    if len(wanted) == 1:
        return Where(f"({guard}{column} @> ARRAY[%s::text])", (wanted[0],))
    return Where(f"({guard}{column} && %s::text[])", (list(wanted),))


def beside(column: str, kind: str, wanted: Sequence[Any], null: str, guard: str = "") -> Where:
    """Return that a column has none of the values: as the stretches between them, which an index can be asked for."""
    values = sorted(set(wanted), key=_by_bytes)
    if not values:
        return ALL
    parts = [f"{guard}{column} < %s::{kind}", f"{guard}{column} > %s::{kind}", null]
    params = [values[0], values[-1]]
    for low, high in itertools.pairwise(values):
        parts.append(f"{guard}{column} > %s::{kind} AND {column} < %s::{kind}")
        params += [low, high]
    # The order of the values in the statement is that of its parts.
    ordered = [f"({part})" for part in (*parts[:2], *parts[3:], parts[2])]
    return Where(f"({' OR '.join(ordered)})", tuple(params))


def parts_of(conditions: Iterable[Where]) -> tuple[list[str], list[Any]]:
    """Return the texts of conditions, and all their values in order."""
    found = list(conditions)
    return [each.sql for each in found], [value for each in found for value in each.params]


def _by_bytes(value: Any) -> Any:
    # UTF-8 keeps the order of code points, which is the order of a column's texts.
    return value.encode() if isinstance(value, str) else value


# Texts.


def text_of(asked: Asked, value: Any) -> str:
    """Return a filter's value as a text that can be asked for."""
    return demand_text(value, asked.parameter)


def texts(column: str, null: str) -> Condition:
    """Return the conditions of a column of texts; `null` is what those without one fulfil."""
    whole = scalar(column, "text", text_of, null)

    def condition(asked: Asked) -> Where:
        if asked.operator not in (MATCH, PREFIX, SUFFIX):
            return whole(asked)
        text = name_key(text_of(asked, asked.single()))
        if asked.operator == MATCH:
            return Where(f"strpos(lower({column}), %s) > 0", (text,))
        if asked.operator == SUFFIX:
            return Where(f"right(lower({column}), length(%s)) = %s", (text, text))
        return _beginning(column, text)

    return condition


def _beginning(column: str, prefix: str) -> Where:
    """Return that a column's text begins with the prefix, whatever the case of either: a stretch for each spelling.

    Only the first letters are spelt out; of what they find, the whole prefix is compared.
    """
    spelt = [""]
    for mark in prefix:
        cases = sorted({mark, mark.upper()})
        if len(spelt) * len(cases) > 1 << _MAX_FOLDED:
            break
        spelt = [text + case for text in spelt for case in cases]
    stretches = [between(column, text) for text in spelt]
    found = " OR ".join(each.sql for each in stretches)
    params = tuple(value for each in stretches for value in each.params)
    if len(spelt[0]) == len(prefix):
        return Where(f"({found})", params)
    return Where(f"(({found}) AND starts_with(lower({column}), %s))", (*params, prefix))


def between(column: str, prefix: str) -> Where:
    """Return that a column's text begins with the prefix, as the stretch of an index that holds just these."""
    end = above(prefix)
    if end is None:
        return Where(f"{column} >= %s", (prefix,))
    return Where(f"({column} >= %s AND {column} < %s)", (prefix, end))


# Words of a caller's own, for what the columns say otherwise.


def words(column: str, word_of: Mapping[str, str]) -> Condition:
    """Return the conditions of a column whose few values the caller knows under other words."""

    def condition(asked: Asked) -> Where:
        if asked.operator == CONTAINS:
            raise asked.bad("contains is for lists and objects")
        there = asked.presence()
        if there is not None:
            return ALL if there else NONE
        return among(column, "text", [value for value, word in word_of.items() if _fits(asked, word)])

    return condition


def _fits(asked: Asked, word: str) -> bool:
    if asked.operator in (EQUAL, IN, NEQ):
        return (word in asked.several()) is not (asked.operator == NEQ)
    text = asked.single()
    folded = name_key(text)
    tests: Mapping[str, bool] = {
        "lt": word < text,
        "lte": word <= text,
        "gt": word > text,
        "gte": word >= text,
        MATCH: folded in word,
        PREFIX: word.startswith(folded),
        SUFFIX: word.endswith(folded),
    }
    return tests[asked.operator]


class Fact(NamedTuple):
    """A column as a function of a document's facts reads it: the values that it may have, and how SQL tells them."""

    name: str
    values: Sequence[Any]
    sql: Callable[[Sequence[Any]], str]


def text_fact(column: str, values: Iterable[str]) -> Fact:
    """Return the fact that a column has one of a few texts, which are constants of the code."""

    def sql(chosen: Sequence[str]) -> str:
        listed = ", ".join(f"'{value}'" for value in chosen)
        return f"{column} = {listed}" if len(chosen) == 1 else f"{column} IN ({listed})"

    return Fact(column, tuple(values), sql)


def by_word(
    facts: Sequence[Fact], word_of: Callable[[Mapping[str, Any]], str], words: Iterable[str]
) -> dict[str, Where]:
    """Return for each word the condition that `word_of` gives it, which is asked for all combinations of the facts."""
    return {word: Where(_cases(facts, word_of, word, {})) for word in words}


def _cases(
    facts: Sequence[Fact], word_of: Callable[[Mapping[str, Any]], str], word: str, given: Mapping[str, Any]
) -> str:
    if not facts:
        return ALL.sql if word_of(given) == word else NONE.sql
    first, *others = facts
    values_of: dict[str, list[Any]] = {}
    for value in first.values:
        values_of.setdefault(_cases(others, word_of, word, {**given, first.name: value}), []).append(value)
    if len(values_of) == 1:
        return next(iter(values_of))
    parts = [
        first.sql(values) if rest == ALL.sql else f"({first.sql(values)} AND {rest})"
        for rest, values in values_of.items()
        if rest != NONE.sql
    ]
    return parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"
