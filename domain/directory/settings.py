"""What a tenant configures of dispatch, as directory entries: attribute policies, targeting, providers, channels.

An entry is checked here when it is registered or changed, so whoever reads it later need not doubt its shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, get_args

from domain.decider import Context
from domain.directory.fields import MAX_CHANNELS, MAX_CRITERIA, MAX_URL, PROVIDERS, STRATEGIES
from domain.errors import Rejected
from domain.plan import MANUAL, ON_CREATION, Criterion, CriterionType, Provider, TargetStrategy
from domain.streams import ID

CHANNELS = ("SALESMAN", "CALLCENTER", "WHATSAPP", "EMAIL", "SMS", "PUSH")
CRITERIA: tuple[str, ...] = get_args(CriterionType)
TARGET_STRATEGIES: tuple[str, ...] = get_args(TargetStrategy)
_, ON_DISPATCH, CALLER_PROVIDED = STRATEGIES
# What an attribute's value may be taken from: the fields of what the task refers to.
SOURCES = ("commerce", "route", "operator")
MAX_SECONDS = 3600
# A time-out below it would be one of connecting alone.
MIN_TIMEOUT, MAX_TIMEOUT = 1, 30
LATE_COMPLETION = ("flag", "allow", "reject")
# A host or an address, a port, a path: nothing that could hide another host or a credential.
_URL = re.compile(
    r"https?://([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:.]+\])"
    r"(:(?P<port>[1-9][0-9]{0,4}))?(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?\Z"
)
POLICIES = ("late-completion", "channels")
# The kind of the entries that say who takes what is dispatched, and their field that only the service can read.
DISPATCH, CREDENTIALS = "dispatch", "credentials"
# What the service makes of a text when it encrypts it: a version, the id of the key, the text itself.
_ENCRYPTED = re.compile(r"v[0-9]+\.[0-9a-f]{8}\.[A-Za-z0-9_-]{1,10000}\Z")


def check(kind: str, entry_id: str, fields: Mapping[str, Any]) -> None:
    """Refuse fields that an entry of this kind cannot have; other kinds' fields are their callers' own."""
    checks = {
        "policy": _policy,
        "attribute": _attribute,
        "targeting": _targeting,
        DISPATCH: _dispatch,
        "outcome": _outcome,
        "retention": _retention,
        "commerce": _commerce,
    }
    if kind in checks:
        checks[kind](entry_id, fields)


def _policy(entry_id: str, fields: Mapping[str, Any]) -> None:
    if entry_id not in POLICIES:
        raise Rejected("invalid", f"the policies are {', '.join(POLICIES)}", "/id")
    value = fields.get("value")
    if entry_id == "late-completion" and value not in LATE_COMPLETION:
        raise Rejected("invalid", f"late-completion is one of {', '.join(LATE_COMPLETION)}", "/fields/value")
    fits = isinstance(value, list) and 0 < len(value) <= MAX_CHANNELS and all(_is_id(name) for name in value)
    if entry_id == "channels" and not fits:
        detail = f"channels is a list of 1 to {MAX_CHANNELS} names of A-Z a-z 0-9 _ -"
        raise Rejected("invalid", detail, "/fields/value")


def _attribute(_: str, fields: Mapping[str, Any]) -> None:
    strategy, source = fields.get("strategy"), fields.get("source")
    if strategy not in STRATEGIES:
        raise Rejected("invalid", f"strategy is one of {', '.join(STRATEGIES)}", "/fields/strategy")
    if strategy == CALLER_PROVIDED and source is None:
        return
    if not isinstance(source, str) or source.partition(".")[0] not in SOURCES:
        detail = f"source is one of {', '.join(SOURCES)}, or a field of one, such as commerce.name"
        raise Rejected("invalid", detail, "/fields/source")


def _targeting(entry_id: str, fields: Mapping[str, Any]) -> None:
    for name in ("criteria", "fallbacks"):
        listed = fields.get(name)
        if listed is None:
            continue
        if not isinstance(listed, list) or len(listed) > MAX_CRITERIA:
            raise Rejected("invalid", f"{name} is a list of at most {MAX_CRITERIA} criteria", f"/fields/{name}")
        for index, stored in enumerate(listed):
            at = f"/fields/{name}/{index}"
            if not isinstance(stored, dict) or not set(stored) <= {"type", "priority", "role"}:
                raise Rejected("invalid", "a criterion has type, priority and role", at)
            priority = stored.get("priority", 0)
            if not isinstance(priority, int) or isinstance(priority, bool):
                raise Rejected("invalid", "priority is a whole number", f"{at}/priority")
            check_criterion(stored.get("type"), stored.get("role"), at)
    strategy = fields.get("strategy")
    if strategy is not None and strategy not in TARGET_STRATEGIES:
        raise Rejected("invalid", f"strategy is one of {', '.join(TARGET_STRATEGIES)}", "/fields/strategy")
    if not fields.get("criteria") and strategy != MANUAL:
        raise Rejected("invalid", "targeting has at least one criterion", "/fields/criteria")


def check_criterion(kind: Any, role: Any, at: str) -> None:
    """Refuse what is no criterion."""
    if kind not in CRITERIA:
        raise Rejected("invalid", f"type is one of {', '.join(CRITERIA)}", f"{at}/type")
    if role is not None and not isinstance(role, str):
        raise Rejected("invalid", "role is a text", f"{at}/role")
    if kind == "ROLE_MATCH" and not role:
        raise Rejected("invalid", "ROLE_MATCH names a role", f"{at}/role")


def _dispatch(_: str, fields: Mapping[str, Any]) -> None:
    kind, url, secret = fields.get("provider"), fields.get("url"), fields.get("secret")
    if kind not in PROVIDERS:
        raise Rejected("invalid", f"provider is one of {', '.join(PROVIDERS)}", "/fields/provider")
    if (kind == "http" or url is not None) and not _is_url(url):
        raise Rejected(
            "invalid", "url is an http:// or https:// address without user, query or fragment", "/fields/url"
        )
    if secret is not None and not _is_id(secret):
        raise Rejected(
            "invalid", "secret is the name of a secret of the service, never a secret itself", "/fields/secret"
        )
    if fields.get(CREDENTIALS) is not None and not _is_encrypted(fields[CREDENTIALS]):
        detail = "credentials are given over HTTP, where the service encrypts them before they become part of a command"
        raise Rejected("invalid", detail, f"/fields/{CREDENTIALS}")
    timeout, backoff = fields.get("timeout_seconds"), fields.get("backoff_seconds")
    if timeout is not None and not (_is_number(timeout) and MIN_TIMEOUT <= timeout <= MAX_TIMEOUT):
        detail = f"timeout_seconds is a number of seconds from {MIN_TIMEOUT} to {MAX_TIMEOUT}"
        raise Rejected("invalid", detail, "/fields/timeout_seconds")
    if backoff is not None and not (_is_number(backoff) and 0 < backoff <= MAX_SECONDS):
        detail = f"backoff_seconds is a number of seconds up to {MAX_SECONDS}"
        raise Rejected("invalid", detail, "/fields/backoff_seconds")


def demand_credentials(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to send credentials that were given for one address to another one, unless they are given again."""
    moved = "url" in wanted and wanted["url"] != before.get("url")
    if moved and before.get(CREDENTIALS) is not None and CREDENTIALS not in wanted:
        detail = "the credentials were given for another url: give them again, or null to remove them"
        raise Rejected("invalid", detail, f"/fields/{CREDENTIALS}")


