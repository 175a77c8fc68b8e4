"""The /admin/v1 routes of adapters: push, read, promote, roll back, delete."""

from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from adapters_registry import sources
from adapters_registry.checks import check_name
from adapters_registry.model_card import model_card
from adapters_registry.types import Evaluation
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
    require_tenant,
)
from gateway.admin_views import (
    adapter_view,
    history_view,
    record_view,
    version_view,
    versions_view,
)
from gateway.auth import Caller, missing_tenant, tenant_manager
from gateway.errors import BadRequest, Conflict, Forbidden
from gateway.parts import Parts
from gateway.promotion import prepare
from gateway.request_body import media_type
from gateway.threads import finish_in_thread
from gateway.upload import Caps, Metadata, Upload, fetched, staged

router = APIRouter(prefix="/tenants/{t}/adapters")

Managed = Annotated[AdapterRef, Depends(adapter_manager)]
TenantManager = Annotated[Caller, Depends(tenant_manager)]


class FromSource(BaseModel):
    """Body of POST .../versions where the files are to be fetched."""

    model_config = ConfigDict(extra="forbid")

    source: str
    metadata: Metadata = Metadata()


class Promotion(BaseModel):
    """Body of POST .../promote."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1, le=MAX_NUMBER)
    force: bool = False
    reason: str | None = None


class Judgement(Evaluation):
    """Body of POST .../versions/{n}/evaluation."""

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
    """Takes the files in or fetches them, has them checked and stored as a new version."""
    parts = parts_of(request)
    await require_tenant(parts, t)
    _check_adapter_name(t, a, parts.base_name)
    settings = parts.settings
    async with await _incoming(request, parts, caller) as upload:
        metadata = upload.metadata
        if metadata.serving_profile.chat_template is not None and not caller.is_admin:
            # vLLM bounds neither time nor memory of a template, and all tenants share it.
            raise Forbidden(
                "A chat template is a program that the engine runs: push it with the admin key.",
                param="serving_profile.chat_template",
                code="admin_key_needed",
            )
        if metadata.evaluation is not None:
            _check_may_judge(parts, t, caller)
        version = await change(
            parts,
            parts.registry.push,
            t,
            a,
            upload.folder,
            base=parts.base,
            max_rank=settings.max_lora_rank,
            profile=metadata.serving_profile,
            lineage=metadata.lineage,
            evaluation=metadata.evaluation,
            reason=metadata.reason,
            actor=caller.actor,
        )
    parts.prover.offer(version)
    return JSONResponse(version_view(version), 201)


@router.get("/{a}/versions")
async def list_versions(request: Request, ref: Managed) -> JSONResponse:
    adapter = read_adapter(parts_of(request), ref)
    return JSONResponse({"data": versions_view(adapter)}, headers=etag(adapter))


@router.get("/{a}/versions/{n}")
async def get_version(request: Request, ref: Managed, n: VersionNumber) -> JSONResponse:
    """All that is kept of it: where it comes from, how it was judged and proved."""
    registry = parts_of(request).registry
    record = await finish_in_thread(registry.version, ref.tenant, ref.name, n)
    return JSONResponse(record_view(record))


@router.get("/{a}/versions/{n}/card")
async def get_card(request: Request, ref: Managed, n: VersionNumber) -> PlainTextResponse:
    """The model card, in Markdown."""
    registry = parts_of(request).registry
    record = await finish_in_thread(registry.version, ref.tenant, ref.name, n)
    return PlainTextResponse(model_card(record), media_type="text/markdown")


@router.post("/{a}/versions/{n}/evaluation")
async def evaluate(request: Request, ref: Managed, n: VersionNumber) -> JSONResponse:
    parts = parts_of(request)
    body = await read_body(request, Judgement)
    _check_may_judge(parts, ref.tenant, ref.caller)
    version = await change(
        parts,
        parts.registry.evaluate,
        ref.tenant,
        ref.name,
        n,
        Evaluation(verdict=body.verdict, report=body.report),
        actor=ref.caller.actor,
        reason=body.reason,
        if_match=if_match(request),
    )
    return JSONResponse(version_view(version))


@router.post("/{a}/versions/{n}/prove")
async def prove(request: Request, ref: Managed, n: VersionNumber) -> JSONResponse:
    """Proves the version on the engine now, also where that was done before."""
    parts = parts_of(request)
    version = await find_version(parts, ref, n)
    await parts.prover.prove(version, actor=ref.caller.actor)
    await parts.siblings.refresh()
    record = await finish_in_thread(parts.registry.version, ref.tenant, ref.name, n)
    return JSONResponse(record_view(record))


@router.delete("/{a}/versions/{n}")
async def delete_version(
    request: Request, ref: Managed, n: VersionNumber, reason: str | None = None
) -> Response:
    parts = parts_of(request)
    version = await find_version(parts, ref, n)
    if in_flight := parts.engine.in_flight(version) + await parts.siblings.in_flight(version):
        raise Conflict(
            f"Version {n} answers {in_flight} calls now; try again when they are done.",
            code="version_in_flight",
        )
    await change(
        parts,
        parts.registry.delete_version,
        ref.tenant,
        ref.name,
        n,
        actor=ref.caller.actor,
        reason=reason,
        if_match=if_match(request),
    )
    return Response(status_code=204)


@router.post("/{a}/promote")
async def promote(request: Request, ref: Managed) -> JSONResponse:
    """Has the version loaded and proved first, so that the pointer never moves to one that the
    engine refuses, or that answers as the base does.

    Forced, it moves also while no engine is there to ask.
    """
    parts = parts_of(request)
    body = await read_body(request, Promotion)
    revision = if_match(request)
    version = await find_version(parts, ref, body.version)
    # A load stalls every stream on the engine, so none is spent on a call that must fail.
    if revision in (None, read_adapter(parts, ref).revision):
        await prepare(parts, version, force=body.force)
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


async def _incoming(
    request: Request, parts: Parts, caller: Caller
) -> AbstractAsyncContextManager[Upload]:
    """The files in the body, or those it names, for which the operator's credentials go out."""
    settings = parts.settings
    caps = Caps(weights_bytes=settings.limits.upload_bytes)
    if media_type(request) != "application/json":
        return staged(request, settings.staging_dir, caps, settings.timeouts.body_s)
    if not caller.is_admin:
        raise Forbidden(
            "A source is fetched with the operator's credentials: name it with the admin key, or"
            " upload the files.",
            param="source",
            code="admin_key_needed",
        )
    body = await read_body(request, FromSource)
    source = sources.parse_source(body.source)
    fetch = partial(sources.fetch, source, caps=caps.parts, s3_endpoint=settings.s3_endpoint)
    return fetched(fetch, body.metadata, settings.staging_dir)


def _check_may_judge(parts: Parts, tenant: str, caller: Caller) -> None:
    """A tenant whose policy requires a pass cannot pass its own versions."""
    found = parts.snapshots.current.tenants.get(tenant)
    if found is None:
        raise missing_tenant(tenant)
    if found.policy.require_pass and not caller.is_admin:
        raise Forbidden(
            "This tenant's policy requires a passed evaluation: record it with the admin key.",
            param="evaluation",
            code="admin_key_needed",
        )


def _check_adapter_name(tenant: str, name: str, base_name: str) -> None:
    """Before gigabytes are taken in, and because only the gateway knows the base model's name."""
    check_name(name, "adapter", "an adapter's")
    if base_name in (name, f"{tenant}/{name}"):
        raise BadRequest(
            f"`{name}` is the base model's name; choose another.",
            param="adapter",
            code="invalid_name",
        )
