"""The /admin/v1 routes of tenants and keys."""

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from adapters_registry.types import Scope, TenantPolicy
from gateway.admin_parts import change, parts_of, read_body, require_tenant
from gateway.admin_views import key_view, tenant_view
from gateway.auth import Caller, admin_caller, manager, missing_tenant, tenant_manager
from gateway.errors import Forbidden, NotFound

router = APIRouter()

Admin = Annotated[Caller, Depends(admin_caller)]
Manager = Annotated[Caller, Depends(manager)]
TenantManager = Annotated[Caller, Depends(tenant_manager)]

_KEY_ID = re.compile(r"[0-9a-f]{1,64}")


class NewTenant(BaseModel):
    """Body of POST /tenants."""

    model_config = ConfigDict(extra="forbid")

    name: str


class TenantPatch(BaseModel):
    """Body of PATCH /tenants/{t}; fields of the policy that are not named keep their value."""

    model_config = ConfigDict(extra="forbid")

    policy: TenantPolicy


class NewKey(BaseModel):
    """Body of POST /tenants/{t}/keys."""

    model_config = ConfigDict(extra="forbid")

    name: str = "key"
    scopes: frozenset[Scope] = Field(frozenset({Scope.INFERENCE}), min_length=1)


@router.post("/tenants")
async def create_tenant(request: Request, caller: Admin) -> JSONResponse:
    parts = parts_of(request)
    body = await read_body(request, NewTenant)
    tenant = await change(parts, parts.registry.create_tenant, body.name, actor=caller.actor)
    return JSONResponse(tenant_view(tenant), 201)


@router.get("/tenants")
async def list_tenants(request: Request, caller: Manager) -> JSONResponse:
    """All tenants for the admin key; its own for a tenant's key."""
    tenants = parts_of(request).snapshots.current.tenants
    visible = [name for name in sorted(tenants) if caller.is_admin or name == caller.tenant]
    return JSONResponse({"data": [tenant_view(tenants[name]) for name in visible]})


@router.get("/tenants/{t}")
async def get_tenant(request: Request, t: str, caller: TenantManager) -> JSONResponse:
    tenant = parts_of(request).snapshots.current.tenants.get(t)
    if tenant is None:
        raise missing_tenant(t)
    return JSONResponse(tenant_view(tenant))


@router.patch("/tenants/{t}")
async def patch_tenant(request: Request, t: str, caller: Admin) -> JSONResponse:
    parts = parts_of(request)
    body = await read_body(request, TenantPatch)
    await require_tenant(parts, t)
    named = body.policy.model_dump(exclude_unset=True)
    policy = parts.snapshots.current.tenants[t].policy.model_copy(update=named)
    tenant = await change(parts, parts.registry.set_policy, t, policy, actor=caller.actor)
    return JSONResponse(tenant_view(tenant))


@router.delete("/tenants/{t}")
async def delete_tenant(request: Request, t: str, caller: Admin) -> Response:
    parts = parts_of(request)
    await require_tenant(parts, t)
    await change(parts, parts.registry.delete_tenant, t, actor=caller.actor)
    return Response(status_code=204)


@router.post("/tenants/{t}/keys")
async def create_key(request: Request, t: str, caller: TenantManager) -> JSONResponse:
    """The key's text is in this answer and nowhere else."""
    parts = parts_of(request)
    body = await read_body(request, NewKey)
    if beyond := sorted(body.scopes - caller.scopes):
        raise Forbidden(
            f"This key cannot give a scope that it does not have: {', '.join(beyond)}.",
            param="scopes",
            code="missing_scope",
        )
    key, text = await change(
        parts,
        parts.registry.create_key,
        t,
        name=body.name,
        scopes=body.scopes,
        actor=caller.actor,
    )
    return JSONResponse(key_view(key) | {"key": text}, 201, {"cache-control": "no-store"})


@router.get("/tenants/{t}/keys")
async def list_keys(request: Request, t: str, caller: TenantManager) -> JSONResponse:
    snapshot = parts_of(request).snapshots.current
    if t not in snapshot.tenants:
        raise missing_tenant(t)
    keys = sorted(
        (key for key in snapshot.keys.values() if key.tenant == t),
        key=lambda key: (key.created_at, key.id),
    )
    return JSONResponse({"data": [key_view(key) for key in keys]})


@router.delete("/tenants/{t}/keys/{key_id}")
async def revoke_key(request: Request, t: str, key_id: str, caller: TenantManager) -> Response:
    parts = parts_of(request)
    if _KEY_ID.fullmatch(key_id) is None:
        raise NotFound(f"There is no key `{key_id[:64]}`.", param="id")
    await change(parts, parts.registry.revoke_key, t, key_id, actor=caller.actor)
    return Response(status_code=204)
