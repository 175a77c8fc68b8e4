"""What a registry should come to, in a few dictionaries: the model that tests compare it with.

Every call that changes something says first which error it must end in, or does it to the model.
Written from the rules, not from the code: no part of `adapters_registry.moves` is used here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from adapters_registry import errors
from adapters_registry.types import ProofState, Verdict, VersionState

Refusal = type[errors.RegistryError]
LIVE, RETIRED, DELETED = VersionState.LIVE, VersionState.RETIRED, VersionState.DELETED

Move = tuple[str, int | None, int | None, bool]
"""Action, from, to, forced."""


@dataclass
class VersionModel:
    """One version."""

    digest: str
    state: VersionState
    verdict: Verdict | None
    proof: ProofState = ProofState.UNPROVED


@dataclass
class AdapterModel:
    """One adapter of one tenant."""

    revision: int
    next_number: int
    live: int | None = None
    versions: dict[int, VersionModel] = field(default_factory=dict)
    """Deleted ones included."""
    history: list[Move] = field(default_factory=list)
    trail: list[int] = field(default_factory=list)
    """The versions that were live, up to the live one, without what rollbacks undid."""

    def note(self, action: str, before: int | None, after: int | None, forced: bool) -> None:
        self.history.append((action, before, after, forced))

    def move(self, action: str, before: int | None, after: int | None, forced: bool) -> None:
        self.note(action, before, after, forced)
        self.revision += 1

    def go_live(self, action: str, number: int, forced: bool) -> None:
        if self.live is not None:
            self.versions[self.live].state = RETIRED
        before, self.live = self.live, number
        self.versions[number].state = LIVE
        if action == "rollback" and number in self.trail:
            while self.trail[-1] != number:
                self.trail.pop()
        else:
            self.trail.append(number)
        self.move(action, before, number, forced)

    def judge(self, number: int, verdict: Verdict) -> None:
        version = self.versions[number]
        version.verdict = verdict
        if version.state not in (LIVE, RETIRED):
            version.state = VersionState(verdict)

    def way_back(self) -> int | None:
        """Where a rollback without `to` goes."""
        return next(
            (
                number
                for number in reversed(self.trail)
                if number != self.live and self.versions[number].state is not DELETED
            ),
            None,
        )

    def kept(self) -> dict[int, VersionModel]:
        return {n: each for n, each in self.versions.items() if each.state is not DELETED}


@dataclass
class TenantModel:
    """One tenant, living or not. A name may have had several."""

    name: str
    require_pass: bool = False
    adapters: dict[str, AdapterModel] = field(default_factory=dict)
    keys: dict[str, bool] = field(default_factory=dict)
    """Those not revoked: whether they have ended."""
    deleted: bool = False
    restorable: bool = False
    purged: bool = False


@dataclass
class RegistryModel:
    """All of it."""

    rows: list[TenantModel] = field(default_factory=list)
    """In the order they were made."""
    buried: list[TenantModel] = field(default_factory=list)
    """Those that can be restored, in the order they were deleted."""
    changes: list[str] = field(default_factory=list)
    """The action of each change, in order; the registry's revision is how many there are."""
    stored: set[str] = field(default_factory=set)
    """The digests of what lies in the store."""

    def living(self, name: str) -> TenantModel | None:
        return next((row for row in self.rows if row.name == name and not row.deleted), None)

    def adapter(self, tenant: str, name: str) -> AdapterModel | None:
        found = self.living(tenant)
        return None if found is None else found.adapters.get(name)

    def furthest(self, tenant: str, name: str) -> tuple[int, int]:
        """The next number and the highest revision under these names, whoever had them."""
        had = [
            row.adapters[name] for row in self.rows if row.name == tenant and name in row.adapters
        ]
        return (
            max((each.next_number for each in had), default=1),
            max((each.revision for each in had), default=0),
        )

    def digests(self) -> set[str]:
        """Of all versions that can still be asked for, or come back."""
        return {
            version.digest
            for row in self.rows
            for adapter in row.adapters.values()
            for version in adapter.kept().values()
        }

    def adapters(self) -> Iterator[tuple[str, str, AdapterModel]]:
        """Of the living tenants."""
        for row in self.rows:
            if not row.deleted:
                for name, adapter in row.adapters.items():
                    yield row.name, name, adapter

    # what must be refused

    def refuses_tenant(self, tenant: str) -> Refusal | None:
        return None if self.living(tenant) else errors.UnknownTenant

    def refuses_version(
        self, tenant: str, adapter: str, number: int | None, *, stale: bool
    ) -> Refusal | None:
        """What every call on an existing version is refused for. number: None names none."""
        if self.living(tenant) is None:
            return errors.UnknownTenant
        found = self.adapter(tenant, adapter)
        if found is None:
            return errors.UnknownAdapter
        if stale:
            return errors.StaleRevision
        if number is not None and number not in found.kept():
            return errors.UnknownVersion
        return None

    def refuses_promote(
        self, tenant: str, adapter: str, number: int, *, force: bool, stale: bool
    ) -> Refusal | None:
        if refusal := self.refuses_version(tenant, adapter, number, stale=stale):
            return refusal
        row, found = self.living(tenant), self.adapter(tenant, adapter)
        assert row is not None
        assert found is not None
        version = found.versions[number]
        passed = version.verdict is Verdict.PASSED
        allowed = (
            number != found.live
            and version.verdict is not Verdict.REJECTED
            and version.proof is not ProofState.INERT
            and (passed or (force and not row.require_pass))
        )
        return None if allowed else errors.IllegalMove

    def refuses_rollback(
        self, tenant: str, adapter: str, to: int | None, *, stale: bool
    ) -> Refusal | None:
        if refusal := self.refuses_version(tenant, adapter, None, stale=stale):
            return refusal
        found = self.adapter(tenant, adapter)
        assert found is not None
        if found.live is None:
            return errors.IllegalMove
        if to is None:
            return None if found.way_back() is not None else errors.IllegalMove
        if to not in found.kept():
            return errors.UnknownVersion
        return None if found.versions[to].state is RETIRED else errors.IllegalMove

    def refuses_delete(
        self, tenant: str, adapter: str, number: int, *, stale: bool
    ) -> Refusal | None:
        if refusal := self.refuses_version(tenant, adapter, number, stale=stale):
            return refusal
        found = self.adapter(tenant, adapter)
        assert found is not None
        return errors.IllegalMove if found.live == number else None

    def refuses_key(self, tenant: str, key_id: str, *, ended_too: bool) -> Refusal | None:
        row = self.living(tenant)
        if row is None:
            return errors.UnknownTenant
        if key_id not in row.keys or (ended_too and row.keys[key_id]):
            return errors.UnknownKey
        return None

    # tenants

    def bury(self, tenant: str, *, restorable: bool) -> None:
        row = self.living(tenant)
        assert row is not None
        row.deleted, row.restorable = True, restorable
        row.keys.clear()
        for adapter in row.adapters.values():
            adapter.revision += 1
        if restorable:
            self.buried.append(row)
        self.changes.append("tenant.delete")

    def to_restore(self, tenant: str) -> TenantModel | None:
        return next((row for row in reversed(self.buried) if row.name == tenant), None)

    def restore(self, row: TenantModel) -> None:
        for name, adapter in row.adapters.items():
            adapter.next_number, revision = self.furthest(row.name, name)
            adapter.revision = revision + 1
        row.deleted = row.restorable = False
        self.buried.remove(row)
        self.changes.append("tenant.restore")

    def purge(self) -> list[str]:
        due = [row for row in self.rows if row.deleted and not row.restorable and not row.purged]
        for row in due:
            row.purged = True
            for adapter in row.adapters.values():
                adapter.live = None
                adapter.revision += 1
                for version in adapter.versions.values():
                    version.state = DELETED
            self.changes.append("tenant.purge")
        return [row.name for row in due]

    def collect(self) -> tuple[list[str], set[str]]:
        """A garbage collection without a grace: the tenants purged, the digests removed."""
        purged = self.purge()
        removed = self.stored - self.digests()
        self.stored -= removed
        if removed:
            self.changes.append("artifacts.collect")
        return purged, removed
