"""An aggregate collects its commands, events, decisions and what each event does to its state, wherever they stand.

Whatever lacks a part is refused when the aggregate is made, which is at import, with the name of the part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, get_args

from domain.decider import Context, Decider, Decision, not_for_retired
from domain.lifecycle import ROWS, MissingPart, Row

_Kind = TypeVar("_Kind", bound=type)
_Command = TypeVar("_Command")
_Arm = TypeVar("_Arm", bound=Callable[..., Any])


class Aggregate:
    """The registry of one aggregate; classes and functions join it by its decorators."""

    def __init__(self, category: str, rows: Mapping[str, Row] = ROWS) -> None:
        self.category = category
        self.commands: dict[str, type] = {}
        self.events: dict[str, type] = {}
        self.decisions: dict[type, Callable[[Any, Context], Decision]] = {}
        self.arms: dict[type, Callable[..., Any]] = {}
        self._rows = rows

    def command(self, name: str) -> Callable[[_Kind], _Kind]:
        """Name a class of commands."""
        return _named(self.commands, "command", name)

    def event(self, name: str) -> Callable[[_Kind], _Kind]:
        """Name a class of events; the name is stored, and never gets another meaning."""
        return _named(self.events, "event", name)

    def decides(
        self, kind: type[_Command]
    ) -> Callable[[Callable[[_Command, Context], Decision]], Callable[[_Command, Context], Decision]]:
        """Mark the function that decides a class of commands."""

        def mark(decide: Callable[[_Command, Context], Decision]) -> Callable[[_Command, Context], Decision]:
            self.decisions[kind] = decide
            return decide

        return mark

    def evolves(self, events: Any) -> Callable[[_Arm], _Arm]:
        """Mark the function that knows what these events, a class or a union of classes, do to the state.

        It ends in `assert_never`, so that the type checker finds a class of the union that it forgets.
        """

        def mark(arm: _Arm) -> _Arm:
            self.arms |= dict.fromkeys(get_args(events) or (events,), arm)
            return arm

        return mark

    def decide(self, command: Any, context: Context) -> Decision:
        """Decide any of the aggregate's commands."""
        return self.decisions[type(command)](command, context)

    def decider(self, evolve: Callable[[Any, Any], Any], reads: Callable[[Any], Iterable[tuple[str, str]]]) -> Decider:
        """Return the whole aggregate, or raise `MissingPart`."""
        for name, kind in self.commands.items():
            if name not in self._rows:
                raise MissingPart(f"command {name} ({kind.__name__}) has no row in domain/lifecycle.py")
            if kind not in self.decisions:
                raise MissingPart(f"command {name} ({kind.__name__}) has no function that decides it")
        for name, kind in self.events.items():
            if kind not in self.arms:
                raise MissingPart(f"event {name} ({kind.__name__}) is in no union of events that a function evolves")
        decide = not_for_retired(self.decide)
        return Decider(self.category, self.commands, self.events, decide, evolve, reads)


def _named(kinds: dict[str, type], what: str, name: str) -> Callable[[_Kind], _Kind]:
    def mark(kind: _Kind) -> _Kind:
        if name in kinds:
            raise MissingPart(f"{what} {name} is the name of {kinds[name].__name__}; {kind.__name__} needs another")
        kinds[name] = kind
        return kind

    return mark


def in_order_of_rows(deciders: Iterable[Decider], rows: Mapping[str, Row] = ROWS) -> dict[str, type]:
    """Return the classes of all commands by name, in the order of their rows; a row needs a class."""
    found = {name: kind for decider in deciders for name, kind in decider.commands.items()}
    for name in rows:
        if name not in found:
            raise MissingPart(f"command {name} has a row in domain/lifecycle.py, and no class has its name")
    return {name: found[name] for name in rows}
