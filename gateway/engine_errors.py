"""The engine's refusals, told as the gateway's own: one shape, no engine names, no paths; pure."""

import json
from typing import Any

from gateway.errors import (
    BadRequest,
    EngineFailed,
    EngineUnavailable,
    GatewayError,
)

_MAX_MESSAGE_CHARS = 2000


def from_engine(status: int, body: bytes, *, engine_name: str, requested: str) -> GatewayError:
    """The error for an engine's answer of `status` >= 400.

    engine_name is replaced by `requested`, the name the client used. What is the engine's own
    trouble (5xx) is not told in its words.
    """
    if status == 503:
        return EngineUnavailable("The engine is busy; try again.", retry_after_s=2)
    if status >= 500:
        return EngineFailed("The engine failed on this request.")
    detail = _detail(body)
    message = str(detail.get("message") or f"The engine refused the request with {status}.")
    message = message.split(" Valid aliases:")[0].replace(engine_name, requested)
    param = detail.get("param")
    return BadRequest(
        message[:_MAX_MESSAGE_CHARS],
        param=param.removeprefix("body.") if isinstance(param, str) else None,
        code=_code(message),
    )


def _detail(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    detail = parsed.get("error", parsed) if isinstance(parsed, dict) else {}
    return detail if isinstance(detail, dict) else {"message": str(detail)}


def _code(message: str) -> str:
    if "maximum context length" in message or "max_model_len" in message:
        return "context_length_exceeded"
    return "invalid_request"
