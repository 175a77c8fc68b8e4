"""The registry: tenants, keys, adapters and their versions, every change one transaction.

A change writes, in the same transaction, its audit row, its history row where an adapter moved,
the adapter's revision and the registry's revision. Calls block: from async code use a thread.
"""

from collections.abc import AsyncGenerator
from pathlib import Path

from adapters_registry import rows
from adapters_registry.artifacts import ArtifactStore
from adapters_registry.backups import Backups
from adapters_registry.bucket import Bucket, parse_place
from adapters_registry.change import find_adapter, find_tenant
from adapters_registry.database import Database
from adapters_registry.errors import StorageError
from adapters_registry.housekeeping import Housekeeping
from adapters_registry.s3_artifacts import S3ArtifactStore
from adapters_registry.tenant_calls import TenantCalls
from adapters_registry.transfer import Transfer
from adapters_registry.types import AuditEntry, HistoryEntry, Snapshot
from adapters_registry.version_calls import VersionCalls

_AUDIT_LIMIT = 1000


class Registry(Housekeeping, TenantCalls, VersionCalls, Transfer, Backups):
    """All calls are safe from several threads and from several processes on one database.

    actor: who asks, `admin` or `key:<id>`; kept in the audit and the history. reason: why, in the
    caller's words; kept there too.
    Every call may raise DatabaseUnavailable or StorageError, and then nothing was changed, but for
    OutcomeUnknown.
    """

    @classmethod
    def open(
        cls,
        database_url: str,
        artifacts_dir: Path,
        *,
        artifacts_url: str | None = None,
        s3_endpoint: str | None = None,
    ) -> "Registry":
        """Opens the registry, made or migrated first where needed. Folders are 0700.

        database_url: `sqlite:///FILE` or `postgresql+psycopg://...`. artifacts_url: where the files
        lie, `s3://bucket/prefix`, with copies in `artifacts_dir`; when None, there alone.
        s3_endpoint: the bucket's server where it is not AWS's own; nobody asks it yet.
        """
        database = Database(database_url)
        try:
            artifacts = _artifact_store(artifacts_dir, artifacts_url, s3_endpoint)
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

    def snapshot(self, last: Snapshot | None = None) -> Snapshot:
        """All that is not deleted or revoked, at one revision.

        last: an earlier one of this registry, of which only the tenants that changed are read
        again; returned itself where nothing changed. Keys' last use is no change.
        """
        with self._database.read() as connection:
            return rows.read_snapshot(connection, self.artifacts, last)

    def news(self) -> AsyncGenerator[None]:
        """Yields at once and then soon after each change, by whichever process made it.

        PostgreSQL tells of the commit; SQLite is looked at every 50 ms. Several changes may be
        told as one. Raises when the database cannot tell any more. The caller closes it.
        """
        return self._database.news()

    def history(self, tenant: str, adapter: str) -> list[HistoryEntry]:
        """What became of the adapter, newest first. Raises UnknownTenant, UnknownAdapter."""
        with self._database.read() as connection:
            found = find_adapter(connection, find_tenant(connection, tenant), adapter)
            return rows.read_history(connection, found.id, tenant, adapter)[::-1]

    def audit(self, *, limit: int = 100, before: int | None = None) -> list[AuditEntry]:
        """Changes of the registry, newest first; `before` is the id to continue below."""
        with self._database.read() as connection:
            return rows.read_audit(connection, min(max(limit, 1), _AUDIT_LIMIT), before)


def _artifact_store(root: Path, url: str | None, s3_endpoint: str | None) -> ArtifactStore:
    if url is None:
        return ArtifactStore(root)
    try:
        place = parse_place(url)
    except ValueError as error:
        raise StorageError(f"artifacts_url: {error}", field="artifacts_url") from None
    return S3ArtifactStore(root, Bucket(place, s3_endpoint))
