"""A member who was retired can do nothing, whatever the command and whatever the member was before."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, get_type_hints

import pytest

from domain import COMMANDS
from domain.directory import RegisterEntry, RetireEntry
from domain.task import ProcessTask
from tests.builders import entry, manager, task
from tests.given import given_commands


def example(kind: type) -> Any:
    """Return a command with something in each field that it must have."""
    hints = get_type_hints(kind)
    values = {"<class 'str'>": "t", "<class 'bool'>": True, "<class 'int'>": 1}
    given = {
        field.name: values.get(str(hints[field.name]), {} if "dict" in str(hints[field.name]) else ())
        for field in fields(kind)
        if field.default is MISSING and field.default_factory is MISSING
    }
    return kind(**given)


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
