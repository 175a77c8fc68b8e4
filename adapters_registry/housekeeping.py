"""The registry's calls that keep the artifact store in order: what may go, and what is damaged."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from adapters_registry import rows
from adapters_registry.artifacts import Content, Damage
from adapters_registry.child import Report, silent
from adapters_registry.tenant_calls import TenantCalls


@dataclass(frozen=True, slots=True)
class Collected:
    """What a garbage collection did."""

    removed: tuple[str, ...]
    """Digests."""
    freed_bytes: int
    kept: int
    """Contents that stay in the store."""
    purged: tuple[str, ...]
    """Tenants whose deletion can no longer be undone."""


@dataclass(frozen=True, slots=True)
class DamagedVersion:
    """A version whose content is not what it was."""

    label: str
    digest: str
    damage: Damage


@dataclass(frozen=True, slots=True)
class Verified:
    """What a reading of all content that versions refer to has found."""

    checked: int
    """Contents: versions may share one."""
    damaged: tuple[DamagedVersion, ...]


class Housekeeping(TenantCalls):
    """Run now and then, from any gateway, also from several at once."""

    def collect_garbage(
        self, *, grace: timedelta, actor: str, keep: Collection[str] = ()
    ) -> Collected:
        """Purges tenants that are due, then removes content that no version refers to.

        grace: how long nothing has referred to it, and nobody has put it, before it goes. Calls in
        flight are known only to their own gateway, so it is to be longer than any call.
        keep: digests, or their first digits, that stay whatever their age: what the caller's
        engine holds.

        A push stores its content first and refers to it afterwards. That it never loses it in
        between does not rest on the grace, but on the registry's write lock: content is removed
        only under the lock, after a look that no version refers to it, and a push, under the lock
        too, looks that its content is there before it writes the version, else stores it again
        (`_change_with`). So either the version is seen here, and its content stays, or the
        content's absence is seen there. A put renews the content's time, which is read again under
        the lock: so with a grace longer than a push takes, the second case does not even occur.

        What killed processes left half done goes too. Nothing is removed where the database does
        not answer. May raise StorageError in the middle; what was done until then is on record.
        """
        purged = self.purge_tenants(actor=actor)
        cutoff = datetime.now(UTC) - grace
        in_use = tuple(keep)
        removed: list[Content] = []
        kept = 0
        with self._database.read() as connection:
            referenced = rows.read_referenced(connection)
        try:
            for content in self.artifacts.contents():
                digest = content.digest
                if (
                    digest not in referenced
                    and content.stored_at <= cutoff
                    and not digest.startswith(in_use)
                    and self._remove(digest, cutoff)
                ):
                    removed.append(content)
                else:
                    kept += 1
        finally:
            if removed:
                self._note(removed, actor)
        self.artifacts.sweep()
        return Collected(
            removed=tuple(content.digest for content in removed),
            freed_bytes=sum(content.size_bytes for content in removed),
            kept=kept,
            purged=tuple(purged),
        )

    def verify_artifacts(self, report: Report = silent) -> Verified:
        """Reads all content that versions refer to, those of deleted tenants until they are purged.

        Raises StorageError where content can neither be read nor be said to be damaged.
        """
        with self._database.read() as connection:
            labels = rows.read_labels(connection)
        found: dict[str, Damage] = {}
        for number, digest in enumerate(sorted(labels)):
            report("reading what is stored", number / len(labels))
            if (damage := self.artifacts.check(digest)) is not None:
                found[digest] = damage
        with self._database.read() as connection:  # some may have been deleted meanwhile
            still = rows.read_labels(connection) if found else {}
        return Verified(
            checked=len(labels),
            damaged=tuple(
                DamagedVersion(label, digest, damage)
                for digest, damage in found.items()
                for label in still.get(digest, ())
            ),
        )

    def _remove(self, digest: str, cutoff: datetime) -> bool:
        """Under the lock, so that no push can refer to the content meanwhile. See above."""
        with self._database.write() as connection:
            rows.lock(connection)
            if not rows.is_unused(connection, digest, cutoff):
                return False
            return self.artifacts.remove(digest, unless_after=cutoff)

    def _note(self, removed: list[Content], actor: str) -> None:
        with self._change(actor) as change:
            change.audit(
                "artifacts.collect",
                None,
                f"{len(removed)} contents",
                digests=[content.digest for content in removed],
                freed_bytes=sum(content.size_bytes for content in removed),
            )
