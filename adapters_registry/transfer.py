"""One tenant from an installation to another: its archive out, and in again as a new tenant."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Connection, CursorResult, insert, select

from adapters_registry import archived_artifacts
from adapters_registry.archive import Kind, OutgoingArchive, Part, ReadArchive, document, refuse
from adapters_registry.artifacts import StoredArtifact
from adapters_registry.base_model import BaseModelSpec
from adapters_registry.calls import Calls
from adapters_registry.change import Change, find_living, find_tenant, furthest
from adapters_registry.checks import check_name, check_reason
from adapters_registry.errors import AlreadyExists, InvalidAdapter
from adapters_registry.lineage import differences
from adapters_registry.manifest import Manifest, check_adapter
from adapters_registry.tables import adapters, history, tenants, versions
from adapters_registry.tenant_archive import (
    TENANT_FILE,
    AdapterForm,
    MoveForm,
    TenantForm,
    VersionForm,
    adapter_file,
    most_bytes,
    read_tenant,
)
from adapters_registry.types import Tenant


class Transfer(Calls):
    """Tenants travel whole, without their keys."""

    def export_tenant(self, name: str) -> OutgoingArchive:
        """The archive of a tenant as it is at this moment, whatever changes while it is read.

        Raises UnknownTenant.
        """
        with self._database.read() as connection:
            found = find_tenant(connection, name)
            forms = _read_forms(connection, found.id)
        living = [version for form in forms for version in form.versions if version.lives]
        tenant = TenantForm(name=name, policy=found.policy)
        parts = [_document(TENANT_FILE, tenant)]
        parts += [_document(adapter_file(form.name), form) for form in forms]
        parts += archived_artifacts.parts(
            self.artifacts, {version.digest: version.files for version in living}
        )
        return OutgoingArchive(
            Kind.TENANT, parts, {"adapters": len(forms), "versions": len(living)}
        )

    def import_tenant(
        self,
        file: BinaryIO,
        *,
        name: str | None = None,
        base: BaseModelSpec,
        base_name: str,
        max_rank: int,
        max_weights_bytes: int,
        work_dir: Path,
        actor: str,
        reason: str | None = None,
    ) -> Tenant:
        """Makes a tenant of an archive: numbers, states and histories as they were, no keys.

        name: the new tenant's, else the old one's. base_name: what no adapter may be called.
        work_dir: takes one adapter's files at a time. Every version is checked as in a push, and
        all of them before anything is stored; then all rows are written at once. Files stored for
        a tenant that could not be written after all wait for a garbage collection.
        Raises InvalidArchive, InvalidName, InvalidAdapter, AlreadyExists.
        """
        check_reason(reason)
        archive = ReadArchive(file, Kind.TENANT, lambda each: most_bytes(each, max_weights_bytes))
        tenant, forms = read_tenant(archive)
        name = name or tenant.name
        check_name(name, "name", "a tenant's")
        _check_base_name(name, forms, base_name)
        with self._database.read() as connection:  # before gigabytes are checked
            _check_free(connection, name)
        owners = _owners(forms)
        archived_artifacts.check_digests(archive, set(owners))
        manifests = {
            digest: _check(archive, digest, owner, base, max_rank, work_dir)
            for digest, owner in owners.items()
        }

        def store() -> list[StoredArtifact]:
            return [
                archived_artifacts.keep(archive, digest, self.artifacts, work_dir)
                for digest in owners
            ]

        with self._change_with_all(store, actor) as (change, stored):
            _check_free(change.connection, name)
            tenant_id = _write_tenant(change, name, tenant)
            found = {each.digest: (manifests[each.digest], each) for each in stored}
            for form in forms:
                rows = [_version_row(version, found, base) for version in form.versions]
                _write_adapter(change, tenant_id, name, form, rows)
            change.audit(
                "tenant.import",
                name,
                name,
                archived_as=tenant.name,
                adapters=len(forms),
                contents=len(owners),
                reason=reason,
            )
            return self._tenant(change.connection, name)


def _read_forms(connection: Connection, tenant_id: int) -> list[AdapterForm]:
    owned = select(adapters.c.id).where(adapters.c.tenant_id == tenant_id)
    numbered: dict[int, list[VersionForm]] = defaultdict(list)
    query = select(versions).where(versions.c.adapter_id.in_(owned)).order_by(versions.c.number)
    for row in connection.execute(query):
        numbered[row.adapter_id].append(VersionForm(**_without(row._asdict(), "adapter_id")))
    moved: dict[int, list[MoveForm]] = defaultdict(list)
    past = select(history).where(history.c.adapter_id.in_(owned)).order_by(history.c.id)
    for row in connection.execute(past):
        moved[row.adapter_id].append(MoveForm(**_without(row._asdict(), "id", "adapter_id")))
    return [
        AdapterForm(
            name=row.name,
            revision=row.revision,
            live=row.live,
            next_number=row.next_number,
            versions=tuple(numbered[row.id]),
            history=tuple(moved[row.id]),
        )
        for row in connection.execute(
            select(adapters).where(adapters.c.tenant_id == tenant_id).order_by(adapters.c.name)
        )
    ]


def _without(mapping: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name not in names}


def _document(name: str, form: TenantForm | AdapterForm) -> Part:
    return document(name, form.model_dump_json(indent=1).encode())


def _owners(forms: Iterable[AdapterForm]) -> dict[str, str]:
    """Each content that must be there, and a version that has it, as `adapter@N`."""
    return {
        version.digest: f"{form.name}@{version.number}"
        for form in forms
        for version in form.versions
        if version.lives
    }


def _check_base_name(tenant: str, forms: Iterable[AdapterForm], base_name: str) -> None:
    for form in forms:
        if base_name in (form.name, f"{tenant}/{form.name}"):
            raise refuse(f"its adapter {form.name} has the name of the base model here")


def _check_free(connection: Connection, name: str) -> None:
    if find_living(connection, name) is not None:
        raise AlreadyExists(
            f"tenant {name!r} exists already: import it under another name", field="name"
        )


def _check(
    archive: ReadArchive,
    digest: str,
    owner: str,
    base: BaseModelSpec,
    max_rank: int,
    work_dir: Path,
) -> Manifest:
    """As a push checks it."""
    with archived_artifacts.unpacked(archive, digest, work_dir) as folder:
        try:
            return check_adapter(folder, base, max_rank)
        except InvalidAdapter as error:
            raise InvalidAdapter(f"{owner}: {error.message}", field=error.field) from None


def _version_row(
    version: VersionForm,
    found: Mapping[str, tuple[Manifest, StoredArtifact]],
    base: BaseModelSpec,
) -> dict[str, Any]:
    """What was said of it as it came, what its files show as they were found here."""
    row = version.model_dump(mode="json") | {
        "profile": version.profile.model_dump(mode="json", exclude_defaults=True),
        "lineage": version.lineage.model_dump(mode="json", exclude_defaults=True),
        "created_at": version.created_at,
        "deleted_at": version.deleted_at,
    }
    if version.lives:
        manifest, stored = found[version.digest]
        row |= {
            "rank": manifest.rank,
            "size_bytes": stored.size_bytes,
            "warnings": [*manifest.warnings, *differences(version.lineage, base)],
            "summary": manifest.summary(),
            "files": dict(stored.files),
        }
    return row


def _write_tenant(change: Change, name: str, tenant: TenantForm) -> Any:
    """Its id."""
    policy = tenant.policy.model_dump(mode="json")
    made = change.connection.execute(
        insert(tenants).values(name=name, policy=policy, created_at=change.at)
    )
    return _made_id(made)


def _write_adapter(
    change: Change, tenant_id: Any, tenant: str, form: AdapterForm, rows: list[dict[str, Any]]
) -> None:
    """Numbers go on where an earlier tenant of the same name left off, as in a push."""
    connection = change.connection
    next_number, revision = _check_earlier(connection, tenant, form)
    made = connection.execute(
        insert(adapters).values(
            tenant_id=tenant_id,
            name=form.name,
            revision=revision,
            live=form.live,
            next_number=next_number,
        )
    )
    adapter_id = _made_id(made)
    if rows:
        connection.execute(insert(versions), [row | {"adapter_id": adapter_id} for row in rows])
    if form.history:
        connection.execute(
            insert(history), [dict(move) | {"adapter_id": adapter_id} for move in form.history]
        )


def _made_id(made: CursorResult[Any]) -> Any:
    assert made.inserted_primary_key is not None
    return made.inserted_primary_key[0]


def _check_earlier(connection: Connection, tenant: str, form: AdapterForm) -> tuple[int, int]:
    """The next number and the revision. Raises AlreadyExists.

    A number is never used twice: what an earlier tenant of this name called so must be the same.
    """
    joined = adapters.join(tenants, adapters.c.tenant_id == tenants.c.id)
    same = (tenants.c.name == tenant) & (adapters.c.name == form.name)
    used = connection.execute(
        select(versions.c.number, versions.c.digest)
        .select_from(joined.join(versions, versions.c.adapter_id == adapters.c.id))
        .where(same)
    )
    digests = {version.number: version.digest for version in form.versions}
    for row in used:
        if digests.get(row.number, row.digest) != row.digest:
            raise AlreadyExists(
                f"an earlier tenant {tenant!r} had another {form.name}@{row.number}: import it"
                " under another name",
                field="name",
            )
    number, earlier = furthest(connection, tenant, form.name)
    return max(form.next_number, number), max(form.revision, earlier + 1 if earlier else 0)
