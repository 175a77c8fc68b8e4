"""What the admin routes share: the parts they use, and how they read and change the registry."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ParamSpec, TypeVar

from fastapi import Depends, Path, Request

from adapters_registry.types import Adapter, Version, is_name
from gateway.auth import Caller, missing_tenant, tenant_manager
from gateway.errors import BadRequest, NotFound
from gateway.parts import Parts
from gateway.request_body import Model, read_json
from gateway.threads import finish_in_thread

P = ParamSpec("P")
T = TypeVar("T")

MAX_NUMBER = 2**31 - 1
_ETAG = re.compile(r'(?P<quote>"?)(?P<revision>[0-9]{1,9})(?P=quote)')

VersionNumber = Annotated[int, Path(ge=1, le=MAX_NUMBER)]


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """An adapter in a path, which need not exist, and the caller who may manage it."""

    tenant: str
    name: str
    caller: Caller

    def missing(self) -> NotFound:
        """The answer where it does not exist."""
        return NotFound(f"There is no adapter `{self.name[:200]}`.", param="adapter")


def parts_of(request: Request) -> Parts:
    """The parts that `create_app` built."""
    parts: Parts = request.app.state.parts
    return parts


async def read_body(request: Request, model: type[Model]) -> Model:
    """The JSON body as a `model`, under the gateway's limits."""
    settings = parts_of(request).settings
    return await read_json(
        request,
        model,
        limit_bytes=settings.limits.body_bytes,
        idle_s=settings.timeouts.body_s,
    )


async def adapter_manager(
    t: str, a: str, caller: Annotated[Caller, Depends(tenant_manager)]
) -> AdapterRef:
    """Dependency: the path's adapter `a` of tenant `t`, for a caller who may manage it."""
    ref = AdapterRef(t, a, caller)
    if not is_name(a):
        raise ref.missing()
    return ref


async def change(parts: Parts, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """One write to the registry, in every worker's snapshot before the answer goes out."""
    result = await finish_in_thread(call, *args, **kwargs)
    # The write is committed, so the answer must say so, also where the database is away by now.
    await asyncio.gather(parts.snapshots.catch_up(), parts.siblings.refresh())
    return result


async def require_tenant(parts: Parts, name: str) -> None:
    """Raises NotFound where the tenant is missing, also from the database itself."""
    if not is_name(name):
        raise missing_tenant(name)
    if name not in parts.snapshots.current.tenants:
        await parts.snapshots.refresh()
    if name not in parts.snapshots.current.tenants:
        raise missing_tenant(name)


def read_adapter(parts: Parts, ref: AdapterRef) -> Adapter:
    """The adapter in the snapshot. Raises NotFound."""
    tenant = parts.snapshots.current.tenants.get(ref.tenant)
    if tenant is None:
        raise missing_tenant(ref.tenant)
    adapter = tenant.adapters.get(ref.name)
    if adapter is None:
        raise ref.missing()
    return adapter


def read_version(parts: Parts, ref: AdapterRef, number: int) -> Version:
    """The version in the snapshot. Raises NotFound."""
    version = read_adapter(parts, ref).versions.get(number)
    if version is None:
        raise NotFound(f"There is no version {number} of `{ref.name}`.", param="version")
    return version


async def find_version(parts: Parts, ref: AdapterRef, number: int) -> Version:
    """As read_version, but a version that another gateway has just stored is found too."""
    try:
        return read_version(parts, ref, number)
    except NotFound:
        await parts.snapshots.refresh()
    return read_version(parts, ref, number)


def if_match(request: Request) -> int | None:
    """The revision in `If-Match`; None where the caller does not care."""
    value = request.headers.get("if-match", "*").strip()
    if value == "*":
        return None
    match = _ETAG.fullmatch(value)
    if match is None:
        raise BadRequest(
            "If-Match must be the adapter's revision as an answer's ETag gave it.", param="If-Match"
        )
    return int(match["revision"])


def etag(adapter: Adapter) -> dict[str, str]:
    """The header that carries the adapter's revision."""
    return {"etag": f'"{adapter.revision}"'}
