"""A tenant's keys: how they are made, read from a request, and compared."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from adapters_registry.types import Key

KEY_PREFIX = "lpx"

_KEY = re.compile(rf"{KEY_PREFIX}_([0-9a-f]{{16}})_([A-Za-z0-9_-]{{43}})")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made. Only here does its secret exist in clear."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"NewKey(id={self.id!r})"

    @property
    def text(self) -> str:
        """What the client sends: `lpx_<id>_<secret>`."""
        return f"{KEY_PREFIX}_{self.id}_{self.secret}"

    @property
    def secret_sha256(self) -> bytes:
        """What is stored."""
        return hash_secret(self.secret)


def new_key() -> NewKey:
    """A key with 64 random bits of id and 256 of secret."""
    return NewKey(secrets.token_hex(8), secrets.token_urlsafe(32))


def parse_key(text: str) -> tuple[str, str] | None:
    """The id and the secret of a key's text, or None where it is no key of ours."""
    found = _KEY.fullmatch(text)
    return (found[1], found[2]) if found else None


def hash_secret(secret: str) -> bytes:
    """One round of SHA-256 is enough: the secret has 256 random bits, there is nothing to guess."""
    return hashlib.sha256(secret.encode()).digest()


def secret_matches(key: Key, secret: str) -> bool:
    """Whether `secret` is the key's, compared in constant time."""
    return hmac.compare_digest(key.secret_sha256, hash_secret(secret))
