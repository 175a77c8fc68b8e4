"""`GET /v1/models` as one tenant may see it; pure, from a snapshot in memory."""

from typing import Any

from adapters_registry.types import Snapshot, Tenant, Version
from gateway.resolve import resolve


def list_models(
    snapshot: Snapshot, tenant_name: str, base_name: str, started_at: int
) -> dict[str, Any]:
    """The tenant's adapters, their versions, and the base model where its policy allows it.

    started_at: the base model's `created`, Unix seconds.
    """
    tenant = snapshot.tenants.get(tenant_name)
    cards: list[dict[str, Any]] = []
    if tenant is not None:
        if tenant.policy.allow_base:
            cards.append(_base_card(base_name, started_at))
        for adapter in sorted(tenant.adapters.values(), key=lambda adapter: adapter.name):
            if adapter.live is not None:
                live = adapter.versions[adapter.live]
                cards.append(_card(adapter.name, live, tenant, base_name))
            cards += [
                _card(f"{adapter.name}@{number}", version, tenant, base_name)
                for number, version in sorted(adapter.versions.items())
            ]
    return {"object": "list", "data": cards}


def retrieve_model(
    snapshot: Snapshot, tenant_name: str, model: str, base_name: str, started_at: int
) -> dict[str, Any]:
    """One model under any name that a request may use for it. Raises NotFound or Forbidden."""
    target = resolve(snapshot, tenant_name, model, base_name)
    if target.version is None:
        return _base_card(base_name, started_at)
    return _card(model, target.version, target.tenant, base_name)


def _base_card(base_name: str, started_at: int) -> dict[str, Any]:
    return {"id": base_name, "object": "model", "created": started_at, "owned_by": "loraplex"}


def _card(name: str, version: Version, tenant: Tenant, base_name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(version.created_at.timestamp()),
        "owned_by": tenant.name,
        "parent": base_name,
        "version": version.label,
    }
