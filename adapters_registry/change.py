"""One change under way, and how it finds and marks what it changes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from adapters_registry.errors import UnknownAdapter, UnknownTenant
from adapters_registry.tables import adapters, audit, history, tenants, versions
from adapters_registry.types import VersionState


@dataclass(frozen=True, slots=True)
class Change:
    """A change under way: its transaction, who asked for it and when."""

    connection: Connection
    actor: str
    at: datetime

    def audit(self, action: str, tenant: str, target: str, **detail: object) -> None:
        """Writes the audit row."""
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
        self.connection.execute(
            update(adapters)
            .where(adapters.c.id == adapter.id)
            .values(revision=adapters.c.revision + 1)
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
    earlier = connection.execute(
        select(
            func.max(adapters.c.next_number).label("number"),
            func.max(adapters.c.revision).label("revision"),
        )
        .join(tenants, adapters.c.tenant_id == tenants.c.id)
        .where(tenants.c.name == tenant.name, adapters.c.name == name)
    ).one()
    connection.execute(
        insert(adapters).values(
            tenant_id=tenant.id,
            name=name,
            revision=earlier.revision or 0,
            next_number=earlier.number or 1,
        )
    )
    return find_adapter(connection, tenant, name)
