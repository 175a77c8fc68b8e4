"""The request as the engine gets it: the client's body with the gateway's own fields; pure."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import msgspec

from adapters_registry.types import Tenant
from gateway.errors import BadRequest
from gateway.fields import fixed_fields, own_fields
from gateway.resolve import Target
from gateway.routes import GENERATING, Route
from gateway.upstream import Header

_USAGE_ON_REQUEST = frozenset({Route.CHAT, Route.COMPLETIONS})
_PATHS = {route: route.path.encode() for route in Route}
_WITH_REQUEST_ID = {
    Route.CHAT: "{}",
    Route.COMPLETIONS: "{}",
    # The id of the response itself, which in OpenAI's API begins so.
    Route.RESPONSES: "resp_{}",
}


class EngineCall(msgspec.Struct, frozen=True):
    """What is sent to the engine."""

    path: bytes
    headers: tuple[Header, ...]
    body: bytes
    streamed: bool
    hide_usage: bool
    """Whether the usage event is the gateway's wish alone, and to be taken out."""


def without_own_fields(route: Route, body: Mapping[str, Any]) -> dict[str, Any]:
    """The client's body without what is the gateway's to set; the model's name goes too."""
    own = own_fields(route)
    return {name: value for name, value in body.items() if name not in own}


def engine_call(
    route: Route, body: Mapping[str, Any], target: Target, *, request_id: str, salt: str
) -> EngineCall:
    """Makes the call. `body` came from `without_own_fields` and has the version's profile applied.

    None of the client's headers go on. Raises BadRequest.
    """
    sent = {**body, **fixed_fields(route)}
    sent["model"] = target.engine_name
    generates = route in GENERATING
    if generates:
        sent["cache_salt"] = salt
    if route in _WITH_REQUEST_ID:
        sent["request_id"] = _WITH_REQUEST_ID[route].format(request_id)
    streamed = generates and body.get("stream") is True
    hide_usage = False
    if streamed and route in _USAGE_ON_REQUEST:
        hide_usage = not _wants_usage(body)
        if hide_usage:
            sent["stream_options"] = {"include_usage": True}
    return EngineCall(
        path=_PATHS[route],
        headers=(
            (b"content-type", b"application/json"),
            (b"x-request-id", request_id.encode()),
        ),
        body=msgspec.json.encode(sent),
        streamed=streamed,
        hide_usage=hide_usage,
    )


def _wants_usage(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is not None and not isinstance(options, Mapping):
        raise BadRequest("`stream_options` must be an object.", param="stream_options")
    return options is not None and options.get("include_usage") is True


def cache_salt(secret: bytes, tenant: Tenant) -> str:
    """Keeps a tenant's prefix cache its own: hex, the same for all of its calls, unguessable.

    The tenant's age is in it, so that a later tenant of the same name starts with a cold cache.
    """
    owner = f"{tenant.name}\n{tenant.created_at.isoformat()}".encode()
    return hmac.new(secret, owner, hashlib.sha256).hexdigest()
