"""The registry: tenants, keys, adapters and their versions, every change one transaction.

A change writes, in the same transaction, its audit row, its history row where an adapter moved,
the adapter's revision and the registry's revision. Calls block: from async code use a thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from adapters_registry import moves, rows
from adapters_registry.artifacts import ArtifactStore, StoredArtifact
from adapters_registry.base_model import BaseModelSpec
from adapters_registry.change import (
    Change,
    find_adapter,
    find_living,
    find_or_make_adapter,
    find_tenant,
)
from adapters_registry.checks import check_key, check_name, check_profile, check_reason
from adapters_registry.database import Database
from adapters_registry.errors import AlreadyExists, UnknownKey
from adapters_registry.manifest import Manifest, check_adapter
from adapters_registry.tables import (
    adapters,
    keys,
    registry_meta,
    tenants,
    versions,
)
from adapters_registry.tenants import new_key
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

_AUDIT_LIMIT = 1000


class Registry:
    """All calls are safe from several threads and from several processes on one database.

    actor: who asks, `admin` or `key:<id>`; kept in the audit and the history.
    Every call may raise DatabaseUnavailable or StorageError, and then nothing was changed.
    """

    def __init__(self, database: Database, artifacts: ArtifactStore) -> None:
        self._database = database
        self.artifacts = artifacts

    @classmethod
    def open(cls, database_url: str, artifacts_dir: Path) -> "Registry":
        """Opens the registry, made or migrated first where needed. Folders are 0700.

        database_url: `sqlite:///FILE` or `postgresql+psycopg://...`.
        """
        database = Database(database_url)
        try:
            artifacts = ArtifactStore(artifacts_dir)
            database.migrate()
        except BaseException:
            database.close()
            raise
        return cls(database, artifacts)

    def close(self) -> None:
        """Ends all connections."""
        self._database.close()

    def revision(self) -> int:
        """Grows with every change. One cheap query."""
        with self._database.read() as connection:
            return rows.read_revision(connection)

    def snapshot(self) -> Snapshot:
        """All that is not deleted or revoked, at one revision."""
        with self._database.read() as connection:
            return rows.read_snapshot(connection, self.artifacts)

    def history(self, tenant: str, adapter: str) -> list[HistoryEntry]:
        """What became of the adapter, newest first. Raises UnknownTenant, UnknownAdapter."""
        with self._database.read() as connection:
            found = find_adapter(connection, find_tenant(connection, tenant), adapter)
            return rows.read_history(connection, found.id, tenant, adapter)[::-1]

    def audit(self, *, limit: int = 100, before: int | None = None) -> list[AuditEntry]:
        """Changes of the registry, newest first; `before` is the id to continue below."""
        with self._database.read() as connection:
            return rows.read_audit(connection, min(max(limit, 1), _AUDIT_LIMIT), before)

    def create_tenant(self, name: str, *, actor: str) -> Tenant:
        """Makes a tenant. Raises InvalidName, AlreadyExists.

        The name of a deleted tenant may be used again. Nothing of the old one comes back, and
        adapters of the same name go on with their version numbers.
        """
        check_name(name, "name", "a tenant's")
        with self._change(actor) as change:
            if find_living(change.connection, name) is not None:
                raise AlreadyExists(f"tenant {name!r} exists already", field="name")
            change.connection.execute(
                insert(tenants).values(name=name, policy={}, created_at=change.at)
            )
            change.audit("tenant.create", name, name)
            return self._tenant(change.connection, name)

    def delete_tenant(self, name: str, *, actor: str) -> None:
        """Deletes a tenant, its keys and its adapters at once. Raises UnknownTenant.

        Adapter files stay until a garbage collection finds that no version uses them.
        """
        with self._change(actor) as change:
            connection, found = change.connection, find_tenant(change.connection, name)
            owned = select(adapters.c.id).where(adapters.c.tenant_id == found.id)
            of_tenant, kept = versions.c.adapter_id.in_(owned), versions.c.deleted_at.is_(None)
            for statement in (
                update(versions)
                .where(of_tenant, kept)
                .values(state=VersionState.DELETED, deleted_at=change.at),
                update(adapters)
                .where(adapters.c.tenant_id == found.id)
                .values(live=None, revision=adapters.c.revision + 1),
                update(keys)
                .where(keys.c.tenant_id == found.id, keys.c.revoked_at.is_(None))
                .values(revoked_at=change.at),
                update(tenants).where(tenants.c.id == found.id).values(deleted_at=change.at),
            ):
                connection.execute(statement)
            change.audit("tenant.delete", name, name)

    def set_policy(self, name: str, policy: TenantPolicy, *, actor: str) -> Tenant:
        """Replaces a tenant's policy. Raises UnknownTenant."""
        with self._change(actor) as change:
            found = find_tenant(change.connection, name)
            wanted = policy.model_dump(mode="json")
            change.connection.execute(
                update(tenants).where(tenants.c.id == found.id).values(policy=wanted)
            )
            change.audit("tenant.policy", name, name, policy=wanted)
            return self._tenant(change.connection, name)

    def create_key(
        self, tenant: str, *, name: str, scopes: frozenset[Scope], actor: str
    ) -> tuple[Key, str]:
        """Makes a key. The text is what the client sends; it is shown this once and never kept.

        Raises UnknownTenant, InvalidName.
        """
        check_key(name, scopes)
        made = new_key()
        with self._change(actor) as change:
            found = find_tenant(change.connection, tenant)
            key = Key(made.id, tenant, name, scopes, made.secret_sha256, change.at)
            change.connection.execute(
                insert(keys).values(
                    id=key.id,
                    tenant_id=found.id,
                    name=name,
                    scopes=sorted(scopes),
                    secret_sha256=key.secret_sha256,
                    created_at=key.created_at,
                )
            )
            change.audit("key.create", tenant, key.id, name=name, scopes=sorted(scopes))
        return key, made.text

    def revoke_key(self, tenant: str, key_id: str, *, actor: str) -> None:
        """Ends a key for good. Raises UnknownTenant, UnknownKey."""
        with self._change(actor) as change:
            found = find_tenant(change.connection, tenant)
            ended = change.connection.execute(
                update(keys)
                .where(
                    keys.c.id == key_id,
                    keys.c.tenant_id == found.id,
                    keys.c.revoked_at.is_(None),
                )
                .values(revoked_at=change.at)
            )
            if not ended.rowcount:
                raise UnknownKey("this tenant has no such key", field="key_id")
            change.audit("key.revoke", tenant, key_id)

    def push(
        self,
        tenant: str,
        adapter: str,
        folder: Path,
        *,
        base: BaseModelSpec,
        max_rank: int,
        profile: ServingProfile,
        actor: str,
    ) -> Version:
        """Checks the adapter in `folder`, stores its files and makes a version of it, a candidate.

        The adapter is made with its first version. The same content pushed again is stored once
        and is a new version. `folder` stays the caller's. A refused adapter stores nothing; files
        stored for a version that could not be written after all wait for a garbage collection.
        Raises InvalidName, InvalidProfile, InvalidAdapter, UnknownTenant.
        """
        check_name(adapter, "adapter", "an adapter's")
        check_profile(profile)
        with self._database.read() as connection:  # before gigabytes are read
            find_tenant(connection, tenant)
        manifest = check_adapter(folder, base, max_rank)
        stored = self.artifacts.put(folder)
        with self._change(actor) as change:
            found = find_tenant(change.connection, tenant)
            row = find_or_make_adapter(change.connection, found, adapter)
            number = row.next_number
            change.connection.execute(
                insert(versions).values(
                    adapter_id=row.id,
                    number=number,
                    created_at=change.at,
                    created_by=actor,
                    profile=profile.model_dump(mode="json", exclude_defaults=True),
                    **_described(manifest, stored),
                )
            )
            change.connection.execute(
                update(adapters).where(adapters.c.id == row.id).values(next_number=number + 1)
            )
            change.moved(row, "push", None, number, None, False)
            change.audit("version.push", tenant, f"{adapter}@{number}", digest=stored.digest)
            return self._adapter(change.connection, row.id).versions[number]

    def promote(
        self,
        tenant: str,
        adapter: str,
        version: int,
        *,
        actor: str,
        reason: str | None = None,
        force: bool = False,
        if_match: int | None = None,
    ) -> Adapter:
        """Makes `version` the live one; the one live before is retired.

        Raises UnknownTenant, UnknownAdapter, UnknownVersion, StaleRevision (`if_match` is not the
        adapter's revision), IllegalMove (it is live already). `force` is kept in the history.
        """
        check_reason(reason)
        with self._change(actor) as change:
            row = self._adapter_row(change.connection, tenant, adapter)
            moves.check_revision(row.revision, if_match)
            moves.check_promote(rows.read_states(change.connection, row.id), version)
            change.go_live(row, moves.PROMOTE, version, reason, force)
            change.audit(
                "version.promote", tenant, f"{adapter}@{version}", reason=reason, forced=force
            )
            return self._adapter(change.connection, row.id)

    def rollback(
        self,
        tenant: str,
        adapter: str,
        *,
        to: int | None = None,
        actor: str,
        reason: str | None = None,
        if_match: int | None = None,
    ) -> Adapter:
        """Goes back to `to`, or to the version that was live before. Two in a row go back two.

        Raises UnknownTenant, UnknownAdapter, UnknownVersion, StaleRevision, IllegalMove (with the
        reason: nothing live yet, nothing before it, `to` is live already or never was).
        """
        check_reason(reason)
        with self._change(actor) as change:
            row = self._adapter_row(change.connection, tenant, adapter)
            moves.check_revision(row.revision, if_match)
            past = rows.read_history(change.connection, row.id, tenant, adapter)
            target = moves.rollback_target(rows.read_states(change.connection, row.id), past, to)
            change.go_live(row, moves.ROLLBACK, target, reason, False)
            change.audit("version.rollback", tenant, f"{adapter}@{target}", reason=reason)
            return self._adapter(change.connection, row.id)

    def delete_version(self, tenant: str, adapter: str, version: int, *, actor: str) -> None:
        """Deletes a version that is not live. Its number is never used again.

        The files stay: an engine may still read them, another version may share them. A later
        garbage collection removes what no version uses.
        Raises UnknownTenant, UnknownAdapter, UnknownVersion, IllegalMove.
        """
        with self._change(actor) as change:
            row = self._adapter_row(change.connection, tenant, adapter)
            moves.check_delete(rows.read_states(change.connection, row.id), version)
            change.connection.execute(
                update(versions)
                .where(versions.c.adapter_id == row.id, versions.c.number == version)
                .values(state=VersionState.DELETED, deleted_at=change.at)
            )
            change.moved(row, "delete", version, None, None, False)
            change.audit("version.delete", tenant, f"{adapter}@{version}")

    @contextmanager
    def _change(self, actor: str) -> Iterator[Change]:
        """One change. The revision is written first: on PostgreSQL its row is the writers' lock."""
        with self._database.write() as connection:
            connection.execute(update(registry_meta).values(revision=registry_meta.c.revision + 1))
            yield Change(connection, actor, datetime.now(UTC))

    def _adapter_row(self, connection: Connection, tenant: str, adapter: str) -> Row[Any]:
        return find_adapter(connection, find_tenant(connection, tenant), adapter)

    def _adapter(self, connection: Connection, adapter_id: int) -> Adapter:
        return rows.read_adapters(connection, self.artifacts, adapters.c.id == adapter_id)[0]

    def _tenant(self, connection: Connection, name: str) -> Tenant:
        living = (tenants.c.name == name) & tenants.c.deleted_at.is_(None)
        return rows.read_tenants(connection, self.artifacts, living)[0]


def _described(manifest: Manifest, stored: StoredArtifact) -> dict[str, Any]:
    return {
        "digest": stored.digest,
        "state": VersionState.CANDIDATE,
        "rank": manifest.rank,
        "size_bytes": stored.size_bytes,
        "warnings": list(manifest.warnings),
        "summary": manifest.summary(),
    }
