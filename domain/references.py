"""How a command, or a filter, names a person: by member id, e-mail, `account:<number>` or `operator:<id>`.

A reference is resolved to a member id when it is decided upon, so events and read models hold member ids alone.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple
from unicodedata import category

from domain.compare import address_key
from domain.decider import UniqueKey
from domain.errors import Rejected
from domain.limits import MAX_ACCOUNT, MAX_EMAIL, MAX_OPERATOR
from domain.streams import ID

Form = Literal["id", "email", "account", "operator"]
# The form, the field of a member that it names one by, and the unique key that keeps that field unique in the tenant.
FIELDS: dict[Form, tuple[str, str]] = {
    "email": ("email", "member-email"),
    "account": ("account_id", "member-account"),
    "operator": ("operator_id", "member-operator"),
}
# The e-mails that retired members have: each stays its last holder's until somebody is registered with it, so that the
# address in a document from before the retirement registers nobody.
RETIRED_EMAIL = "retired-email"
# Without leading zeros and in ASCII, so that each person has one number.
_ACCOUNT = re.compile(r"[1-9][0-9]{0,15}\Z")
_ADDRESS = re.compile(r"[^@<>,;:\x00-\x20\x7f]+@[^@<>,;:\x00-\x20\x7f]+\Z")
# Beyond ASCII: controls, invisible marks, halves of pairs, spaces. What a Python does not know yet is allowed in all.
_UNFIT = frozenset({"Cc", "Cf", "Cs", "Co", "Zs", "Zl", "Zp"})
_FORMS = "a person is a member id, an e-mail, account:<number> or operator:<id>"


class Reference(NamedTuple):
    """A person's name by its form; `key` is what it is compared by."""

    form: Form
    key: str


def reference(text: str, pointer: str) -> Reference:
    """Return what a text names, or refuse one that can name nobody; the prefix decides before the at sign does."""
    if text.startswith("account:"):
        number = text.removeprefix("account:")
        if not _ACCOUNT.match(number) or int(number) > MAX_ACCOUNT:
            raise Rejected("invalid", "an account is a whole number from 1 to 2^53 - 1", pointer)
        return Reference("account", number)
    if text.startswith("operator:"):
        operator = text.removeprefix("operator:")
        if not is_operator(operator):
            raise Rejected("invalid", f"an operator is a text of 1 to {MAX_OPERATOR} characters", pointer)
        return Reference("operator", address_key(operator))
    if "@" in text:
        if not is_email(text):
            raise Rejected("invalid", "this is no e-mail address", pointer)
        return Reference("email", address_key(text))
    if not ID.match(text):
        raise Rejected("invalid", _FORMS, pointer)
    return Reference("id", text)


def is_email(value: Any) -> bool:
    """Tell whether a value is an e-mail address; neither an id nor a form with a prefix is one."""
    if not isinstance(value, str) or len(value) > MAX_EMAIL or not _ADDRESS.match(value):
        return False
    if value.isascii():
        return True
    return len(address_key(value)) <= MAX_EMAIL and not any(category(mark) in _UNFIT for mark in value)


def is_operator(value: Any) -> bool:
    """Tell whether a value can be a member's operator id; it is a unique key, and an index takes only so much."""
    return isinstance(value, str) and 0 < len(value) <= MAX_OPERATOR and len(address_key(value)) <= MAX_OPERATOR


def is_account(value: Any) -> bool:
    """Tell whether a value can be a member's account number."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_ACCOUNT


def key_of(form: Form, value: Any) -> str:
    """Return what a member's field of this form is compared by: the key of a reference to the member."""
    return str(value) if form == "account" else address_key(value)


def unique_key_of(form: Form, value: Any) -> UniqueKey:
    """Return the unique key that a member has by the field of this form; a reference to the member has the same key."""
    return UniqueKey(FIELDS[form][1], key_of(form, value))