def _commerce(_: str, fields: Mapping[str, Any]) -> None:
    users = fields.get("users")
    if users is None:
        return
    if not isinstance(users, list):
        raise Rejected("invalid", "users is a list", "/fields/users")
    seen = set()
    for index, user in enumerate(users):
        at = f"/fields/users/{index}"
        if not isinstance(user, dict) or not _is_id(user.get("id")):
            raise Rejected("invalid", "a user of a commerce is an object with an id", at)
        if user["id"] in seen:
            raise Rejected("invalid", f"user {user['id']} stands in the list twice", f"{at}/id")
        seen.add(user["id"])
        for name in ("role", "locked"):
            if user.get(name) is not None and not isinstance(user[name], str):
                raise Rejected("invalid", f"{name} is a text", f"{at}/{name}")


def _outcome(_: str, fields: Mapping[str, Any]) -> None:
    _demand_label(fields)
    required = fields.get("requires_follow_up")
    if required is not None and not isinstance(required, bool):
        raise Rejected("invalid", "requires_follow_up is true or false", "/fields/requires_follow_up")


def _retention(_: str, fields: Mapping[str, Any]) -> None:
    _demand_label(fields)
    if fields.get("description") is not None and not isinstance(fields["description"], str):
        raise Rejected("invalid", "description is a text", "/fields/description")


