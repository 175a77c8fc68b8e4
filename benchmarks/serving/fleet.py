"""Tenants with an adapter each, written into the registry that a running gateway follows."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from adapters_registry.base_model import BaseModelSpec, load_spec
from adapters_registry.embedded import ensure_embedded
from adapters_registry.registry import Registry
from adapters_registry.types import Proof, ProofState, Scope, ServingProfile
from benchmarks.serving.made import make_adapter
from benchmarks.serving.vllm import BASE, CACHE
from gateway.config import load_settings

ADAPTER = "support"
_ACTOR = "admin"
_PROOF = Proof(
    state=ProofState.PROVED, difference=1.0, noise=0.0, tokens=0, base=BASE, reason="a benchmark's"
)


@dataclass(frozen=True)
class Member:
    """A tenant with one live adapter of its own."""

    tenant: str
    key: str
    path: Path
    """The stored adapter's folder, which engines read."""
    rank: int


class Fleet:
    """Grows on demand; `with` closes the registry."""

    def __init__(self, folder: Path, data_dir: Path) -> None:
        self._folder = folder
        data_dir.mkdir(parents=True, exist_ok=True)
        settings = load_settings({"data_dir": data_dir})
        self.base: BaseModelSpec = load_spec(ensure_embedded(CACHE), CACHE)
        self._registry = Registry.open(settings.sqlalchemy_url, settings.artifacts_dir)
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._registry.close()

    def grow(self, count: int, *, rank: int) -> float:
        """Adds tenants until there are `count`; the seconds that the registry took, without the
        making of weights. The versions go live by force and are noted as proved, though no engine
        was asked: the gateway would load and prove them one by one beside what is measured.
        """
        seconds = 0.0
        while len(self.members) < count:
            number = len(self.members)
            made = make_adapter(self._folder / "made", self.base, rank=rank, seed=number)
            began_s = time.perf_counter()
            self.members.append(self._register(f"tenant-{number:04d}", made, rank))
            seconds += time.perf_counter() - began_s
            shutil.rmtree(made)
        return seconds

    def _register(self, tenant: str, made: Path, rank: int) -> Member:
        registry, scopes = self._registry, frozenset({Scope.INFERENCE})
        registry.create_tenant(tenant, actor=_ACTOR)
        _, key = registry.create_key(tenant, name="bench", scopes=scopes, actor=_ACTOR)
        version = registry.push(
            tenant,
            ADAPTER,
            made,
            base=self.base,
            max_rank=rank,
            profile=ServingProfile(),
            actor=_ACTOR,
        )
        registry.record_proof(tenant, ADAPTER, version.number, _PROOF, actor=_ACTOR)
        registry.promote(tenant, ADAPTER, version.number, actor=_ACTOR, force=True)
        return Member(tenant, key, version.path, rank)
