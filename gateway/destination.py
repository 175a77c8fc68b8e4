"""Where a call goes, with all that is derived from it: made once for each name and snapshot."""

from dataclasses import dataclass

import msgspec

from adapters_registry.types import ServingProfile, Snapshot
from gateway.engine_call import cache_salt
from gateway.resolve import Target, resolve


@dataclass(frozen=True, slots=True)
class Destination:
    """A target as the relay needs it."""

    target: Target
    cache_salt: str
    engine_name_json: bytes
    """The name that the engine's answers must carry, as a JSON string."""
    head: bytes
    """The header line that names the version."""
    profile: ServingProfile | None
    """None where the version has none, or one that changes nothing."""


class Destinations:
    """Remembers what names mean for as long as a snapshot is current.

    Only names that mean something are remembered, so their number is bounded by the registry's.
    """

    def __init__(self, base_name: str, salt_secret: bytes) -> None:
        self._base_name = base_name
        self._salt_secret = salt_secret
        self._snapshot: Snapshot | None = None
        self._known: dict[tuple[str, str], Destination] = {}

    def find(self, snapshot: Snapshot, tenant_name: str, model: str) -> Destination:
        """Raises as `resolve`."""
        if snapshot is not self._snapshot:
            self._snapshot, self._known = snapshot, {}
        found = self._known.get((tenant_name, model))
        if found is None:
            target = resolve(snapshot, tenant_name, model, self._base_name)
            found = self._known[tenant_name, model] = self._derive(target)
        return found

    def _derive(self, target: Target) -> Destination:
        profile = None if target.version is None else target.version.profile
        return Destination(
            target,
            cache_salt(self._salt_secret, target.tenant),
            msgspec.json.encode(target.engine_name),
            b"x-loraplex-version: %b\r\n" % target.label.encode(),
            None if profile == ServingProfile() else profile,
        )
