"""A registry with something of everything in it, and what of it must come through a move."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from adapters_registry.base_model import BaseModelSpec
from adapters_registry.registry import Registry
from adapters_registry.types import (
    BaseIdentity,
    Evaluation,
    Lineage,
    Proof,
    ProofState,
    SamplingDefaults,
    Scope,
    ServingProfile,
    TenantPolicy,
    Verdict,
    Version,
)
from tests.adapters_for_tests import good_adapter, tiny_base

ADMIN = "admin"
BASE = tiny_base()
PASSED = Evaluation(verdict=Verdict.PASSED, report={"accuracy": 0.93, "of": ["é", None]})
REJECTED = Evaluation(verdict=Verdict.REJECTED)
PROVED = Proof(state=ProofState.PROVED, difference=0.2, noise=0.001, tokens=64, base="base")
PROFILE = ServingProfile(
    system_prompt="Sé breve.", sampling=SamplingDefaults(temperature=0.2), stop=("END",)
)
LINEAGE = Lineage(
    base=BaseIdentity(name="tiny", quantization="nf4"), dataset="d" * 64, recipe={"lr": 1e-4}
)


def push(
    registry: Registry,
    folder: Path,
    seed: int = 0,
    *,
    tenant: str = "acme",
    adapter: str = "support",
    base: BaseModelSpec = BASE,
    **said: Any,
) -> Version:
    """Pushes an adapter. Another seed, another content. said: lineage, evaluation, reason."""
    return registry.push(
        tenant,
        adapter,
        good_adapter(folder / f"adapter-{seed}", base, seed=seed),
        base=base,
        max_rank=16,
        profile=said.pop("profile", ServingProfile()),
        actor=said.pop("actor", ADMIN),
        **said,
    )


def fill(registry: Registry, folder: Path) -> str:
    """Tenants acme, globex and a deleted one, with keys; the text of a key of acme."""
    registry.create_tenant("acme", actor=ADMIN, reason="a customer")
    registry.set_policy("acme", TenantPolicy(allow_base=False), actor=ADMIN)
    _, text = registry.create_key(
        "acme",
        name="laptop",
        scopes=frozenset(Scope),
        actor=ADMIN,
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )
    for seed in (1, 2):
        push(registry, folder, seed, reason=f"attempt {seed}")
    push(registry, folder, 3, evaluation=PASSED, actor="key:00ff", profile=PROFILE)
    push(registry, folder, 1, lineage=LINEAGE.model_copy(update={"parent": 3}))
    registry.promote("acme", "support", 2, actor=ADMIN, force=True, reason="no time")
    registry.promote("acme", "support", 3, actor="key:00ff", reason="better")
    registry.record_proof("acme", "support", 3, PROVED, actor="gateway")
    registry.delete_version("acme", "support", 1, actor=ADMIN, reason="bad data")
    push(registry, folder, 5, adapter="sales", evaluation=REJECTED)
    registry.create_tenant("globex", actor=ADMIN)
    push(registry, folder, 6, tenant="globex")
    registry.create_tenant("gone", actor=ADMIN)
    push(registry, folder, 7, tenant="gone")
    registry.delete_tenant("gone", actor=ADMIN)
    return text
