"""Thousands of adapters in a registry, made before the gateway starts; some of them are asked."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapters_registry.base_model import BaseModelSpec, load_spec
from adapters_registry.registry import Registry
from adapters_registry.types import Scope, ServingProfile
from benchmarks.sides.tiny_model import write_adapter, write_model
from gateway.config import load_settings

_ACTOR = "admin"
_RANK = 16


@dataclass(frozen=True)
class Active:
    """One adapter that gets traffic, and the key of its tenant."""

    tenant: str
    adapter: str
    key: str


@dataclass(frozen=True)
class Fleet:
    """What was registered."""

    tenants: int
    adapters: int
    """Of all tenants together; each has one live version."""
    seconds: float
    """How long it took."""
    model: Path
    active: list[Active]


def register(
    folder: Path, tenants: int, adapters_each: int, report: Callable[[int], None]
) -> Fleet:
    """Fill the registry in `folder`/data; each tenant's first adapter is to be asked.

    report: told after each tenant how many adapters there are.
    """
    model = write_model(folder / "model")
    base = load_spec(model, folder / "cache")
    settings = load_settings({"data_dir": folder / "data"})
    settings.data_dir.mkdir(parents=True)
    registry = Registry.open(settings.sqlalchemy_url, settings.artifacts_dir)
    began_s = time.perf_counter()
    active = []
    # The same files for all: they are stored once, and each push is a version of its own.
    files = write_adapter(folder / "adapter")
    try:
        for number in range(tenants):
            active.append(_tenant(registry, f"tenant-{number:04d}", adapters_each, files, base))
            report((number + 1) * adapters_each)
    finally:
        registry.close()
    seconds = time.perf_counter() - began_s
    return Fleet(tenants, tenants * adapters_each, seconds, model, active)


def _tenant(
    registry: Registry, tenant: str, adapters: int, files: Path, base: BaseModelSpec
) -> Active:
    registry.create_tenant(tenant, actor=_ACTOR)
    scopes = frozenset({Scope.INFERENCE})
    _, key = registry.create_key(tenant, name="bench", scopes=scopes, actor=_ACTOR)
    for number in range(adapters):
        name = f"adapter-{number:03d}"
        profile = ServingProfile()
        version = registry.push(
            tenant, name, files, base=base, max_rank=_RANK, profile=profile, actor=_ACTOR
        )
        registry.promote(tenant, name, version.number, actor=_ACTOR, force=True)
    return Active(tenant, "adapter-000", key)
