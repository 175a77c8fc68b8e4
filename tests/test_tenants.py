"""Keys: their text, their parts, what is stored of them."""

import hashlib
from datetime import UTC, datetime

import pytest

from adapters_registry.tenants import KEY_PREFIX, new_key, parse_key, secret_matches
from adapters_registry.types import Key, Scope


def _stored(secret_sha256: bytes) -> Key:
    scopes = frozenset({Scope.INFERENCE})
    return Key("0" * 16, "acme", "k", scopes, secret_sha256, datetime.now(UTC))


def test_a_keys_text_comes_apart_into_what_it_was_made_of() -> None:
    made = new_key()
    assert made.text.startswith(f"{KEY_PREFIX}_")
    assert parse_key(made.text) == (made.id, made.secret)
    assert (len(made.id), len(made.secret)) == (16, 43)


def test_secrets_with_underscores_and_hyphens_come_apart_too() -> None:
    secret = "_-" * 21 + "_"
    assert parse_key(f"lpx_{'a' * 16}_{secret}") == ("a" * 16, secret)


def test_no_two_keys_are_alike() -> None:
    made = [new_key() for _ in range(100)]
    assert len({key.id for key in made}) == len({key.secret for key in made}) == 100


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sk-123",
        f"lpx_{'a' * 16}",
        f"lpx_{'a' * 15}_{'b' * 43}",
        f"lpx_{'A' * 16}_{'b' * 43}",
        f"lpx_{'a' * 16}_{'b' * 42}",
        f"lpx_{'a' * 16}_{'b' * 44}",
        f"lpx_{'a' * 16}_{'b' * 42}\n",
        f"lpx_{'a' * 16}_{'b' * 43}\n",
        f"lpx_{'a' * 16}_{'b' * 40}' OR",
        f" lpx_{'a' * 16}_{'b' * 43}",
        "lpx_" + "\u0661" * 16 + "_" + "b" * 43,
    ],
)
def test_other_texts_are_no_keys(text: str) -> None:
    assert parse_key(text) is None


def test_only_the_secret_itself_matches() -> None:
    made = new_key()
    key = _stored(made.secret_sha256)
    assert secret_matches(key, made.secret)
    assert not secret_matches(key, made.secret[:-1] + ("a" if made.secret[-1] != "a" else "b"))
    assert not secret_matches(key, "")


def test_what_is_stored_is_the_sha256_of_the_secret() -> None:
    made = new_key()
    assert made.secret_sha256 == hashlib.sha256(made.secret.encode()).digest()


def test_a_new_key_does_not_print_its_secret() -> None:
    made = new_key()
    assert made.secret not in repr(made)
