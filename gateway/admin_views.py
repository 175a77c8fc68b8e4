"""The registry's nouns as the admin API shows them; pure."""

from typing import Any

from adapters_registry.types import (
    Adapter,
    AuditEntry,
    DeletedTenant,
    HistoryEntry,
    Key,
    Tenant,
    Version,
    VersionRecord,
)


def tenant_view(tenant: Tenant) -> dict[str, Any]:
    """A tenant, without what it owns."""
    return {
        "name": tenant.name,
        "policy": tenant.policy.model_dump(mode="json"),
        "created_at": tenant.created_at.isoformat(),
    }


def key_view(key: Key) -> dict[str, Any]:
    """A key, without anything of its secret."""
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at and key.expires_at.isoformat(),
        "last_used_at": key.last_used_at and key.last_used_at.isoformat(),
    }


def version_view(version: Version) -> dict[str, Any]:
    """A version, without where it lies."""
    return {
        "version": version.number,
        "digest": version.digest,
        "state": version.state.value,
        "verdict": version.verdict,
        "proof": version.proof.value,
        "rank": version.rank,
        "size_bytes": version.size_bytes,
        "warnings": list(version.warnings),
        # Only what the version states; null would read as a choice.
        "profile": version.profile.model_dump(mode="json", exclude_defaults=True),
        "created_at": version.created_at.isoformat(),
    }


def record_view(record: VersionRecord) -> dict[str, Any]:
    """All that is kept of a version, without where it lies."""
    evaluation, proof = record.evaluation, record.proof
    return version_view(record.version) | {
        "created_by": record.created_by,
        "summary": dict(record.summary),
        "files": dict(record.files),
        "lineage": record.lineage.model_dump(mode="json", exclude_defaults=True),
        "evaluation": evaluation and evaluation.model_dump(mode="json"),
        "proof_figures": proof and proof.model_dump(mode="json", exclude={"state"}),
    }


def deleted_tenant_view(tenant: DeletedTenant) -> dict[str, Any]:
    """A tenant that can still come back."""
    return {
        "name": tenant.name,
        "deleted_at": tenant.deleted_at.isoformat(),
        "purge_at": tenant.purge_at.isoformat(),
    }


def adapter_view(adapter: Adapter) -> dict[str, Any]:
    """An adapter with its versions, the newest first."""
    return {
        "tenant": adapter.tenant,
        "adapter": adapter.name,
        "live": adapter.live,
        "revision": adapter.revision,
        "versions": versions_view(adapter),
    }


def versions_view(adapter: Adapter) -> list[dict[str, Any]]:
    """An adapter's versions, the newest first."""
    return [
        version_view(adapter.versions[number]) for number in sorted(adapter.versions, reverse=True)
    ]


def history_view(entry: HistoryEntry) -> dict[str, Any]:
    """One move of an adapter."""
    return {
        "at": entry.at.isoformat(),
        "actor": entry.actor,
        "action": entry.action,
        "from": entry.from_version,
        "to": entry.to_version,
        "reason": entry.reason,
        "forced": entry.forced,
    }


def audit_view(entry: AuditEntry) -> dict[str, Any]:
    """One row of the audit."""
    return {
        "id": entry.id,
        "at": entry.at.isoformat(),
        "actor": entry.actor,
        "action": entry.action,
        "tenant": entry.tenant,
        "target": entry.target,
        "detail": dict(entry.detail),
    }
