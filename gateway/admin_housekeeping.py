"""The /admin/v1 routes that keep the artifact store in order: garbage collection, verification."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from gateway.admin_parts import parts_of, read_body
from gateway.auth import Caller, admin_caller
from gateway.housekeeping import collect
from gateway.threads import finish_in_thread

router = APIRouter()

Admin = Annotated[Caller, Depends(admin_caller)]


class Collection(BaseModel):
    """Body of POST /gc; without `grace_s` the setting `gc_grace_s`."""

    model_config = ConfigDict(extra="forbid")

    grace_s: float | None = Field(None, ge=0, le=10 * 365 * 24 * 3600)


@router.post("/gc")
async def collect_garbage(request: Request, caller: Admin) -> JSONResponse:
    """Removes what no version has used for the grace time, and purges tenants that are due.

    With a shorter time than calls last, other gateways may lose what they still answer with.
    """
    parts = parts_of(request)
    body = await read_body(request, Collection)
    grace_s = parts.settings.gc_grace_s if body.grace_s is None else body.grace_s
    done = await collect(parts, grace_s, caller.actor)
    return JSONResponse(
        {
            "removed": list(done.removed),
            "freed_bytes": done.freed_bytes,
            "kept": done.kept,
            "purged_tenants": list(done.purged),
        }
    )


@router.post("/verify")
async def verify(request: Request, caller: Admin) -> JSONResponse:
    """Reads every version's files again. It takes as long as reading them all does."""
    found = await finish_in_thread(parts_of(request).registry.verify_artifacts)
    damaged = [
        {"version": each.label, "digest": each.digest, "damage": each.damage.value}
        for each in found.damaged
    ]
    return JSONResponse({"checked": found.checked, "damaged": damaged})
