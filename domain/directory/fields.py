"""What entries of the directory hold under names that the service itself reads, with the limits of each.

The shapes are checked where an entry is registered or changed; any other field is bounded by the limits of all fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypedDict, get_args

from domain.checks import demand
from domain.limits import (
    MAX_ACCOUNT,
    MAX_OPERATOR,
    MAX_PROJECTS,
    MAX_ROLES,
    MAX_USERS,
    Comment,
    Flow,
    Id,
    Items,
    Label,
    Number,
    Person,
    Role,
    Text,
    Whole,
)
from domain.plan import CriterionType, TargetStrategy

MAX_CHANNELS = 50
MAX_CRITERIA = 50
MAX_URL = 500

Strategy = Literal["UPFRONT", "ON_DISPATCH", "CALLER_PROVIDED"]
ProviderKind = Literal["http", "console"]


class Membership(TypedDict, total=False):
    """What a member is in a project; `actor_roles` are had there alone, beside the member's own."""

    is_manager: bool
    actor_roles: Annotated[list[Role], Items(MAX_ROLES)]


class User(TypedDict, total=False):
    id: Id
    role: Annotated[str, Text(0, 100)]
    locked: Label


class StoredCriterion(TypedDict, total=False):
    type: CriterionType
    priority: Whole
    role: Role


_CRITERIA = Annotated[list[StoredCriterion], Items(MAX_CRITERIA)]
NAME = {"name": Annotated[str, Text(1, 200)]}
# By kind and name, beside `NAME`. The value of a policy depends on its id; it is a word or the list of channels.
ENTRY_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "member": {
        "email": Person,
        "account_id": Annotated[int, Number(1, MAX_ACCOUNT)],
        "operator_id": Annotated[str, Text(1, MAX_OPERATOR)],
        "actor_roles": Annotated[list[Role], Items(MAX_ROLES)],
        "projects": Annotated[dict[Id, Membership], Items(MAX_PROJECTS)],
        "tenant_admin": bool,
    },
    "commerce": {"users": Annotated[list[User], Items(MAX_USERS)]},
    "attribute": {"strategy": Strategy, "source": Flow},
    "targeting": {"strategy": TargetStrategy, "criteria": _CRITERIA, "fallbacks": _CRITERIA},
    "dispatch": {"provider": ProviderKind, "url": Annotated[str, Text(1, MAX_URL)], "secret": Id},
    "outcome": {"label": Label, "requires_follow_up": bool},
    "retention": {"label": Label, "description": Comment},
}
STRATEGIES: tuple[str, ...] = get_args(Strategy)
PROVIDERS: tuple[str, ...] = get_args(ProviderKind)


def demand_bounded(kind: str, fields: Mapping[str, Any]) -> None:
    """Refuse fields, whose shapes are right already, that exceed their limits."""
    for name, hint in {**NAME, **ENTRY_FIELDS.get(kind, {})}.items():
        if fields.get(name) is not None:
            demand(hint, fields[name], f"/fields/{name}")
