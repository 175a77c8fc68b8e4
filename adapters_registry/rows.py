"""From rows to the registry's nouns."""

from collections import defaultdict
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from adapters_registry.artifacts import ArtifactStore
from adapters_registry.moves import Standing
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
    DeletedTenant,
    Evaluation,
    HistoryEntry,
    Key,
    Lineage,
    Proof,
    ProofState,
    Scope,
    ServingProfile,
    Snapshot,
    Tenant,
    TenantPolicy,
    Verdict,
    Version,
    VersionRecord,
    VersionState,
)

# What a snapshot holds of a version: reports and recipes may be large, and only `read_version`
# wants them.
_SHOWN = [
    versions.c[name]
    for name in (
        "adapter_id",
        "number",
        "digest",
        "state",
        "rank",
        "size_bytes",
        "warnings",
        "profile",
        "created_at",
        "verdict",
        "proof_state",
    )
]


def read_revision(connection: Connection) -> int:
    """The registry's revision."""
    revision: int = connection.execute(select(registry_meta.c.revision)).scalar_one()
    return revision


def read_snapshot(
    connection: Connection, store: ArtifactStore, last: Snapshot | None = None
) -> Snapshot:
    """All that lives, at one revision. Of `last`, an earlier one, what did not change is kept."""
    revision = read_revision(connection)
    if last is not None and not last.tenants:
        last = None  # an empty registry may since have been filled from a backup, of any revision
    if last is not None and last.revision == revision:
        return last
    living = tenants.c.deleted_at.is_(None)
    where: ColumnElement[bool] = living
    kept = Snapshot(revision, {}, {})
    if last is not None and last.revision < revision:
        since = tenants.c.revision > last.revision
        changed = set(connection.execute(select(tenants.c.name).where(since)).scalars())
        if changed:  # else a change named no tenant, and all is read again
            where, kept = living & since, _without(last, changed)
    found = {tenant.name: tenant for tenant in read_tenants(connection, store, where)}
    return Snapshot(
        revision=revision,
        tenants=dict(sorted({**kept.tenants, **found}.items())),
        keys={**kept.keys, **{key.id: key for key in read_keys(connection, where)}},
    )


def _without(snapshot: Snapshot, names: set[str]) -> Snapshot:
    """The snapshot without these tenants."""
    return replace(
        snapshot,
        tenants={name: one for name, one in snapshot.tenants.items() if name not in names},
        keys={id_: key for id_, key in snapshot.keys.items() if key.tenant not in names},
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
    listing = select(*_SHOWN).join(joined, versions.c.adapter_id == adapters.c.id)
    for row in connection.execute(listing.where(where, kept).order_by(versions.c.number)):
        numbered[row.adapter_id][row.number] = _version(row, found[row.adapter_id], store)
    return [replace(adapter, versions=numbered[id_]) for id_, adapter in found.items()]


def read_states(connection: Connection, adapter_id: int) -> dict[int, VersionState]:
    """The state of every version of an adapter, deleted ones included."""
    query = select(versions.c.number, versions.c.state).where(versions.c.adapter_id == adapter_id)
    return {row.number: VersionState(row.state) for row in connection.execute(query)}


def read_standings(connection: Connection, adapter_id: int) -> dict[int, Standing]:
    """What decides on the promotion of each version of an adapter, deleted ones included."""
    query = select(
        versions.c.number, versions.c.state, versions.c.verdict, versions.c.proof_state
    ).where(versions.c.adapter_id == adapter_id)
    return {
        row.number: Standing(
            VersionState(row.state), _verdict(row.verdict), ProofState(row.proof_state)
        )
        for row in connection.execute(query)
    }


def read_version(
    connection: Connection, store: ArtifactStore, adapter_id: int, number: int
) -> VersionRecord | None:
    """All of one version that is not deleted."""
    (adapter,) = read_adapters(connection, store, adapters.c.id == adapter_id)
    if (version := adapter.versions.get(number)) is None:
        return None
    of_version = (versions.c.adapter_id == adapter_id) & (versions.c.number == number)
    row = connection.execute(select(versions).where(of_version)).one()
    return VersionRecord(
        version=version,
        created_by=row.created_by,
        summary=row.summary,
        files=row.files,
        lineage=Lineage.model_validate(row.lineage),
        evaluation=row.evaluation and Evaluation.model_validate(row.evaluation),
        proof=row.proof and Proof.model_validate(row.proof),
    )


def read_deleted_tenants(connection: Connection, now: datetime) -> list[DeletedTenant]:
    """Tenants whose deletion can be undone, the latest first."""
    query = (
        select(tenants)
        .where(tenants.c.purged_at.is_(None), tenants.c.purge_at > now)
        .order_by(tenants.c.deleted_at.desc(), tenants.c.id.desc())
    )
    return [
        DeletedTenant(row.name, row.deleted_at, row.purge_at) for row in connection.execute(query)
    ]


def read_purgeable(connection: Connection, now: datetime) -> list[tuple[int, str]]:
    """Ids and names of tenants whose deletion can no longer be undone, and is not done yet."""
    due = tenants.c.purged_at.is_(None) & (tenants.c.purge_at <= now)
    query = select(tenants.c.id, tenants.c.name).where(due).order_by(tenants.c.id)
    return [(row.id, row.name) for row in connection.execute(query)]


def read_referenced(connection: Connection) -> set[str]:
    """The digests of all versions that are not deleted, those of deleted tenants included."""
    kept = select(versions.c.digest).where(versions.c.state != VersionState.DELETED)
    return set(connection.execute(kept).scalars())


def read_labels(connection: Connection) -> dict[str, list[str]]:
    """Of the same versions the labels, by digest."""
    query = (
        select(
            versions.c.digest, versions.c.number, adapters.c.name, tenants.c.name.label("tenant")
        )
        .join(adapters, versions.c.adapter_id == adapters.c.id)
        .join(tenants, adapters.c.tenant_id == tenants.c.id)
        .where(versions.c.state != VersionState.DELETED)
        .order_by(tenants.c.name, adapters.c.name, versions.c.number)
    )
    found: dict[str, list[str]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.digest].append(f"{row.tenant}/{row.name}@{row.number}")
    return dict(found)


def lock(connection: Connection) -> None:
    """Keeps every change out until the transaction ends; on SQLite it does so from its start."""
    connection.execute(select(registry_meta.c.revision).with_for_update())


def is_unused(connection: Connection, digest: str, since: datetime) -> bool:
    """Whether no version has referred to the content since then."""
    fresh = versions.c.deleted_at.is_(None) | (versions.c.deleted_at > since)
    query = select(versions.c.number).where(versions.c.digest == digest, fresh).limit(1)
    return connection.execute(query).first() is None


def find_key(connection: Connection, tenant: Row[Any], key_id: str) -> Key | None:
    """The tenant's key, unless it is revoked."""
    found = read_keys(connection, (tenants.c.id == tenant.id) & (keys.c.id == key_id))
    return found[0] if found else None


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
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )


def read_keys(connection: Connection, where: ColumnElement[bool]) -> list[Key]:
    """Keys that are not revoked, by a condition on themselves or their tenants."""
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
        verdict=_verdict(row.verdict),
        proof=ProofState(row.proof_state),
    )


def _verdict(text: str | None) -> Verdict | None:
    return None if text is None else Verdict(text)
