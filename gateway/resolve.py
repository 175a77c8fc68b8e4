"""From the `model` of a request to what answers it; pure, from a snapshot in memory.

Another tenant's adapter and one that does not exist give the same error, word for word.
"""

import re
from dataclasses import dataclass

from adapters_registry.types import Snapshot, Tenant, Version
from gateway.errors import Forbidden, NotFound
from gateway.metrics import BASE_ADAPTER, Subject

_MODEL = re.compile(
    r"(?:(?P<tenant>[a-z0-9-]{1,63})/)?(?P<adapter>[a-z0-9-]{1,63})"
    r"(?:@(?P<number>[1-9][0-9]{0,8})(?::(?P<digest>[0-9a-f]{12}))?)?"
)


@dataclass(frozen=True, slots=True)
class Target:
    """What answers a request: one version of an adapter, or the base model."""

    tenant: Tenant
    version: Version | None
    """None: the base model."""
    engine_name: str
    label: str
    """The value of `x-loraplex-version`."""
    subject: Subject
    """The metrics' labels."""


def resolve(snapshot: Snapshot, tenant_name: str, model: str, base_name: str) -> Target:
    """What the tenant means by `model`.

    `ADAPTER` is its live version, `ADAPTER@N` and the name an answer carried are that version, the
    base model's served name is the base. Raises NotFound, or Forbidden where the policy bars it.
    """
    tenant = snapshot.tenants.get(tenant_name)
    if tenant is None:
        raise missing(model)
    if model == base_name:
        if not tenant.policy.allow_base:
            raise Forbidden(
                f"This tenant may call its own adapters only, not the base model `{base_name}`.",
                param="model",
                code="base_model_not_allowed",
            )
        subject = Subject(tenant.name, BASE_ADAPTER, "0")
        return Target(tenant, None, base_name, base_name, subject)
    version = _find(tenant, model)
    if version is None:
        raise missing(model)
    subject = Subject(tenant.name, version.adapter, str(version.number))
    return Target(tenant, version, version.engine_name, version.label, subject)


def missing(model: str) -> NotFound:
    """The one error for a model that does not exist, or that is not the caller's to know of."""
    return NotFound(
        f"The model `{model[:200]}` does not exist or has no live version. "
        "GET /v1/models lists the models of this key.",
        param="model",
        code="model_not_found",
    )


def _find(tenant: Tenant, model: str) -> Version | None:
    match = _MODEL.fullmatch(model)
    if match is None or match["tenant"] not in (None, tenant.name):
        return None
    adapter = tenant.adapters.get(match["adapter"])
    if adapter is None:
        return None
    number = int(match["number"]) if match["number"] else adapter.live
    version = adapter.versions.get(number) if number is not None else None
    if version is None or match["digest"] not in (None, version.digest[:12]):
        return None
    return version
