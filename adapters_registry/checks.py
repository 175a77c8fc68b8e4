"""What callers may name and write: names, reasons, serving profiles."""

from datetime import UTC, datetime

from adapters_registry.errors import InvalidName, InvalidProfile
from adapters_registry.types import NAME_PATTERN, Scope, ServingProfile, is_name

_KEY_NAME_CHARS = 100
_REASON_CHARS = 2000


def check_name(name: str, field: str, whose: str) -> None:
    """Raises InvalidName unless `name` can name a tenant or an adapter."""
    if not is_name(name):
        raise InvalidName(
            f"{field}: {whose} name must match {NAME_PATTERN} (1 to 63 lower-case letters, digits"
            " and hyphens, no hyphen first)",
            field=field,
        )


def check_key(name: str, scopes: frozenset[Scope]) -> None:
    """Raises InvalidName for a key's name that cannot be shown in a list, or a key without use."""
    if not 1 <= len(name) <= _KEY_NAME_CHARS or not name.isprintable():
        raise InvalidName(
            f"name: a key's name must be 1 to {_KEY_NAME_CHARS} printable characters", field="name"
        )
    if not scopes:
        raise InvalidName("scopes: a key needs at least one scope", field="scopes")


def check_reason(reason: str | None) -> None:
    """Raises InvalidName for a reason that is too long or no text."""
    if reason is None:
        return
    if len(reason) > _REASON_CHARS or not reason.replace("\n", " ").isprintable():
        raise InvalidName(
            f"reason: must be at most {_REASON_CHARS} printable characters", field="reason"
        )


def checked_expiry(expires_at: datetime | None, now: datetime) -> datetime | None:
    """The end in UTC. Raises InvalidName for one without a zone, past, or on no calendar."""
    if expires_at is None:
        return None
    try:
        end = expires_at.astimezone(UTC) if expires_at.tzinfo is not None else now
    except OverflowError:
        end = now
    if end <= now:
        raise InvalidName(
            "expires_at: must be a time to come, with its zone, as in 2031-01-31T12:00:00Z",
            field="expires_at",
        )
    return end


def check_profile(profile: ServingProfile) -> None:
    """Raises InvalidProfile for what the type allows and no engine could use."""
    if any(not stop for stop in profile.stop):
        raise InvalidProfile("stop: a stop string must not be empty", field="stop")
