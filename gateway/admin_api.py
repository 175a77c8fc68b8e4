"""The /admin/v1 routes: engines and the audit here, the others from files of their own."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from gateway import admin_adapters, admin_files, admin_housekeeping, admin_tenants, admin_transfer
from gateway.admin_parts import MAX_NUMBER, AdapterRef, parts_of, read_version
from gateway.admin_views import audit_view
from gateway.auth import Caller, admin_caller
from gateway.threads import finish_in_thread

Admin = Annotated[Caller, Depends(admin_caller)]


router = APIRouter(prefix="/admin/v1", tags=["admin"])
router.include_router(admin_tenants.router)
router.include_router(admin_adapters.router)
router.include_router(admin_files.router)
router.include_router(admin_housekeeping.router)
router.include_router(admin_transfer.router)


@router.post("/refresh")
async def refresh(request: Request, caller: Admin) -> JSONResponse:
    """Reads the registry now, as a worker asks of its siblings after each write."""
    snapshots = parts_of(request).snapshots
    await snapshots.refresh()
    return JSONResponse({"revision": snapshots.current.revision})


@router.get("/in-flight")
async def in_flight(
    request: Request,
    caller: Admin,
    tenant: str,
    adapter: str,
    version: Annotated[int, Query(ge=1, le=MAX_NUMBER)],
) -> JSONResponse:
    """Calls that use a version now on the worker that answers; a sibling asks before it deletes."""
    parts = parts_of(request)
    found = read_version(parts, AdapterRef(tenant, adapter, caller), version)
    return JSONResponse({"in_flight": parts.engine.in_flight(found)})


@router.get("/engines")
async def list_engines(request: Request, caller: Admin) -> JSONResponse:
    """As the worker that answers sees them: its own calls, and the adapters that it loaded."""
    return JSONResponse({"data": [parts_of(request).engine.info()]})


@router.get("/audit")
async def list_audit(
    request: Request,
    caller: Admin,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> JSONResponse:
    """The newest first; `before` is the last id of the page at hand."""
    registry = parts_of(request).registry
    entries = await finish_in_thread(registry.audit, limit=limit, before=before)
    return JSONResponse({"data": [audit_view(entry) for entry in entries]})
