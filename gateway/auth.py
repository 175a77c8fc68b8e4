"""Key to caller: FastAPI dependencies that every guarded route names, without SQL."""

import hashlib
import hmac
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Protocol

import msgspec
from fastapi import Depends, Request

from adapters_registry.tenants import parse_key, secret_matches
from adapters_registry.types import Key, Scope, Snapshot, is_name
from gateway.errors import Forbidden, NotFound, Unauthorized
from gateway.key_use import KeyUse

_ADMIN_KEY_ID = "admin"
_INFERENCE = Scope.INFERENCE
# Stands in for a key that is not there, so that both answers take the same work.
_NO_KEY = Key("", "", "", frozenset(), bytes(32), datetime.fromtimestamp(0, UTC))


class HoldsSnapshot(Protocol):
    """Where the registry's latest snapshot lies."""

    @property
    def current(self) -> Snapshot: ...


class AuthParts(Protocol):
    """What authentication needs of `app.state.parts`."""

    @property
    def snapshots(self) -> HoldsSnapshot: ...
    @property
    def admin_key_sha256(self) -> bytes: ...
    @property
    def key_use(self) -> KeyUse: ...


class Caller(msgspec.Struct, frozen=True):
    """Who sent a request."""

    tenant: str | None
    """None for the admin key, which belongs to no tenant."""
    key_id: str
    scopes: frozenset[Scope]
    is_admin: bool

    @property
    def actor(self) -> str:
        """The name in history and audit: `admin` or `key:<id>`."""
        return "admin" if self.is_admin else f"key:{self.key_id}"


def authenticate(presented: str, admin_key_sha256: bytes, snapshot: Snapshot) -> Caller:
    """The caller behind a key. Raises Unauthorized, the same for every reason."""
    key_id, secret = parse_key(presented) or ("", "")
    key = snapshot.keys.get(key_id)
    if (
        secret_matches(key or _NO_KEY, secret)
        and key is not None
        and (key.expires_at is None or datetime.now(UTC) < key.expires_at)
        and key.tenant in snapshot.tenants
    ):
        return Caller(key.tenant, key.id, key.scopes, False)
    digest = hashlib.sha256(presented.encode()).digest()
    if hmac.compare_digest(digest, admin_key_sha256):
        return Caller(None, _ADMIN_KEY_ID, frozenset(Scope), True)
    raise Unauthorized("The API key is not known or was revoked; ask the operator for one.")


async def any_caller(request: Request) -> Caller:
    """Dependency: whoever holds a valid key."""
    parts: AuthParts = request.app.state.parts
    key = presented_key(request.scope["headers"])
    caller = authenticate(key, parts.admin_key_sha256, parts.snapshots.current)
    parts.key_use.noted[caller.key_id] = time.perf_counter()
    return caller


async def inference_caller(caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """Dependency: a tenant's key with the inference scope."""
    return admit_inference(caller)


def admit_inference(caller: Caller) -> Caller:
    """The caller, if it may call models. Raises Forbidden."""
    if caller.is_admin:
        raise Forbidden(
            "The admin key belongs to no tenant and cannot call models; make a tenant's key "
            "with POST /admin/v1/tenants/{tenant}/keys.",
            code="admin_key_is_no_tenant",
        )
    return _with_scope(caller, _INFERENCE)


async def admin_caller(caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """Dependency: the admin key."""
    if not caller.is_admin:
        raise Forbidden("This route needs the admin key.", code="admin_key_needed")
    return caller


async def manager(caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """Dependency: the admin key, or a tenant's key with the manage scope."""
    return caller if caller.is_admin else _with_scope(caller, Scope.MANAGE)


async def tenant_manager(t: str, caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """Dependency: the admin key, or a key with the manage scope of the path's tenant `t`.

    To a tenant's key all other tenants look missing, whether they exist or not.
    """
    if not is_name(t) or not (caller.is_admin or caller.tenant == t):
        raise missing_tenant(t)
    return caller if caller.is_admin else _with_scope(caller, Scope.MANAGE)


def missing_tenant(name: str) -> NotFound:
    """The one answer for a tenant that is not there, or not the caller's."""
    return NotFound(f"There is no tenant `{name[:200]}`.", param="tenant")


def _with_scope(caller: Caller, scope: Scope) -> Caller:
    if scope not in caller.scopes:
        raise Forbidden(
            f"This key lacks the scope `{scope.value}`; ask for a key that has it.",
            code="missing_scope",
        )
    return caller


def presented_key(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The key in a request's headers, names in lower case. Raises Unauthorized."""
    keys = set()
    for name, value in headers:
        if name == b"authorization":
            keys.add(_bearer(value.decode("latin-1")))
        elif name == b"x-api-key":
            keys.add(value.decode("latin-1").strip())
    keys.discard("")
    if not keys:
        raise Unauthorized(
            "No API key was sent; send the header `Authorization: Bearer KEY` or `x-api-key: KEY`."
        )
    if len(keys) > 1:
        raise Unauthorized("Two different API keys were sent; send one.")
    return keys.pop()


def _bearer(value: str) -> str:
    """The key of a Bearer header, else nothing."""
    scheme, _, key = value.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