def _demand_label(fields: Mapping[str, Any]) -> None:
    if not isinstance(fields.get("label"), str) or not fields["label"]:
        raise Rejected("invalid", "label is a text that is not empty", "/fields/label")


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and ID.match(value) is not None


def _is_encrypted(value: Any) -> bool:
    return isinstance(value, str) and _ENCRYPTED.match(value) is not None


def _is_user(value: Any) -> bool:
    texts = isinstance(value, dict) and all(isinstance(value.get(name) or "", str) for name in ("role", "locked"))
    return texts and _is_id(value.get("id"))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_url(value: Any) -> bool:
    found = _URL.match(value) if isinstance(value, str) and len(value) <= MAX_URL else None
    return found is not None and int(found["port"] or 80) <= 65535


# What the deciders ask.


def entry_fields(context: Context, kind: str, entry_id: str) -> Mapping[str, Any] | None:
    """Return an entry's fields, or None when nothing of this id is registered."""
    entry = context.state(kind, entry_id)
    return None if entry is None or entry.retired else entry.fields


def attribute_policies(context: Context, keys: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Return the policies that these attributes have; all are looked at in one round."""
    known = [key for key in keys if ID.match(key)]
    entries = context.all_states("attribute", known)
    pairs = zip(known, entries, strict=True)
    return {key: entry.fields for key, entry in pairs if entry is not None and not entry.retired}


def users_of(context: Context, commerce: str | None) -> list[Mapping[str, Any]]:
    """Return the users of a commerce; what an entry from before users were checked has in their place counts for none.

    Each has an id; role and `locked`, when they are there, are texts.
    """
    fields = entry_fields(context, "commerce", commerce) if commerce is not None else None
    users = (fields or {}).get("users")
    return [user for user in users if _is_user(user)] if isinstance(users, list) else []


def demand_channel(context: Context, channel: str, pointer: str) -> None:
    """Refuse a channel that is neither among the tenant's own list nor, without one, among the standard ones."""
    policy = entry_fields(context, "policy", "channels")
    known: Iterable[str] = CHANNELS if policy is None else policy["value"]
    if channel not in known:
        raise Rejected("invalid", f"the channels are {', '.join(known)}", pointer)


def demand_outcome(context: Context, outcome: str | None, follow_up_at: str | None, pointer: str) -> None:
    """Refuse a reported outcome that is none of the tenant's own, in a tenant that has registered any.

    An outcome that requires a follow-up is not accepted without the time of one.
    """
    if outcome is None or context.holder("registered", "outcome") is None:
        return
    fields = entry_fields(context, "outcome", outcome) if ID.match(outcome) else None
    if fields is None:
        raise Rejected("invalid", f"{outcome} is none of the outcomes that are registered", f"{pointer}/outcome")
    if fields.get("requires_follow_up") and follow_up_at is None:
        raise Rejected("invalid", f"{outcome} requires the time of a follow-up", f"{pointer}/follow_up_at")


def provider_of(context: Context, channel: str) -> Provider | None:
    """Return who takes what is dispatched over a channel, or None when the tenant has configured nobody."""
    fields = entry_fields(context, DISPATCH, channel)
    if fields is None:
        return None
    credentials = fields.get(CREDENTIALS)
    return Provider(
        kind=fields["provider"],
        url=fields.get("url"),
        secret=fields.get("secret"),
        # An entry from before credentials were encrypted may hold anything in their place.
        credentials=credentials if _is_encrypted(credentials) else None,
        # An entry from before there was a least time-out may have a shorter one.
        timeout=max(MIN_TIMEOUT, float(fields.get("timeout_seconds") or 5)),
        backoff=float(fields.get("backoff_seconds") or 30),
    )


class Targeting(NamedTuple):
    """How and when the users that a task is meant for are found."""

    criteria: tuple[Criterion, ...]
    fallbacks: tuple[Criterion, ...]
    strategy: TargetStrategy


def targeting_of(context: Context, channel: str) -> Targeting:
    """Return the targeting of a channel, that of `default` when it has none of its own."""
    fields = entry_fields(context, "targeting", channel) or entry_fields(context, "targeting", "default") or {}
    criteria, fallbacks = (
        tuple(Criterion(**stored) for stored in fields.get(name) or ()) for name in ("criteria", "fallbacks")
    )
    return Targeting(criteria, fallbacks, fields.get("strategy") or ON_CREATION)
