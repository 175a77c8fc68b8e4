"""The registry's calls on tenants and their keys."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, insert, select, update

from adapters_registry import rows
from adapters_registry.calls import Calls
from adapters_registry.change import Change, find_living, find_tenant
from adapters_registry.checks import check_key, check_name, check_reason, checked_expiry
from adapters_registry.errors import AlreadyExists, UnknownKey, UnknownTenant
from adapters_registry.tables import UtcTime, adapters, keys, tenants, versions
from adapters_registry.tenants import new_key
from adapters_registry.types import (
    DeletedTenant,
    Key,
    Scope,
    Tenant,
    TenantPolicy,
    VersionState,
)

UNDO_TIME = timedelta(days=7)
"""How long a tenant's deletion can be undone."""


class TenantCalls(Calls):
    """Tenants come and go, and come back for a while; their keys only go."""

    def create_tenant(self, name: str, *, actor: str, reason: str | None = None) -> Tenant:
        """Makes a tenant. Raises InvalidName, AlreadyExists.

        The name of a deleted tenant may be used again. Nothing of the old one comes back, and
        adapters of the same name go on with their version numbers.
        """
        check_name(name, "name", "a tenant's")
        check_reason(reason)
        with self._change(actor) as change:
            if find_living(change.connection, name) is not None:
                raise AlreadyExists(f"tenant {name!r} exists already", field="name")
            change.connection.execute(
                insert(tenants).values(name=name, policy={}, created_at=change.at)
            )
            change.audit("tenant.create", name, name, reason=reason)
            return self._tenant(change.connection, name)

    def delete_tenant(
        self,
        name: str,
        *,
        actor: str,
        reason: str | None = None,
        undo_time: timedelta = UNDO_TIME,
    ) -> DeletedTenant:
        """Deletes a tenant: its keys for good, its adapters from sight. Raises UnknownTenant.

        Until `undo_time` has passed `restore_tenant` brings it back; then `purge_tenants` deletes
        its versions, whose files a garbage collection removes.
        """
        check_reason(reason)
        with self._change(actor) as change:
            connection, found = change.connection, find_tenant(change.connection, name)
            deleted = DeletedTenant(name, change.at, change.at + undo_time)
            for statement in (
                update(keys)
                .where(keys.c.tenant_id == found.id, keys.c.revoked_at.is_(None))
                .values(revoked_at=change.at),
                update(adapters)
                .where(adapters.c.tenant_id == found.id)
                .values(revision=adapters.c.revision + 1),
                update(tenants)
                .where(tenants.c.id == found.id)
                .values(deleted_at=deleted.deleted_at, purge_at=deleted.purge_at),
            ):
                connection.execute(statement)
            change.audit("tenant.delete", name, name, reason=reason)
            return deleted

    def deleted_tenants(self) -> list[DeletedTenant]:
        """Those whose deletion can still be undone, the latest first."""
        with self._database.read() as connection:
            return rows.read_deleted_tenants(connection, datetime.now(UTC))

    def restore_tenant(self, name: str, *, actor: str, reason: str | None = None) -> Tenant:
        """Undoes the latest deletion of the name. The keys stay dead: make new ones.

        Raises UnknownTenant where there is none that can be undone, AlreadyExists where a tenant
        of that name was made since.
        """
        check_reason(reason)
        with self._change(actor) as change:
            connection = change.connection
            if find_living(connection, name) is not None:
                raise AlreadyExists(
                    f"tenant {name!r} exists: one of that name was made since the deletion",
                    field="tenant",
                )
            query = (
                select(tenants.c.id)
                .where(
                    tenants.c.name == name,
                    tenants.c.purged_at.is_(None),
                    tenants.c.purge_at > change.at,
                )
                .order_by(tenants.c.id.desc())
                .limit(1)
            )
            found = connection.execute(query).scalar_one_or_none()
            if found is None:
                raise UnknownTenant("no deletion of such a tenant can be undone", field="tenant")
            connection.execute(
                update(tenants).where(tenants.c.id == found).values(deleted_at=None, purge_at=None)
            )
            change.catch_up(found, name)
            change.audit("tenant.restore", name, name, reason=reason)
            return self._tenant(connection, name)

    def purge_tenants(self, *, actor: str) -> list[str]:
        """Deletes the versions of tenants whose deletion can no longer be undone; their names.

        Each tenant is a change of its own.
        """
        with self._database.read() as connection:
            due = rows.read_purgeable(connection, datetime.now(UTC))
        return [name for tenant_id, name in due if self._purge(tenant_id, name, actor)]

    def _purge(self, tenant_id: int, name: str, actor: str) -> bool:
        """Whether it was done; False where another gateway was first."""
        try:
            with self._change(actor) as change:
                if (tenant_id, name) not in rows.read_purgeable(change.connection, change.at):
                    raise UnknownTenant("purged meanwhile")
                _delete_versions(change, tenant_id)
                change.audit("tenant.purge", name, name)
        except UnknownTenant:
            return False
        return True

    def set_policy(
        self, name: str, policy: TenantPolicy, *, actor: str, reason: str | None = None
    ) -> Tenant:
        """Changes what `policy` sets of a tenant's policy; the rest stays. Raises UnknownTenant."""
        check_reason(reason)
        with self._change(actor) as change:
            found = find_tenant(change.connection, name)
            kept = TenantPolicy.model_validate(found.policy)
            asked = policy.model_dump(exclude_unset=True)
            wanted = kept.model_copy(update=asked).model_dump(mode="json")
            change.connection.execute(
                update(tenants).where(tenants.c.id == found.id).values(policy=wanted)
            )
            change.audit("tenant.policy", name, name, policy=wanted, reason=reason)
            return self._tenant(change.connection, name)

    def create_key(
        self,
        tenant: str,
        *,
        name: str,
        scopes: frozenset[Scope],
        actor: str,
        expires_at: datetime | None = None,
        reason: str | None = None,
    ) -> tuple[Key, str]:
        """Makes a key. The text is what the client sends; it is shown this once and never kept.

        expires_at: aware; from then on the key is refused. Raises UnknownTenant, InvalidName.
        """
        check_key(name, scopes)
        check_reason(reason)
        made = new_key()
        with self._change(actor) as change:
            expires_at = checked_expiry(expires_at, change.at)
            found = find_tenant(change.connection, tenant)
            key = Key(made.id, tenant, name, scopes, made.secret_sha256, change.at, expires_at)
            _insert_key(change.connection, found.id, key)
            change.audit(
                "key.create",
                tenant,
                key.id,
                name=name,
                scopes=sorted(scopes),
                expires_at=expires_at and expires_at.isoformat(),
                reason=reason,
            )
        return key, made.text

    def rotate_key(
        self,
        tenant: str,
        key_id: str,
        *,
        actor: str,
        overlap: timedelta,
        expires_at: datetime | None = None,
        reason: str | None = None,
    ) -> tuple[Key, str]:
        """Makes a key like an old one, which goes on for `overlap` and then is refused.

        Raises UnknownTenant, UnknownKey, InvalidName.
        """
        check_reason(reason)
        made = new_key()
        with self._change(actor) as change:
            connection = change.connection
            expires_at = checked_expiry(expires_at, change.at)
            found = find_tenant(connection, tenant)
            old = rows.find_key(connection, found, key_id)
            if old is None or (old.expires_at is not None and old.expires_at <= change.at):
                raise UnknownKey("this tenant has no such key", field="key_id")
            end = change.at + overlap
            if old.expires_at is not None:
                end = min(end, old.expires_at)
            key = Key(
                made.id, tenant, old.name, old.scopes, made.secret_sha256, change.at, expires_at
            )
            _insert_key(connection, found.id, key)
            connection.execute(update(keys).where(keys.c.id == key_id).values(expires_at=end))
            change.audit(
                "key.rotate", tenant, key_id, to=key.id, ends_at=end.isoformat(), reason=reason
            )
        return key, made.text

    def revoke_key(
        self, tenant: str, key_id: str, *, actor: str, reason: str | None = None
    ) -> None:
        """Ends a key for good. Raises UnknownTenant, UnknownKey."""
        check_reason(reason)
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
            change.audit("key.revoke", tenant, key_id, reason=reason)

    def keys(self, tenant: str) -> list[Key]:
        """A tenant's keys that are not revoked, the oldest first. Raises UnknownTenant."""
        with self._database.read() as connection:
            found = find_tenant(connection, tenant)
            return rows.read_keys(connection, tenants.c.id == found.id)

    def note_key_use(self, used: Mapping[str, datetime]) -> None:
        """Keeps when keys, by id, were last used. No change of the registry: nothing follows it."""
        if not used:
            return
        at = bindparam("used_at", type_=UtcTime)
        later = keys.c.last_used_at.is_(None) | (keys.c.last_used_at < at)
        with self._database.write() as connection:
            # Else this and a deletion, which locks keys in another order, could block each other.
            rows.lock(connection)
            connection.execute(
                update(keys)
                .where(keys.c.id == bindparam("used_key"), later)
                .values(last_used_at=at),
                [{"used_key": key_id, "used_at": at_time} for key_id, at_time in used.items()],
            )


def _delete_versions(change: Change, tenant_id: int) -> None:
    owned = select(adapters.c.id).where(adapters.c.tenant_id == tenant_id)
    for statement in (
        update(versions)
        .where(versions.c.adapter_id.in_(owned), versions.c.deleted_at.is_(None))
        .values(state=VersionState.DELETED, deleted_at=change.at),
        update(adapters)
        .where(adapters.c.tenant_id == tenant_id)
        .values(live=None, revision=adapters.c.revision + 1),
        update(tenants).where(tenants.c.id == tenant_id).values(purged_at=change.at),
    ):
        change.connection.execute(statement)


def _insert_key(connection: Connection, tenant_id: int, key: Key) -> None:
    connection.execute(
        insert(keys).values(
            id=key.id,
            tenant_id=tenant_id,
            name=key.name,
            scopes=sorted(key.scopes),
            secret_sha256=key.secret_sha256,
            created_at=key.created_at,
            expires_at=key.expires_at,
        )
    )
