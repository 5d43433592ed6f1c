"""What is encrypted can be read again at its own place only, and nothing about it is left to chance."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.encryption import Keyring, NoKey, NotGenuine, Place
from services.settings import ConfigurationError, load

URLS = {"database_url": "postgresql://localhost/none", "amqp_url": "amqp://localhost/"}
PLACE = Place("acme", "dispatch", "SMS", "credentials", "https://provider.example/")
OLD, NEW, OTHER = (base64.b64encode(mark * 32).decode() for mark in (b"o", b"n", b"x"))


def ring(*keys: str) -> Keyring:
    return Keyring(map(SecretStr, keys))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_encrypted_is_read_again(text: str) -> None:
    keys = ring(NEW)
    encrypted = keys.encrypt(PLACE, text)
    assert keys.decrypt(PLACE, encrypted) == text
    assert len(text) < 4 or text not in encrypted


def test_the_same_text_at_the_same_place_is_encrypted_the_same_way_and_nothing_else_is() -> None:
    keys = ring(NEW)
    places = [PLACE, PLACE._replace(tenant="other"), PLACE._replace(id="EMAIL"), PLACE._replace(field="secret")]
    texts = ["a", "b", "aa"]
    found = [keys.encrypt(place, text) for place in places for text in texts]
    assert found == [ring(NEW).encrypt(place, text) for place in places for text in texts]
    nonces = {base64.urlsafe_b64decode(each.split(".")[2] + "==")[:12] for each in found}
    assert len(set(found)) == len(nonces) == 12


@pytest.mark.parametrize("part", ["tenant", "kind", "id", "field", "use"])
def test_what_is_moved_to_another_place_is_not_genuine(part: str) -> None:
    keys = ring(NEW)
    encrypted = keys.encrypt(PLACE, "sk-xxx")
    with pytest.raises(NotGenuine):
        keys.decrypt(PLACE._replace(**{part: "other"}), encrypted)


def test_what_is_changed_is_not_genuine() -> None:
    keys = ring(NEW)
    encrypted = keys.encrypt(PLACE, "sk-xxx")
    start = encrypted.rindex(".") + 1
    for index in range(start, len(encrypted)):
        other = "A" if encrypted[index] != "A" else "B"
        changed = encrypted[:index] + other + encrypted[index + 1 :]
        if index == len(encrypted) - 1:
            # The last character may hold bits that no byte is made of.
            changed = encrypted[:-1]
        with pytest.raises(NotGenuine):
            keys.decrypt(PLACE, changed)


@pytest.mark.parametrize(
    "odd", ["", "sk-xxx", "v2.{id}.AAAA", "v1.{id}", "v1.{id}.", "v1.{id}.A", "v1.{id}.é", "v1.{id}.AA.AA"]
)
def test_what_was_never_encrypted_is_not_genuine(odd: str) -> None:
    keys = ring(NEW)
    own = keys.encrypt(PLACE, "a").split(".")[1]
    with pytest.raises(NotGenuine):
        keys.decrypt(PLACE, odd.format(id=own))


def test_a_new_key_encrypts_and_the_old_one_still_decrypts() -> None:
    before = ring(OLD).encrypt(PLACE, "sk-xxx")
    both = ring(NEW, OLD)
    after = both.encrypt(PLACE, "sk-xxx")
    assert before.split(".")[1] != after.split(".")[1]
    assert [both.decrypt(PLACE, each) for each in (before, after)] == ["sk-xxx", "sk-xxx"]
    assert ring(NEW).decrypt(PLACE, after) == "sk-xxx"
    with pytest.raises(NoKey, match=before.split(".")[1]):
        ring(NEW).decrypt(PLACE, before)


def test_without_a_key_nothing_is_encrypted_or_read() -> None:
    with pytest.raises(NoKey):
        ring().encrypt(PLACE, "sk-xxx")
    with pytest.raises(NoKey):
        ring().decrypt(PLACE, ring(NEW).encrypt(PLACE, "sk-xxx"))


@pytest.mark.parametrize("value", [f"{NEW},{OLD}", f" {NEW} , {OLD},"])
def test_keys_are_separated_by_commas(value: str) -> None:
    assert [each.get_secret_value() for each in load(**URLS, secret_key=value).secret_key] == [NEW, OLD]


@pytest.mark.parametrize(
    "value",
    ["short", base64.b64encode(b"k" * 31).decode(), NEW.rstrip("="), f"{NEW},{NEW}", f"{NEW};{OLD}", "é" * 44],
)
def test_keys_that_cannot_be_used_are_named_and_not_shown(value: str) -> None:
    with pytest.raises(ConfigurationError, match="FOLDWORK_SECRET_KEY") as refused:
        load(**URLS, secret_key=value)
    assert value not in str(refused.value)


def test_no_key_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDWORK_SECRET_KEY", f"{NEW},{OLD}")
    loaded = load(**URLS)
    assert len(loaded.secret_key) == 2
    assert NEW not in repr(loaded)
    assert load(**URLS, secret_key="").secret_key == ()
