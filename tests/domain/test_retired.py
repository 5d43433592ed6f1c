"""A member who was retired can do nothing, whatever the command and whatever the member was before."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from domain import COMMANDS
from domain.directory import RegisterEntry, RetireEntry
from domain.task import ProcessTask
from tests.builders import entry, manager, task
from tests.given import given_commands


def example(kind: type) -> Any:
    """Return a command with something within its limits in each field that it must have."""
    hints = get_type_hints(kind)
    return kind(
        **{
            field.name: _value(hints[field.name])
            for field in fields(kind)
            if field.default is MISSING and field.default_factory is MISSING
        }
    )


def _value(hint: Any) -> Any:
    if is_dataclass(hint):
        return example(hint)
    if get_origin(hint) is tuple:
        return (_value(get_args(hint)[0]),)
    simple = {bool: True, int: 1, dict: {}}
    return simple.get(get_origin(hint) or hint, get_args(hint)[0] if get_origin(hint) is Literal else "tt")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_retired_member_is_refused_every_command(name: str) -> None:
    scene = given_commands([manager("max"), task(assignees=("max",)), RetireEntry("member", "max")])
    log = list(scene.log)
    scene.when(example(COMMANDS[name]), "max").then_rejected("forbidden")
    assert scene.log == log


def test_whoever_is_registered_again_acts_again() -> None:
    scene = given_commands([manager("max"), task(assignees=("max",)), RetireEntry("member", "max"), manager("max")])
    assert scene.when(ProcessTask("t"), "max").refusal is None


def test_only_the_member_of_that_id_is_meant() -> None:
    scene = given_commands([entry("hub", "max"), RetireEntry("hub", "max"), RegisterEntry("member", "max")])
    assert scene.when(task(), "max").refusal is None
