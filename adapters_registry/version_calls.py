"""The registry's calls on adapters and their versions: from candidate to live, and back."""

from pathlib import Path
from typing import Any

from sqlalchemy import insert, update

from adapters_registry import moves, rows
from adapters_registry.artifacts import StoredArtifact
from adapters_registry.base_model import BaseModelSpec
from adapters_registry.calls import Calls
from adapters_registry.change import Change, find_or_make_adapter, find_tenant
from adapters_registry.checks import check_name, check_profile, check_reason
from adapters_registry.errors import UnknownVersion
from adapters_registry.lineage import check_parent, completed, differences
from adapters_registry.manifest import Manifest, check_adapter
from adapters_registry.tables import adapters, versions
from adapters_registry.types import (
    Adapter,
    Evaluation,
    Lineage,
    Proof,
    ServingProfile,
    TenantPolicy,
    Verdict,
    Version,
    VersionRecord,
    VersionState,
)


class VersionCalls(Calls):
    """What a version is never changes; what is known and thought of it does."""

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
        lineage: Lineage | None = None,
        evaluation: Evaluation | None = None,
        reason: str | None = None,
    ) -> Version:
        """Checks the adapter in `folder`, stores its files and makes a version of it.

        It is a candidate, or what its evaluation says. The adapter is made with its first version.
        The same content pushed again is stored once and is a new version. `folder` stays the
        caller's. A refused adapter stores nothing; files stored for a version that could not be
        written after all wait for a garbage collection.
        Raises InvalidName, InvalidProfile, InvalidAdapter, UnknownTenant, UnknownVersion (the
        lineage's parent).
        """
        check_name(adapter, "adapter", "an adapter's")
        check_profile(profile)
        check_reason(reason)
        with self._database.read() as connection:  # before gigabytes are read
            find_tenant(connection, tenant)
        manifest = check_adapter(folder, base, max_rank)
        lineage = completed(lineage or Lineage(), folder)
        with self._change_with(folder, actor) as (change, stored):
            found = find_tenant(change.connection, tenant)
            row = find_or_make_adapter(change.connection, found, adapter)
            number = row.next_number
            check_parent(lineage, rows.read_states(change.connection, row.id))
            change.connection.execute(
                insert(versions).values(
                    adapter_id=row.id,
                    number=number,
                    created_at=change.at,
                    created_by=actor,
                    profile=profile.model_dump(mode="json", exclude_defaults=True),
                    lineage=lineage.model_dump(mode="json", exclude_defaults=True),
                    **_described(manifest, stored, differences(lineage, base)),
                    **_judged(evaluation),
                )
            )
            change.connection.execute(
                update(adapters).where(adapters.c.id == row.id).values(next_number=number + 1)
            )
            change.moved(row, "push", None, number, reason, False)
            change.audit(
                "version.push", tenant, f"{adapter}@{number}", digest=stored.digest, reason=reason
            )
            return self._adapter(change.connection, row.id).versions[number]

    def version(self, tenant: str, adapter: str, number: int) -> VersionRecord:
        """All that is kept of a version. Raises UnknownTenant, UnknownAdapter, UnknownVersion."""
        with self._database.read() as connection:
            row = self._adapter_row(connection, tenant, adapter)
            found = rows.read_version(connection, self.artifacts, row.id, number)
            if found is None:
                raise UnknownVersion(f"version {number} does not exist", field="version")
            return found

    def evaluate(
        self,
        tenant: str,
        adapter: str,
        version: int,
        evaluation: Evaluation,
        *,
        actor: str,
        reason: str | None = None,
        if_match: int | None = None,
    ) -> Version:
        """Keeps a verdict, which takes the place of an earlier one.

        A version that was never live becomes passed or rejected; one that is or was live stays so.
        Raises UnknownTenant, UnknownAdapter, UnknownVersion, StaleRevision.
        """
        check_reason(reason)
        with self._change(actor) as change:
            row = self._adapter_row(change.connection, tenant, adapter)
            moves.check_revision(row.revision, if_match)
            states = rows.read_states(change.connection, row.id)
            moves.check_exists(states, version)
            judged = _judged(evaluation)
            if states[version] in (VersionState.LIVE, VersionState.RETIRED):
                del judged["state"]
            _set(change, row.id, version, **judged)
            change.moved(row, str(evaluation.verdict), None, version, reason, False)
            change.audit(
                "version.evaluate",
                tenant,
                f"{adapter}@{version}",
                verdict=evaluation.verdict,
                reason=reason,
            )
            return self._adapter(change.connection, row.id).versions[version]

    def record_proof(
        self, tenant: str, adapter: str, version: int, proof: Proof, *, actor: str
    ) -> Version:
        """Keeps what an engine was seen to do with the version.

        The adapter's revision stays: a proof is nobody's decision, and comes when an engine is
        free, so who decided on that revision before it need not decide anew.
        Raises UnknownTenant, UnknownAdapter, UnknownVersion.
        """
        with self._change(actor) as change:
            row = self._adapter_row(change.connection, tenant, adapter)
            moves.check_exists(rows.read_states(change.connection, row.id), version)
            kept = proof.model_dump(mode="json")
            _set(change, row.id, version, proof_state=proof.state, proof=kept)
            change.noted(row, str(proof.state), None, version, proof.reason, False)
            change.audit("version.prove", tenant, f"{adapter}@{version}", **kept)
            return self._adapter(change.connection, row.id).versions[version]

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
        adapter's revision), IllegalMove (it is live already, rejected, inert, or has no passed
        evaluation and this is not forced, or the tenant's policy requires one). `force` is kept in
        the history.
        """
        check_reason(reason)
        with self._change(actor) as change:
            found = find_tenant(change.connection, tenant)
            row = self._adapter_row(change.connection, tenant, adapter)
            moves.check_revision(row.revision, if_match)
            moves.check_promote(
                rows.read_standings(change.connection, row.id),
                version,
                force=force,
                require_pass=TenantPolicy.model_validate(found.policy).require_pass,
            )
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

    def delete_version(
        self,
        tenant: str,
        adapter: str,
        version: int,
        *,
        actor: str,
        reason: str | None = None,
        if_match: int | None = None,
    ) -> None:
        """Deletes a version that is not live. Its number is never used again.

        The files stay: an engine may still read them, another version may share them. A later
        garbage collection removes what no version uses.
        Raises UnknownTenant, UnknownAdapter, UnknownVersion, StaleRevision, IllegalMove.
        """
        check_reason(reason)
        with self._change(actor) as change:
            row = self._adapter_row(change.connection, tenant, adapter)
            moves.check_revision(row.revision, if_match)
            moves.check_delete(rows.read_states(change.connection, row.id), version)
            _set(change, row.id, version, state=VersionState.DELETED, deleted_at=change.at)
            change.moved(row, "delete", version, None, reason, False)
            change.audit("version.delete", tenant, f"{adapter}@{version}", reason=reason)


def _set(change: Change, adapter_id: int, version: int, **values: Any) -> None:
    change.connection.execute(
        update(versions)
        .where(versions.c.adapter_id == adapter_id, versions.c.number == version)
        .values(**values)
    )


def _described(
    manifest: Manifest, stored: StoredArtifact, differences: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "digest": stored.digest,
        "rank": manifest.rank,
        "size_bytes": stored.size_bytes,
        "warnings": [*manifest.warnings, *differences],
        "summary": manifest.summary(),
        "files": dict(stored.files),
        "proof_state": "unproved",
    }


def _judged(evaluation: Evaluation | None) -> dict[str, Any]:
    if evaluation is None:
        return {"state": VersionState.CANDIDATE}
    passed = evaluation.verdict is Verdict.PASSED
    return {
        "state": VersionState.PASSED if passed else VersionState.REJECTED,
        "verdict": evaluation.verdict,
        "evaluation": evaluation.model_dump(mode="json"),
    }
