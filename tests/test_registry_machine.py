"""Any life that two tenants, their adapters and keys can have, compared with a model of it.

The steps: tenants made, deleted, restored, purged; policies; keys made, rotated, revoked; versions
pushed (with a verdict or without), judged, proved, promoted, rolled back, deleted, the same
content more than once; calls on an old revision; garbage collected; the registry closed and opened
again; crashes, where it goes on with a copy of its files that was taken while it was open, beside
what a push cut off in the middle leaves. After every step, whatever it was, these hold:

1.  A call succeeds where the model says so, and is refused as the model says otherwise. What was
    refused has changed nothing.
2.  The registry's revision counts the changes, each exactly once, and the audit has one row for
    each, in order.
3.  An adapter's revision counts its moves, each exactly once (a proof is none), and goes on past
    every tenant that had the name before: no state of it has a revision of another.
4.  The history has one row for each move, in order, with where it went from and to, and whether it
    was forced. It comes back with a restored tenant.
5.  At most one version of an adapter is live, it is the one that its pointer names, and no
    version is live that was judged rejected, found inert, or not passed where the tenant's policy
    required it, at the moment it was promoted.
6.  A rollback goes where the model says: to the version named, else one step back on the trail of
    what was live.
7.  A number is never given twice under one name, not to a tenant made anew and not to one that was
    restored. What a version is never changes: its digest, its files, its size.
8.  A deleted version is unknown. A snapshot shows nothing deleted: no version, no tenant, no key.
    One that was brought up to date is the same as one read anew.
9.  A deleted tenant's keys are dead for good; the rest of it can be restored until it is purged,
    latest deletion first.
10. The files of every version that can be asked for, or can come back, hash to its digest; after a
    garbage collection there are no others.

A longer run by hand: `python -m tests.test_registry_machine EXAMPLES [STEPS]`.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from adapters_registry.errors import AlreadyExists, UnknownTenant, UnknownVersion
from adapters_registry.registry import Registry
from adapters_registry.types import (
    Evaluation,
    Proof,
    ProofState,
    Scope,
    ServingProfile,
    TenantPolicy,
    Verdict,
    VersionState,
)
from tests.adapters_for_tests import good_adapter, tiny_base
from tests.registry_model import AdapterModel, Refusal, RegistryModel, TenantModel, VersionModel

BASE = tiny_base()
ACTOR = "admin"
CONTENTS = 3
EXAMPLES, STEPS = 50, 40
DAY = timedelta(days=1)

tenants = st.sampled_from(["acme", "globex"])
adapters = st.sampled_from(["support", "sales"])
numbers = st.integers(1, 5)
verdicts = st.sampled_from(Verdict)
proofs = st.sampled_from([ProofState.PROVED, ProofState.INERT])
stale = st.sampled_from([False, False, False, True])
picks = st.integers(0, 7)


class RegistryMachine(RuleBasedStateMachine):
    """A registry on SQLite, and its model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="loraplex-machine-"))
        self.home = self.folder / "home"
        self.contents = [
            good_adapter(self.folder / f"in{seed}", BASE, seed=seed) for seed in range(CONTENTS)
        ]
        self.registry = self._open()
        self.model = RegistryModel()
        self.dead_keys: set[str] = set()
        self.seen = self.registry.snapshot()

    def teardown(self) -> None:
        self.registry.close()
        shutil.rmtree(self.folder)

    def _open(self) -> Registry:
        return Registry.open(f"sqlite:///{self.home}/registry.db", self.home / "artifacts")

    def _call(
        self, refusal: Refusal | None, call: Callable[..., Any], *args: Any, **kw: Any
    ) -> Any:
        """The answer of a call that must succeed, or None of one that must be refused."""
        if refusal is None:
            return call(*args, actor=ACTOR, **kw)
        with pytest.raises(refusal):
            call(*args, actor=ACTOR, **kw)
        return None

    def _if_match(self, tenant: str, adapter: str, stale: bool) -> dict[str, int]:
        found = self.model.adapter(tenant, adapter)
        return {"if_match": found.revision - 1 if stale else found.revision} if found else {}

    def _found(self, tenant: str, adapter: str) -> AdapterModel:
        found = self.model.adapter(tenant, adapter)
        assert found is not None
        return found

    # tenants

    @initialize()
    def begin(self) -> None:
        for name in ("acme", "globex"):
            self.create_tenant(name)

    @rule(name=tenants)
    def create_tenant(self, name: str) -> None:
        exists = self.model.living(name) is not None
        self._call(AlreadyExists if exists else None, self.registry.create_tenant, name)
        if not exists:
            self.model.rows.append(TenantModel(name))
            self.model.changes.append("tenant.create")

    @rule(name=tenants, require_pass=st.booleans())
    def set_policy(self, name: str, require_pass: bool) -> None:
        refusal = self.model.refuses_tenant(name)
        policy = TenantPolicy(require_pass=require_pass)
        self._call(refusal, self.registry.set_policy, name, policy)
        if row := self.model.living(name):
            row.require_pass = require_pass
            self.model.changes.append("tenant.policy")

    @rule(name=tenants, restorable=st.booleans())
    def delete_tenant(self, name: str, restorable: bool) -> None:
        refusal, undo_time = self.model.refuses_tenant(name), DAY if restorable else timedelta(0)
        self._call(refusal, self.registry.delete_tenant, name, undo_time=undo_time)
        if row := self.model.living(name):
            self.dead_keys |= set(row.keys)
            self.model.bury(name, restorable=restorable)

    @rule(name=tenants)
    def restore_tenant(self, name: str) -> None:
        row = self.model.to_restore(name)
        if self.model.living(name):
            self._call(AlreadyExists, self.registry.restore_tenant, name)
        elif row is None:
            self._call(UnknownTenant, self.registry.restore_tenant, name)
        else:
            self._call(None, self.registry.restore_tenant, name)
            self.model.restore(row)

    @rule()
    def purge_tenants(self) -> None:
        assert self.registry.purge_tenants(actor=ACTOR) == self.model.purge()

    # keys

    def _key(self, tenant: str, pick: int) -> str:
        """One of all the keys there ever were, by chance."""
        known = sorted({key for row in self.model.rows for key in row.keys} | self.dead_keys)
        return known[pick % len(known)] if known else "0" * 16

    @rule(name=tenants)
    def create_key(self, name: str) -> None:
        wishes = {"name": "k", "scopes": frozenset(Scope)}
        made = self._call(self.model.refuses_tenant(name), self.registry.create_key, name, **wishes)
        if row := self.model.living(name):
            row.keys[made[0].id] = False
            self.model.changes.append("key.create")

    @rule(name=tenants, pick=picks, at_once=st.booleans())
    def rotate_key(self, name: str, pick: int, at_once: bool) -> None:
        key_id = self._key(name, pick)
        refusal = self.model.refuses_key(name, key_id, ended_too=True)
        overlap = timedelta(0) if at_once else DAY
        made = self._call(refusal, self.registry.rotate_key, name, key_id, overlap=overlap)
        if refusal is None:
            row = self.model.living(name)
            assert row is not None
            row.keys |= {key_id: at_once, made[0].id: False}
            self.model.changes.append("key.rotate")

    @rule(name=tenants, pick=picks)
    def revoke_key(self, name: str, pick: int) -> None:
        key_id = self._key(name, pick)
        refusal = self.model.refuses_key(name, key_id, ended_too=False)
        self._call(refusal, self.registry.revoke_key, name, key_id)
        if refusal is None:
            row = self.model.living(name)
            assert row is not None
            del row.keys[key_id]
            self.dead_keys.add(key_id)
            self.model.changes.append("key.revoke")

    # versions

    @rule(
        tenant=tenants,
        adapter=adapters,
        content=st.integers(0, CONTENTS - 1),
        verdict=st.none() | verdicts,
    )
    def push(self, tenant: str, adapter: str, content: int, verdict: Verdict | None) -> None:
        made = self._call(
            self.model.refuses_tenant(tenant),
            self.registry.push,
            tenant,
            adapter,
            self.contents[content],
            base=BASE,
            max_rank=16,
            profile=ServingProfile(),
            evaluation=verdict and Evaluation(verdict=verdict),
        )
        row = self.model.living(tenant)
        if row is None:
            return
        if adapter not in row.adapters:
            number, revision = self.model.furthest(tenant, adapter)
            row.adapters[adapter] = AdapterModel(revision, number)
        found = row.adapters[adapter]
        number, found.next_number = found.next_number, found.next_number + 1
        assert made.number == number
        self.model.stored.add(made.digest)
        state = VersionState(verdict) if verdict else VersionState.CANDIDATE
        found.versions[number] = VersionModel(made.digest, state, verdict)
        found.move("push", None, number, False)
        self.model.changes.append("version.push")

    @rule(tenant=tenants, adapter=adapters, number=numbers, verdict=verdicts, stale=stale)
    def evaluate(
        self, tenant: str, adapter: str, number: int, verdict: Verdict, stale: bool
    ) -> None:
        refusal = self.model.refuses_version(tenant, adapter, number, stale=stale)
        evaluation, match = Evaluation(verdict=verdict), self._if_match(tenant, adapter, stale)
        self._call(refusal, self.registry.evaluate, tenant, adapter, number, evaluation, **match)
        if refusal is None:
            found = self._found(tenant, adapter)
            found.judge(number, verdict)
            found.move(str(verdict), None, number, False)
            self.model.changes.append("version.evaluate")

    @rule(tenant=tenants, adapter=adapters, number=numbers, state=proofs)
    def prove(self, tenant: str, adapter: str, number: int, state: ProofState) -> None:
        refusal = self.model.refuses_version(tenant, adapter, number, stale=False)
        proof = Proof(state=state, difference=0.5, noise=0.01, tokens=8, base="base")
        self._call(refusal, self.registry.record_proof, tenant, adapter, number, proof)
        if refusal is None:
            found = self._found(tenant, adapter)
            found.versions[number].proof = state
            found.note(str(state), None, number, False)
            self.model.changes.append("version.prove")

    @rule(tenant=tenants, adapter=adapters, number=numbers, force=st.booleans(), stale=stale)
    def promote(self, tenant: str, adapter: str, number: int, force: bool, stale: bool) -> None:
        refusal = self.model.refuses_promote(tenant, adapter, number, force=force, stale=stale)
        wishes: dict[str, Any] = {"force": force, **self._if_match(tenant, adapter, stale)}
        self._call(refusal, self.registry.promote, tenant, adapter, number, **wishes)
        if refusal is None:
            self._found(tenant, adapter).go_live("promote", number, force)
            self.model.changes.append("version.promote")

    @rule(tenant=tenants, adapter=adapters, to=st.none() | numbers, stale=stale)
    def roll_back(self, tenant: str, adapter: str, to: int | None, stale: bool) -> None:
        refusal = self.model.refuses_rollback(tenant, adapter, to, stale=stale)
        match = self._if_match(tenant, adapter, stale)
        moved = self._call(refusal, self.registry.rollback, tenant, adapter, to=to, **match)
        if refusal is None:
            found = self._found(tenant, adapter)
            target = found.way_back() if to is None else to
            assert moved.live == target
            assert target is not None
            found.go_live("rollback", target, False)
            self.model.changes.append("version.rollback")

    @rule(tenant=tenants, adapter=adapters, number=numbers, stale=stale)
    def delete_version(self, tenant: str, adapter: str, number: int, stale: bool) -> None:
        refusal = self.model.refuses_delete(tenant, adapter, number, stale=stale)
        match = self._if_match(tenant, adapter, stale)
        self._call(refusal, self.registry.delete_version, tenant, adapter, number, **match)
        if refusal is None:
            found = self._found(tenant, adapter)
            found.versions[number].state = VersionState.DELETED
            found.move("delete", number, None, False)
            self.model.changes.append("version.delete")

    # order and faults

    @rule()
    def collect_garbage(self) -> None:
        done = self.registry.collect_garbage(grace=timedelta(0), actor=ACTOR)
        purged, removed = self.model.collect()
        assert (list(done.purged), set(done.removed)) == (purged, removed)
        stored = {content.digest for content in self.registry.artifacts.contents()}
        assert stored == self.model.stored == self.model.digests()
        assert self.registry.verify_artifacts().damaged == ()

    @rule()
    def restart(self) -> None:
        self.registry.close()
        self.registry = self._open()

    @rule(content=st.integers(0, CONTENTS - 1))
    def crash(self, content: int) -> None:
        """In the middle of a push: its files are stored, or half of them, and no version of it."""
        self.model.stored.add(self.registry.artifacts.put(self.contents[content]).digest)
        after = self.folder / "after"
        shutil.copytree(self.home, after)
        half = after / "artifacts" / "tmp" / "half"
        half.mkdir(mode=0o700, exist_ok=True)
        (half / "adapter_config.json").write_bytes(b"{")
        self.registry.close()
        shutil.rmtree(self.home)
        after.rename(self.home)
        self.registry = self._open()

    # what must hold

    @invariant()
    def the_registry_is_as_the_model(self) -> None:
        snapshot, model = self.registry.snapshot(), self.model
        assert snapshot.revision == self.registry.revision() == len(model.changes)
        self.seen = self.registry.snapshot(self.seen)
        assert self.seen == snapshot
        audit = self.registry.audit(limit=1000)[::-1]
        assert [entry.action for entry in audit] == model.changes
        living = {row.name: row for row in model.rows if not row.deleted}
        assert snapshot.tenants.keys() == living.keys()
        keys = {key for row in living.values() for key in row.keys}
        assert snapshot.keys.keys() == keys
        assert not keys & self.dead_keys
        for name, row in living.items():
            tenant = snapshot.tenants[name]
            assert tenant.policy.require_pass == row.require_pass
            assert tenant.adapters.keys() == row.adapters.keys()
            assert {key.id for key in self.registry.keys(name)} == row.keys.keys()
        restorable = [tenant.name for tenant in self.registry.deleted_tenants()]
        assert restorable == [row.name for row in model.buried[::-1]]

    @invariant()
    def each_adapter_is_as_its_model(self) -> None:
        snapshot = self.registry.snapshot()
        for tenant, name, model in self.model.adapters():
            adapter = snapshot.tenants[tenant].adapters[name]
            assert (adapter.live, adapter.revision) == (model.live, model.revision)
            found = {
                number: VersionModel(each.digest, each.state, each.verdict, each.proof)
                for number, each in adapter.versions.items()
            }
            assert found == model.kept()
            live = [number for number, each in found.items() if each.state is VersionState.LIVE]
            assert live == ([] if adapter.live is None else [adapter.live])
            history = [
                (entry.action, entry.from_version, entry.to_version, entry.forced)
                for entry in self.registry.history(tenant, name)[::-1]
            ]
            assert history == model.history
            for number in model.versions.keys() - found.keys():
                with pytest.raises(UnknownVersion):
                    self.registry.version(tenant, name, number)

    @invariant()
    def every_version_has_its_files(self) -> None:
        for digest in self.model.digests():
            path = self.registry.artifacts.verify(digest)
            assert path == self.registry.artifacts.path_of(digest)


def _settings(examples: int, steps: int, *, by_chance: bool) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=not by_chance,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def test_no_life_of_a_registry_breaks_an_invariant() -> None:
    run_state_machine_as_test(RegistryMachine, settings=_settings(EXAMPLES, STEPS, by_chance=False))


if __name__ == "__main__":
    wanted = [int(word) for word in sys.argv[1:]] or [1000]
    run_state_machine_as_test(
        RegistryMachine,
        settings=_settings(wanted[0], [*wanted, STEPS][1], by_chance=True),
    )
