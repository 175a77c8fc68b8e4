"""The /admin/v1 routes of tenants and keys."""

import re
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from adapters_registry.types import Key, Scope, TenantPolicy, is_name
from gateway.admin_parts import change, parts_of, read_body, require_tenant
from gateway.admin_views import deleted_tenant_view, key_view, tenant_view
from gateway.auth import Caller, admin_caller, manager, missing_tenant, tenant_manager
from gateway.errors import Forbidden, NotFound
from gateway.threads import finish_in_thread

router = APIRouter()

Admin = Annotated[Caller, Depends(admin_caller)]
Manager = Annotated[Caller, Depends(manager)]
TenantManager = Annotated[Caller, Depends(tenant_manager)]

_KEY_ID = re.compile(r"[0-9a-f]{1,64}")
_MOST_OVERLAP_S = 90 * 24 * 3600


class NewTenant(BaseModel):
    """Body of POST /tenants."""

    model_config = ConfigDict(extra="forbid")

    name: str
    reason: str | None = None


class TenantPatch(BaseModel):
    """Body of PATCH /tenants/{t}; fields of the policy that are not named keep their value."""

    model_config = ConfigDict(extra="forbid")

    policy: TenantPolicy
    reason: str | None = None


class NewKey(BaseModel):
    """Body of POST /tenants/{t}/keys."""

    model_config = ConfigDict(extra="forbid")

    name: str = "key"
    scopes: frozenset[Scope] = Field(frozenset({Scope.INFERENCE}), min_length=1)
    expires_at: datetime | None = None
    reason: str | None = None


class Rotation(BaseModel):
    """Body of POST /tenants/{t}/keys/{id}/rotate."""

    model_config = ConfigDict(extra="forbid")

    overlap_s: int = Field(3600, ge=0, le=_MOST_OVERLAP_S)
    expires_at: datetime | None = None
    reason: str | None = None


class Reason(BaseModel):
    """Body of calls that need no more than why."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = None


@router.post("/tenants")
async def create_tenant(request: Request, caller: Admin) -> JSONResponse:
    parts = parts_of(request)
    body = await read_body(request, NewTenant)
    tenant = await change(
        parts, parts.registry.create_tenant, body.name, actor=caller.actor, reason=body.reason
    )
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
    tenant = await change(
        parts, parts.registry.set_policy, t, body.policy, actor=caller.actor, reason=body.reason
    )
    return JSONResponse(tenant_view(tenant))


@router.delete("/tenants/{t}")
async def delete_tenant(
    request: Request, t: str, caller: Admin, reason: str | None = None
) -> Response:
    """Ends the tenant's keys; the rest can be brought back for a while."""
    parts = parts_of(request)
    await require_tenant(parts, t)
    await change(
        parts,
        parts.registry.delete_tenant,
        t,
        actor=caller.actor,
        reason=reason,
        undo_time=timedelta(seconds=parts.settings.undo_s),
    )
    return Response(status_code=204)


@router.get("/deleted-tenants")
async def list_deleted_tenants(request: Request, caller: Admin) -> JSONResponse:
    """Those that can still be restored, the latest first."""
    found = await finish_in_thread(parts_of(request).registry.deleted_tenants)
    return JSONResponse({"data": [deleted_tenant_view(tenant) for tenant in found]})


@router.post("/deleted-tenants/{t}/restore")
async def restore_tenant(request: Request, t: str, caller: Admin) -> JSONResponse:
    """Undoes the latest deletion of that name. Its keys stay dead."""
    parts = parts_of(request)
    body = await read_body(request, Reason)
    if not is_name(t):
        raise missing_tenant(t)
    tenant = await change(
        parts, parts.registry.restore_tenant, t, actor=caller.actor, reason=body.reason
    )
    return JSONResponse(tenant_view(tenant))


@router.post("/tenants/{t}/keys")
async def create_key(request: Request, t: str, caller: TenantManager) -> JSONResponse:
    """The key's text is in this answer and nowhere else."""
    parts = parts_of(request)
    body = await read_body(request, NewKey)
    _check_scopes(body.scopes, caller)
    key, text = await change(
        parts,
        parts.registry.create_key,
        t,
        name=body.name,
        scopes=body.scopes,
        expires_at=body.expires_at,
        reason=body.reason,
        actor=caller.actor,
    )
    return _made(key, text)


@router.get("/tenants/{t}/keys")
async def list_keys(request: Request, t: str, caller: TenantManager) -> JSONResponse:
    """From the registry itself: the snapshot does not follow the keys' last use.

    What another gateway has seen of a key comes within a minute.
    """
    parts = parts_of(request)
    if t not in parts.snapshots.current.tenants:
        raise missing_tenant(t)
    keys = await finish_in_thread(parts.registry.keys, t)
    return JSONResponse({"data": [key_view(parts.key_use.seen(key)) for key in keys]})


@router.delete("/tenants/{t}/keys/{key_id}")
async def revoke_key(
    request: Request, t: str, key_id: str, caller: TenantManager, reason: str | None = None
) -> Response:
    parts = parts_of(request)
    _check_key_id(key_id)
    await change(parts, parts.registry.revoke_key, t, key_id, actor=caller.actor, reason=reason)
    return Response(status_code=204)


@router.post("/tenants/{t}/keys/{key_id}/rotate")
async def rotate_key(request: Request, t: str, key_id: str, caller: TenantManager) -> JSONResponse:
    """A new key like the old one, which is refused once the overlap is over."""
    parts = parts_of(request)
    _check_key_id(key_id)
    body = await read_body(request, Rotation)
    if key_id not in parts.snapshots.current.keys:
        await parts.snapshots.refresh()  # Another gateway may have made it just now.
    old = parts.snapshots.current.keys.get(key_id)
    if old is None or old.tenant != t:
        raise NotFound(f"There is no key `{key_id}`.", param="id")
    _check_scopes(old.scopes, caller)
    key, text = await change(
        parts,
        parts.registry.rotate_key,
        t,
        key_id,
        actor=caller.actor,
        overlap=timedelta(seconds=body.overlap_s),
        expires_at=body.expires_at,
        reason=body.reason,
    )
    return _made(key, text)


def _made(key: Key, text: str) -> JSONResponse:
    """The only answer that ever holds a key's text."""
    return JSONResponse(key_view(key) | {"key": text}, 201, {"cache-control": "no-store"})


def _check_key_id(key_id: str) -> None:
    if _KEY_ID.fullmatch(key_id) is None:
        raise NotFound(f"There is no key `{key_id[:64]}`.", param="id")


def _check_scopes(scopes: frozenset[Scope], caller: Caller) -> None:
    if beyond := sorted(scopes - caller.scopes):
        raise Forbidden(
            f"This key cannot give a scope that it does not have: {', '.join(beyond)}.",
            param="scopes",
            code="missing_scope",
        )
