"""Every exception becomes the one error shape: OpenAI's, or Anthropic's on /v1/messages."""

import logging
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters_registry import errors as registry_errors
from adapters_registry.errors import RegistryError
from gateway.access import RequestRecord
from gateway.errors import (
    BadRequest,
    Conflict,
    GatewayError,
    InsufficientStorage,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
    RegistryUnavailable,
    SourceUnavailable,
    anthropic_body,
    openai_body,
)

_log = logging.getLogger(__name__)
_PROBLEMS_SHOWN = 5
_DATABASE_RETRY_S = 2
_REGISTRY_ERRORS: dict[type[RegistryError], tuple[type[GatewayError], str]] = {
    registry_errors.InvalidName: (BadRequest, "invalid_name"),
    registry_errors.InvalidAdapter: (BadRequest, "invalid_adapter"),
    registry_errors.InvalidProfile: (BadRequest, "invalid_profile"),
    registry_errors.InvalidArchive: (BadRequest, "invalid_archive"),
    registry_errors.InvalidSource: (BadRequest, "invalid_source"),
    registry_errors.SourceUnavailable: (SourceUnavailable, "source_unavailable"),
    registry_errors.UnknownTenant: (NotFound, "not_found"),
    registry_errors.UnknownKey: (NotFound, "not_found"),
    registry_errors.UnknownAdapter: (NotFound, "not_found"),
    registry_errors.UnknownVersion: (NotFound, "not_found"),
    registry_errors.AlreadyExists: (Conflict, "already_exists"),
    registry_errors.IllegalMove: (Conflict, "illegal_move"),
    registry_errors.StaleRevision: (PreconditionFailed, "stale_revision"),
}


def install(app: FastAPI) -> None:
    """Gives `app` its error handlers and, innermost of its middleware, the boundary for bugs."""
    for kind in (GatewayError, RegistryError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _answer)
    app.add_middleware(ErrorBoundary)


def error_response(scope: Scope, error: GatewayError, status: int | None = None) -> JSONResponse:
    """The answer to a failed request, in the shape that its route's clients expect."""
    record = _record(scope)
    if record is not None:
        record.error_code = error.code
    body = error_body(error, scope["path"], record.request_id if record else None)
    return JSONResponse(body, status or error.status, error.headers())


def error_body(error: GatewayError, path: str, request_id: str | None) -> dict[str, Any]:
    """The error in the shape that clients of this path expect."""
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return anthropic_body(error, request_id)
    return openai_body(error)


def validation_error(error: RequestValidationError | ValidationError) -> BadRequest:
    """Names the fields at fault; never repeats what the client sent in them."""
    problems = error.errors()
    lines = [_describe(problem) for problem in problems[:_PROBLEMS_SHOWN]]
    if len(problems) > _PROBLEMS_SHOWN:
        lines.append(f"and {len(problems) - _PROBLEMS_SHOWN} more")
    return BadRequest("; ".join(lines), param=_field(problems[0]["loc"]), code="invalid_request")


def translate(error: Exception) -> GatewayError:
    """The gateway's own error for any exception; for a bug, one that tells nothing of it."""
    match error:
        case GatewayError():
            return error
        case RequestValidationError():
            return validation_error(error)
        case registry_errors.OutcomeUnknown():
            return RegistryUnavailable(
                "The registry's database went away while it wrote the change. Look whether it was "
                "made before you try again.",
                retry_after_s=_DATABASE_RETRY_S,
            )
        case registry_errors.DatabaseUnavailable():
            return RegistryUnavailable(
                "The registry's database does not answer. Nothing was changed; try again.",
                retry_after_s=_DATABASE_RETRY_S,
            )
        case registry_errors.StorageError():
            return InsufficientStorage(
                "The registry could not write or read its files: the disk is full or damaged. "
                "Nothing was changed; the operator must look at the data directory."
            )
        case RegistryError():
            return _from_registry(error)
        case HTTPException():
            return _from_http(error)
    return GatewayError(
        "The gateway failed on this request. The operator finds the reason in its log.",
        code="internal_error",
    )


class ErrorBoundary:
    """Answers 500 where a bug got through, and logs where it is.

    The exception stops here, since the server would log it whole.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            record = _record(scope)
            route = getattr(scope.get("route"), "path", "no route")
            log_bug(error, scope["method"], route, record.request_id if record else None)
            if not started:
                await error_response(scope, translate(error))(scope, receive, send)
            elif record is not None:
                # The server sees an answer without an end and closes the connection.
                record.final_status = GatewayError.status


async def _answer(request: Request, error: Exception) -> JSONResponse:
    answer = translate(error)
    if isinstance(error, registry_errors.StorageError | registry_errors.DatabaseUnavailable):
        _log.error("registry: %s: %s", type(error).__name__, error.message)
    if not isinstance(error, HTTPException):
        return error_response(request.scope, answer)
    response = error_response(request.scope, answer, error.status_code)
    response.headers.update(error.headers or {})
    return response


def _from_registry(error: RegistryError) -> GatewayError:
    for kind in type(error).__mro__:
        if kind in _REGISTRY_ERRORS:
            answer, code = _REGISTRY_ERRORS[kind]
            return answer(error.message, param=error.field, code=code)
    return BadRequest(error.message, param=error.field)


def _from_http(error: HTTPException) -> GatewayError:
    if error.status_code == 404:
        return NotFound("There is no such route.", code="unknown_route")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return MethodNotAllowed(f"This route does not take that method; use {allowed}.")
    if error.status_code < 500:
        return BadRequest(error.detail)
    return GatewayError(error.detail)


def _describe(problem: Mapping[str, Any]) -> str:
    field = _field(problem["loc"]) or "body"
    if problem["type"] == "extra_forbidden":
        return f"{field}: not a known field"
    return f"{field}: {problem['msg']}"


def _field(location: Sequence[str | int]) -> str | None:
    """`("body", "scopes", 0)` as `scopes.0`; None for the whole body."""
    parts = location[1:] if location and location[0] in ("body", "path", "query") else location
    # A byte offset, which FastAPI gives for broken JSON, is no field.
    if not parts or all(isinstance(part, int) for part in parts):
        return None
    return ".".join(map(str, parts))


def _record(scope: Scope) -> RequestRecord | None:
    """The access log's record of this request; None where no access log is at the door."""
    record = scope.get("state", {}).get("record")
    return record if isinstance(record, RequestRecord) else None


def log_bug(error: Exception, method: str, route: str, request_id: str | None) -> None:
    """Logs where a bug is. The exception's text may quote a request, so it is left out."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    chain = [type(error).__name__]
    cause = error.__cause__ or error.__context__
    while cause is not None and len(chain) < 8:
        chain.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    _log.error(
        "unexpected %s in %s %s\n%s",
        " from ".join(chain),
        method,
        route,
        frames,
        extra={"fields": {"request_id": request_id}},
    )
