"""What all of the registry's calls stand on: the database, the files, one change at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, update

from adapters_registry import rows
from adapters_registry.artifacts import ArtifactStore, StoredArtifact
from adapters_registry.change import Change, find_adapter, find_tenant
from adapters_registry.database import Database
from adapters_registry.tables import adapters, registry_meta, tenants
from adapters_registry.types import Adapter, Tenant


class _Gone(Exception):
    """A garbage collection was faster."""


class Calls:
    """Base of the registry's parts."""

    def __init__(self, database: Database, artifacts: ArtifactStore) -> None:
        self._database = database
        self.artifacts = artifacts

    @contextmanager
    def _change(self, actor: str) -> Iterator[Change]:
        """One change. The revision is written first: on PostgreSQL its row is the writers' lock."""
        with self._database.write() as connection:
            connection.execute(update(registry_meta).values(revision=registry_meta.c.revision + 1))
            self._database.announce(connection)
            yield Change(connection, actor, datetime.now(UTC))

    @contextmanager
    def _change_with(self, folder: Path, actor: str) -> Iterator[tuple[Change, StoredArtifact]]:
        """One change that refers to the files of `folder`, which are stored first."""
        with self._change_with_all(lambda: [self.artifacts.put(folder)], actor) as (change, stored):
            yield change, stored[0]

    @contextmanager
    def _change_with_all(
        self, store: Callable[[], Sequence[StoredArtifact]], actor: str
    ) -> Iterator[tuple[Change, Sequence[StoredArtifact]]]:
        """One change that refers to what `store` puts into the artifact store before.

        Under the writers' lock, without which no garbage collection removes anything, it is made
        sure that all of it is still there; else it is stored again.
        """
        while True:
            stored = store()
            with suppress(_Gone), self._change(actor) as change:
                if not all(self.artifacts.holds(each.digest) for each in stored):
                    raise _Gone
                yield change, stored
                return

    def _adapter_row(self, connection: Connection, tenant: str, adapter: str) -> Row[Any]:
        return find_adapter(connection, find_tenant(connection, tenant), adapter)

    def _adapter(self, connection: Connection, adapter_id: int) -> Adapter:
        return rows.read_adapters(connection, self.artifacts, adapters.c.id == adapter_id)[0]

    def _tenant(self, connection: Connection, name: str) -> Tenant:
        living = (tenants.c.name == name) & tenants.c.deleted_at.is_(None)
        return rows.read_tenants(connection, self.artifacts, living)[0]
