"""Where the attributes of a task come from, and when."""

from __future__ import annotations

from typing import Any

import pytest

from domain.directory import RetireEntry
from domain.plan import Attribute
from domain.task import (
    AttributesResolved,
    DispatchTask,
    TaskCreated,
)
from tests.builders import plan, task
from tests.domain.dispatch_scenes import (
    people,
    policy,
    requested,
)


@pytest.mark.parametrize(
    ("strategy", "attribute", "upfront", "on_dispatch"),
    [
        # With a source, upfront: the source wins, then the caller, then the fallbacks.
        ({"strategy": "UPFRONT", "source": "commerce.segment"}, Attribute("k", "own"), "gold", None),
        ({"strategy": "UPFRONT", "source": "commerce.address"}, Attribute("k"), {"city": "Huế"}, None),
        ({"strategy": "UPFRONT", "source": "commerce"}, None, None, None),
        ({"strategy": "UPFRONT", "source": "commerce.segment.x.y"}, Attribute("k", "own", "else"), "own", None),
        ({"strategy": "UPFRONT", "source": "commerce."}, Attribute("k", None, "else"), "else", None),
        ({"strategy": "UPFRONT", "source": "route.name", "fallback": "last"}, None, "last", None),
        ({"strategy": "UPFRONT", "source": "route.name"}, None, None, None),
        # On dispatch: until then what the caller says or a fallback.
        ({"strategy": "ON_DISPATCH", "source": "commerce.segment"}, None, None, "gold"),
        ({"strategy": "ON_DISPATCH", "source": "commerce.segment"}, Attribute("k", 0), 0, "gold"),
        ({"strategy": "ON_DISPATCH", "source": "commerce.nothing", "fallback": 1}, None, 1, None),
        ({"strategy": "ON_DISPATCH", "source": "commerce.nothing"}, Attribute("k", None, False), False, None),
        # The caller's own: whatever source there is does not count.
        ({"strategy": "CALLER_PROVIDED"}, Attribute("k", "own"), "own", None),
        ({"strategy": "CALLER_PROVIDED", "source": "commerce.segment"}, None, None, None),
        ({"strategy": "CALLER_PROVIDED", "fallback": "last"}, Attribute("k"), "last", None),
        # No policy.
        (None, Attribute("k", None, "else"), "else", None),
        (None, Attribute("k"), None, None),
    ],
)
def test_where_an_attribute_comes_from(
    strategy: dict[str, Any] | None, attribute: Attribute | None, upfront: Any, on_dispatch: Any
) -> None:
    own = [policy("k", **strategy)] if strategy is not None else []
    new = task(
        commerce="c",
        plan=plan(attribute_keys=("k",)),
        attributes=() if attribute is None else (attribute,),
    )
    scene = people(*own, new)
    found = scene.state("task", "t").attributes
    if strategy is not None and strategy.get("source") == "commerce":
        assert found["k"]["segment"] == "gold"
        return
    assert found == ({} if upfront is None else {"k": upfront})
    events = scene.when(DispatchTask("t")).events
    wanted = [] if on_dispatch is None else [AttributesResolved("t", None, {"k": on_dispatch})]
    assert events == [*wanted, requested()]


def test_a_policy_that_was_retired_counts_no_more() -> None:
    scene = people(policy("k", "UPFRONT", source="commerce.segment"), RetireEntry("attribute", "k"))
    scene.when(task(commerce="c", plan=plan(attribute_keys=("k",)))).then(
        [TaskCreated("t", commerce="c", plan=plan(attribute_keys=("k",)))]
    )


def test_a_hundred_attributes_need_no_more_rounds_than_one() -> None:
    def rounds(count: int) -> tuple[int, int]:
        keys = tuple(f"k{number}" for number in range(count))
        scene = people(*(policy(key, "ON_DISPATCH", source="commerce.segment") for key in keys))
        created = scene.when(task(commerce="c", plan=plan(attribute_keys=keys)))
        return created.rounds, scene.when(DispatchTask("t")).rounds

    assert rounds(100) == rounds(1)
