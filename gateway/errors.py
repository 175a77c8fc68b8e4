"""The gateway's exceptions, each with its HTTP status and its body, OpenAI's or Anthropic's.

GatewayError
+-- BadRequest 400            +-- Conflict 409
+-- Unauthorized 401          +-- PreconditionFailed 412
+-- Forbidden 403             +-- PayloadTooLarge 413
+-- NotFound 404              +-- MethodNotAllowed 405
+-- RequestTimeout 408        +-- UnsupportedMediaType 415
+-- Overloaded 503            +-- EngineUnavailable 503 (Retry-After)
+-- RegistryUnavailable 503   +-- InsufficientStorage 507
+-- ShuttingDown 503          (an answer cut off by the gateway's end)
+-- EngineFailed 502          +-- EngineTimeout 504
+-- SourceUnavailable 502
"""

from typing import Any, ClassVar

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class GatewayError(Exception):
    """A request that ends without the answer it asked for.

    message: for the caller; holds no prompt, key, path or engine name.
    param: the request field at fault. code: a stable word for programs.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else self.default_code
        self.retry_after_s = retry_after_s

    def headers(self) -> dict[str, str]:
        """Response headers that belong to the status."""
        return {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}


class BadRequest(GatewayError):
    status = 400
    type = "invalid_request_error"


class Unauthorized(GatewayError):
    status = 401
    type = "authentication_error"
    default_code = "invalid_api_key"

    def headers(self) -> dict[str, str]:
        return {"www-authenticate": "Bearer"}


class Forbidden(GatewayError):
    status = 403
    type = "permission_error"


class NotFound(GatewayError):
    status = 404
    type = "not_found_error"
    default_code = "not_found"


class MethodNotAllowed(GatewayError):
    status = 405
    type = "invalid_request_error"
    default_code = "method_not_allowed"


class RequestTimeout(GatewayError):
    """The client's body did not arrive in time."""

    status = 408
    type = "invalid_request_error"
    default_code = "request_timeout"


class Conflict(GatewayError):
    status = 409
    type = "conflict_error"


class PreconditionFailed(GatewayError):
    status = 412
    type = "conflict_error"
    default_code = "stale_revision"


class PayloadTooLarge(GatewayError):
    status = 413
    type = "invalid_request_error"
    default_code = "payload_too_large"


class UnsupportedMediaType(GatewayError):
    status = 415
    type = "invalid_request_error"
    default_code = "unsupported_media_type"


class Overloaded(GatewayError):
    """The gateway has all the work it may take on."""

    status = 503
    type = "overloaded_error"
    default_code = "overloaded"


class EngineUnavailable(GatewayError):
    """No engine is ready for this request now."""

    status = 503
    type = "server_error"
    default_code = "engine_unavailable"


class ShuttingDown(GatewayError):
    """The gateway's own end cut the answer off."""

    status = 503
    default_code = "shutting_down"


class RegistryUnavailable(GatewayError):
    """The registry's database is away; inference goes on from memory."""

    status = 503
    type = "server_error"
    default_code = "registry_unavailable"


class InsufficientStorage(GatewayError):
    """The disk took no more; nothing was changed."""

    status = 507
    type = "server_error"
    default_code = "storage_failed"


class EngineFailed(GatewayError):
    """The engine broke off, or answered what it should not."""

    status = 502
    type = "server_error"
    default_code = "engine_failed"


class SourceUnavailable(GatewayError):
    """The bucket or the Hub that an adapter was to come from does not answer."""

    status = 502
    type = "server_error"
    default_code = "source_unavailable"


class EngineTimeout(GatewayError):
    status = 504
    type = "server_error"
    default_code = "engine_timeout"


def openai_body(error: GatewayError) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code"}}`."""
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }


def anthropic_body(error: GatewayError, request_id: str | None = None) -> dict[str, Any]:
    """`{"type": "error", "error": {"type", "message"}, "request_id"}`."""
    return {
        "type": "error",
        "error": {
            "type": _ANTHROPIC_TYPES.get(error.status, "api_error"),
            "message": error.message,
        },
        "request_id": request_id,
    }
