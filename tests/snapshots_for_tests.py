"""Snapshots made by hand, for tests of what reads them."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from adapters_registry.types import (
    Adapter,
    ServingProfile,
    Snapshot,
    Tenant,
    TenantPolicy,
    Version,
    VersionState,
)

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def version(
    tenant: str = "acme",
    adapter: str = "support",
    number: int = 1,
    *,
    digest: str | None = None,
    profile: ServingProfile | None = None,
    path: Path = Path("/nowhere"),
) -> Version:
    """A version whose digest follows from its name, so that each is its own."""
    return Version(
        tenant=tenant,
        adapter=adapter,
        number=number,
        digest=digest or hashlib.sha256(f"{tenant}/{adapter}@{number}".encode()).hexdigest(),
        state=VersionState.CANDIDATE,
        rank=8,
        size_bytes=1,
        warnings=(),
        profile=profile or ServingProfile(),
        path=path,
        created_at=AT,
    )


def snapshot(
    *versions: Version,
    live: dict[tuple[str, str], int] | None = None,
    tenants: tuple[str, ...] = (),
    policy: TenantPolicy | None = None,
    revision: int = 1,
) -> Snapshot:
    """A snapshot with these versions. live: (tenant, adapter) to number."""
    names = {*(v.tenant for v in versions), *tenants}
    found = {}
    for name in names:
        adapters: dict[str, Adapter] = {}
        for adapter in {v.adapter for v in versions if v.tenant == name}:
            own = {v.number: v for v in versions if (v.tenant, v.adapter) == (name, adapter)}
            adapters[adapter] = Adapter(name, adapter, 1, (live or {}).get((name, adapter)), own)
        found[name] = Tenant(name, policy or TenantPolicy(), adapters, AT)
    return Snapshot(revision, found, {})
