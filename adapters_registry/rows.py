"""From rows to the registry's nouns."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from adapters_registry.artifacts import ArtifactStore
from adapters_registry.tables import (
    adapters,
    audit,
    history,
    keys,
    registry_meta,
    tenants,
    versions,
)
from adapters_registry.types import (
    Adapter,
    AuditEntry,
    HistoryEntry,
    Key,
    Scope,
    ServingProfile,
    Snapshot,
    Tenant,
    TenantPolicy,
    Version,
    VersionState,
)


def read_revision(connection: Connection) -> int:
    """The registry's revision."""
    revision: int = connection.execute(select(registry_meta.c.revision)).scalar_one()
    return revision


def read_snapshot(connection: Connection, store: ArtifactStore) -> Snapshot:
    """All that lives, at one revision."""
    living = tenants.c.deleted_at.is_(None)
    found_keys = _read_keys(connection, living)
    return Snapshot(
        revision=read_revision(connection),
        tenants={tenant.name: tenant for tenant in read_tenants(connection, store, living)},
        keys={key.id: key for key in found_keys},
    )


def read_tenants(
    connection: Connection, store: ArtifactStore, where: ColumnElement[bool]
) -> list[Tenant]:
    """Tenants by a condition, with their adapters."""
    owned: dict[str, dict[str, Adapter]] = defaultdict(dict)
    for adapter in read_adapters(connection, store, where):
        owned[adapter.tenant][adapter.name] = adapter
    return [
        Tenant(
            name=row.name,
            policy=TenantPolicy.model_validate(row.policy),
            adapters=owned.get(row.name, {}),
            created_at=row.created_at,
        )
        for row in connection.execute(select(tenants).where(where).order_by(tenants.c.name))
    ]


def read_adapters(
    connection: Connection, store: ArtifactStore, where: ColumnElement[bool]
) -> list[Adapter]:
    """Adapters by a condition on themselves or their tenants, with the versions not deleted."""
    joined = adapters.join(tenants, adapters.c.tenant_id == tenants.c.id)
    query = select(adapters, tenants.c.name.label("tenant")).select_from(joined)
    found = {
        row.id: Adapter(row.tenant, row.name, row.revision, row.live, {})
        for row in connection.execute(query.where(where).order_by(tenants.c.name, adapters.c.name))
    }
    numbered: dict[int, dict[int, Version]] = defaultdict(dict)
    kept = versions.c.state != VersionState.DELETED
    listing = select(versions).join(joined, versions.c.adapter_id == adapters.c.id)
    for row in connection.execute(listing.where(where, kept).order_by(versions.c.number)):
        numbered[row.adapter_id][row.number] = _version(row, found[row.adapter_id], store)
    return [replace(adapter, versions=numbered[id_]) for id_, adapter in found.items()]


def read_states(connection: Connection, adapter_id: int) -> dict[int, VersionState]:
    """The state of every version of an adapter, deleted ones included."""
    query = select(versions.c.number, versions.c.state).where(versions.c.adapter_id == adapter_id)
    return {row.number: VersionState(row.state) for row in connection.execute(query)}


def read_history(
    connection: Connection, adapter_id: int, tenant: str, adapter: str
) -> list[HistoryEntry]:
    """An adapter's history, oldest first."""
    query = select(history).where(history.c.adapter_id == adapter_id).order_by(history.c.id)
    return [
        HistoryEntry(
            at=row.at,
            actor=row.actor,
            action=row.action,
            tenant=tenant,
            adapter=adapter,
            from_version=row.from_version,
            to_version=row.to_version,
            reason=row.reason,
            forced=row.forced,
        )
        for row in connection.execute(query)
    ]


def read_audit(connection: Connection, limit: int, before: int | None) -> list[AuditEntry]:
    """The latest `limit` entries with an id below `before`, newest first."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.id < before)
    return [AuditEntry(**row._mapping) for row in connection.execute(query)]


def key_of(row: Row[Any]) -> Key:
    """A key, from a row of `keys` with its tenant's name as `tenant`."""
    return Key(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        scopes=frozenset(Scope(scope) for scope in row.scopes),
        secret_sha256=row.secret_sha256,
        created_at=row.created_at,
    )


def _read_keys(connection: Connection, where: ColumnElement[bool]) -> Sequence[Key]:
    query = (
        select(keys, tenants.c.name.label("tenant"))
        .join(tenants, keys.c.tenant_id == tenants.c.id)
        .where(where, keys.c.revoked_at.is_(None))
        .order_by(keys.c.created_at, keys.c.id)
    )
    return [key_of(row) for row in connection.execute(query)]


def _version(row: Row[Any], adapter: Adapter, store: ArtifactStore) -> Version:
    return Version(
        tenant=adapter.tenant,
        adapter=adapter.name,
        number=row.number,
        digest=row.digest,
        state=VersionState(row.state),
        rank=row.rank,
        size_bytes=row.size_bytes,
        warnings=tuple(row.warnings),
        profile=ServingProfile.model_validate(row.profile),
        path=store.path_of(row.digest),
        created_at=row.created_at,
    )
