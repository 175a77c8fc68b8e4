"""One change under way, and how it finds and marks what it changes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from adapters_registry.errors import UnknownAdapter, UnknownTenant
from adapters_registry.tables import adapters, audit, history, registry_meta, tenants, versions
from adapters_registry.types import VersionState


@dataclass(frozen=True, slots=True)
class Change:
    """A change under way: its transaction, who asked for it and when."""

    connection: Connection
    actor: str
    at: datetime

    def audit(self, action: str, tenant: str | None, target: str, **detail: object) -> None:
        """Writes the audit row, and has snapshots read all tenants of that name again."""
        self.connection.execute(
            insert(audit).values(
                at=self.at,
                actor=self.actor,
                action=action,
                tenant=tenant,
                target=target,
                detail=detail,
            )
        )
        now = select(registry_meta.c.revision).scalar_subquery()
        self.connection.execute(
            update(tenants).where(tenants.c.name == tenant).values(revision=now)
        )

    def moved(
        self,
        adapter: Row[Any],
        action: str,
        before: int | None,
        after: int | None,
        reason: str | None,
        forced: bool,
    ) -> None:
        """Writes the history row and the adapter's next revision."""
        self.noted(adapter, action, before, after, reason, forced)
        self.connection.execute(
            update(adapters)
            .where(adapters.c.id == adapter.id)
            .values(revision=adapters.c.revision + 1)
        )

    def noted(
        self,
        adapter: Row[Any],
        action: str,
        before: int | None,
        after: int | None,
        reason: str | None,
        forced: bool,
    ) -> None:
        """Writes the history row alone."""
        self.connection.execute(
            insert(history).values(
                adapter_id=adapter.id,
                at=self.at,
                actor=self.actor,
                action=action,
                from_version=before,
                to_version=after,
                reason=reason,
                forced=forced,
            )
        )

    def go_live(
        self, adapter: Row[Any], action: str, version: int, reason: str | None, forced: bool
    ) -> None:
        """Retires the live version first: the schema allows one live version at any moment."""
        of_adapter = versions.c.adapter_id == adapter.id
        for number, state in ((adapter.live, VersionState.RETIRED), (version, VersionState.LIVE)):
            self.connection.execute(
                update(versions).where(of_adapter, versions.c.number == number).values(state=state)
            )
        self.connection.execute(
            update(adapters).where(adapters.c.id == adapter.id).values(live=version)
        )
        self.moved(adapter, action, adapter.live, version, reason, forced)

    def catch_up(self, tenant_id: int, name: str) -> None:
        """Takes the numbers of a restored tenant's adapters past those given under its name since.

        Their revisions too: a reader of either tenant's must find that something happened.
        """
        own = select(adapters.c.id, adapters.c.name).where(adapters.c.tenant_id == tenant_id)
        for adapter in self.connection.execute(own).all():
            number, revision = furthest(self.connection, name, adapter.name)
            self.connection.execute(
                update(adapters)
                .where(adapters.c.id == adapter.id)
                .values(next_number=number, revision=revision + 1)
            )


def find_living(connection: Connection, name: str) -> Row[Any] | None:
    """The tenant of that name that is not deleted."""
    query = select(tenants).where(tenants.c.name == name, tenants.c.deleted_at.is_(None))
    return connection.execute(query).one_or_none()


def find_tenant(connection: Connection, name: str) -> Row[Any]:
    """Raises UnknownTenant, for a deleted one too."""
    found = find_living(connection, name)
    if found is None:
        raise UnknownTenant("no such tenant", field="tenant")
    return found


def find_adapter(connection: Connection, tenant: Row[Any], name: str) -> Row[Any]:
    """Raises UnknownAdapter."""
    query = select(adapters).where(adapters.c.tenant_id == tenant.id, adapters.c.name == name)
    found = connection.execute(query).one_or_none()
    if found is None:
        raise UnknownAdapter("no such adapter", field="adapter")
    return found


def find_or_make_adapter(connection: Connection, tenant: Row[Any], name: str) -> Row[Any]:
    """Numbers and revisions go on where an earlier tenant of the same name left off."""
    try:
        return find_adapter(connection, tenant, name)
    except UnknownAdapter:
        pass
    number, revision = furthest(connection, tenant.name, name)
    connection.execute(
        insert(adapters).values(
            tenant_id=tenant.id, name=name, revision=revision, next_number=number
        )
    )
    return find_adapter(connection, tenant, name)


def furthest(connection: Connection, tenant: str, name: str) -> tuple[int, int]:
    """The next number and the highest revision of all adapters that ever had these names."""
    found = connection.execute(
        select(
            func.max(adapters.c.next_number).label("number"),
            func.max(adapters.c.revision).label("revision"),
        )
        .join(tenants, adapters.c.tenant_id == tenants.c.id)
        .where(tenants.c.name == tenant, adapters.c.name == name)
    ).one()
    return found.number or 1, found.revision or 0
