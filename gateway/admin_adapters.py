"""The /admin/v1 routes of adapters: push, read, promote, roll back, delete."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from adapters_registry.checks import check_name
from adapters_registry.types import Version
from gateway.admin_parts import (
    MAX_NUMBER,
    AdapterRef,
    VersionNumber,
    adapter_manager,
    change,
    etag,
    find_version,
    if_match,
    parts_of,
    read_adapter,
    read_body,
    read_version,
    require_tenant,
)
from gateway.admin_views import adapter_view, history_view, version_view, versions_view
from gateway.auth import Caller, missing_tenant, tenant_manager
from gateway.engine import Engine, EngineState
from gateway.errors import BadRequest, Conflict, EngineFailed, Forbidden
from gateway.threads import finish_in_thread
from gateway.upload import Caps, staged

router = APIRouter(prefix="/tenants/{t}/adapters")

Managed = Annotated[AdapterRef, Depends(adapter_manager)]
TenantManager = Annotated[Caller, Depends(tenant_manager)]


class Promotion(BaseModel):
    """Body of POST .../promote."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1, le=MAX_NUMBER)
    force: bool = False
    reason: str | None = None


class Rollback(BaseModel):
    """Body of POST .../rollback; without `to` the version that was live before."""

    model_config = ConfigDict(extra="forbid")

    to: int | None = Field(None, ge=1, le=MAX_NUMBER)
    reason: str | None = None


@router.get("")
async def list_adapters(request: Request, t: str, caller: TenantManager) -> JSONResponse:
    tenant = parts_of(request).snapshots.current.tenants.get(t)
    if tenant is None:
        raise missing_tenant(t)
    adapters = [tenant.adapters[name] for name in sorted(tenant.adapters)]
    return JSONResponse({"data": [adapter_view(adapter) for adapter in adapters]})


@router.get("/{a}")
async def get_adapter(request: Request, ref: Managed) -> JSONResponse:
    adapter = read_adapter(parts_of(request), ref)
    return JSONResponse(adapter_view(adapter), headers=etag(adapter))


@router.post("/{a}/versions")
async def push(request: Request, t: str, a: str, caller: TenantManager) -> JSONResponse:
    """Takes the files in, has them checked and stored as a new candidate version."""
    parts = parts_of(request)
    await require_tenant(parts, t)
    _check_adapter_name(t, a, parts.base_name)
    settings = parts.settings
    caps = Caps(weights_bytes=settings.limits.upload_bytes)
    async with staged(request, settings.staging_dir, caps, settings.timeouts.body_s) as upload:
        if upload.profile.chat_template is not None and not caller.is_admin:
            # vLLM bounds neither time nor memory of a template, and all tenants share it.
            raise Forbidden(
                "A chat template is a program that the engine runs: push it with the admin key.",
                param="serving_profile.chat_template",
                code="admin_key_needed",
            )
        version = await change(
            parts,
            parts.registry.push,
            t,
            a,
            upload.folder,
            base=parts.base,
            max_rank=settings.max_lora_rank,
            profile=upload.profile,
            actor=caller.actor,
        )
    return JSONResponse(version_view(version), 201)


@router.get("/{a}/versions")
async def list_versions(request: Request, ref: Managed) -> JSONResponse:
    adapter = read_adapter(parts_of(request), ref)
    return JSONResponse({"data": versions_view(adapter)}, headers=etag(adapter))


@router.get("/{a}/versions/{n}")
async def get_version(request: Request, ref: Managed, n: VersionNumber) -> JSONResponse:
    return JSONResponse(version_view(read_version(parts_of(request), ref, n)))


@router.delete("/{a}/versions/{n}")
async def delete_version(request: Request, ref: Managed, n: VersionNumber) -> Response:
    parts = parts_of(request)
    version = await find_version(parts, ref, n)
    if in_flight := parts.engine.in_flight(version) + await parts.siblings.in_flight(version):
        raise Conflict(
            f"Version {n} answers {in_flight} calls now; try again when they are done.",
            code="version_in_flight",
        )
    await change(
        parts, parts.registry.delete_version, ref.tenant, ref.name, n, actor=ref.caller.actor
    )
    return Response(status_code=204)


@router.post("/{a}/promote")
async def promote(request: Request, ref: Managed) -> JSONResponse:
    """Loads the version first, so that the pointer never moves to one that the engine refuses.

    Forced, it moves also while no engine is there to ask.
    """
    parts = parts_of(request)
    body = await read_body(request, Promotion)
    revision = if_match(request)
    version = await find_version(parts, ref, body.version)
    # A load stalls every stream on the engine, so none is spent on a call that must fail.
    if revision in (None, read_adapter(parts, ref).revision):
        await _load(parts.engine, version, force=body.force)
    adapter = await change(
        parts,
        parts.registry.promote,
        ref.tenant,
        ref.name,
        body.version,
        actor=ref.caller.actor,
        reason=body.reason,
        force=body.force,
        if_match=revision,
    )
    return JSONResponse(adapter_view(adapter), headers=etag(adapter))


@router.post("/{a}/rollback")
async def roll_back(request: Request, ref: Managed) -> JSONResponse:
    """Asks no engine: the way back is open also when none is up."""
    parts = parts_of(request)
    body = await read_body(request, Rollback)
    adapter = await change(
        parts,
        parts.registry.rollback,
        ref.tenant,
        ref.name,
        to=body.to,
        actor=ref.caller.actor,
        reason=body.reason,
        if_match=if_match(request),
    )
    return JSONResponse(adapter_view(adapter), headers=etag(adapter))


@router.get("/{a}/history")
async def history(request: Request, ref: Managed) -> JSONResponse:
    parts = parts_of(request)
    entries = await finish_in_thread(parts.registry.history, ref.tenant, ref.name)
    return JSONResponse({"data": [history_view(entry) for entry in entries]})


async def _load(engine: Engine, version: Version, *, force: bool) -> None:
    if force and engine.state is not EngineState.UP:
        return
    try:
        await engine.ensure_loaded(version)
    except EngineFailed as error:
        raise Conflict(
            f"{error.message} The live version stays as it is.", code=error.code
        ) from None


def _check_adapter_name(tenant: str, name: str, base_name: str) -> None:
    """Before gigabytes are taken in, and because only the gateway knows the base model's name."""
    check_name(name, "adapter", "an adapter's")
    if base_name in (name, f"{tenant}/{name}"):
        raise BadRequest(
            f"`{name}` is the base model's name; choose another.",
            param="adapter",
            code="invalid_name",
        )
