"""One record a request: made at the door, filled in on the way, counted and logged at its end."""

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.metrics import NOBODY, Metrics, Subject
from gateway.routes import Route

_log = logging.getLogger("loraplex.request")
CLIENT_CLOSED = 499
_SHUTDOWN = 503


@dataclass(slots=True)
class RequestRecord:
    """What is known of one request. Holds no key, no prompt and no answer."""

    request_id: str
    method: str
    arrived_at: float = field(default_factory=time.perf_counter)
    """perf_counter seconds."""
    route: Route | None = None
    """None: not an inference route."""
    path_template: str | None = None
    subject: Subject = NOBODY
    key_id: str | None = None
    engine: str | None = None
    streamed: bool = False
    sent_status: int | None = None
    """The HTTP status that went out."""
    final_status: int | None = None
    """Where it differs: 499 for a client that went away, 502 for an answer that broke off."""
    error_code: str | None = None
    queue_s: float | None = None
    ttft_s: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    """Whether the token counts are the gateway's own, of an answer that broke off."""

    @property
    def status(self) -> int:
        """The status it is counted under."""
        return self.final_status or self.sent_status or CLIENT_CLOSED

    @property
    def outcome(self) -> str:
        """served, refused, failed, cancelled or broken."""
        if self.status == CLIENT_CLOSED:
            return "cancelled"
        if self.final_status is not None:
            return "broken"
        if self.status >= 500:
            return "failed"
        return "refused" if self.status >= 400 else "served"

    def elapsed_s(self) -> float:
        """Seconds since the request arrived."""
        return time.perf_counter() - self.arrived_at


class AccessLog:
    """Plain ASGI around the application: gives each request its id, and its one end."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(secrets.token_hex(16), scope["method"])
        scope.setdefault("state", {}).update(record=record, request_id=record.request_id)
        request_id = (b"x-request-id", record.request_id.encode())

        async def send_noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.sent_status = message["status"]
                message["headers"] = [*message.get("headers", ()), request_id]
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        except asyncio.CancelledError:
            # Only the end of the gateway cancels a request from outside.
            record.final_status = record.final_status or _SHUTDOWN
            raise
        except Exception:
            record.final_status = record.final_status or 500
            raise
        finally:
            self._end(record, scope)

    def _end(self, record: RequestRecord, scope: Scope) -> None:
        duration_s = record.elapsed_s()
        # The template, not the path: a path may hold anything.
        record.path_template = getattr(scope.get("route"), "path", None)
        if record.route is not None:
            self._count(record, record.route, duration_s)
        else:
            self._metrics.other_requests.labels(
                record.method, record.path_template or "", str(record.status)
            ).inc()
        quiet = record.path_template in ("/livez", "/readyz")
        _log.log(
            logging.DEBUG if quiet else logging.INFO,
            "request",
            extra={"fields": _fields(record, duration_s)},
        )

    def _count(self, record: RequestRecord, route: Route, duration_s: float) -> None:
        self._metrics.note(record.subject)
        call = (*record.subject, route.value)
        self._metrics.requests.labels(*call, str(record.status)).inc()
        self._metrics.duration.labels(*call).observe(duration_s)
        if record.queue_s is not None:
            self._metrics.queue.labels(*call).observe(record.queue_s)
        if record.ttft_s is not None:
            self._metrics.ttft.labels(*call).observe(record.ttft_s)
        if record.prompt_tokens:
            self._metrics.prompt_tokens.labels(*call).inc(record.prompt_tokens)
        if record.completion_tokens:
            estimated = "true" if record.estimated else "false"
            self._metrics.completion_tokens.labels(*call, estimated).inc(record.completion_tokens)


def _fields(record: RequestRecord, duration_s: float) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "request_id": record.request_id,
        "method": record.method,
        "path": record.path_template,
        "status": record.sent_status,
        "outcome": record.outcome,
        "duration_s": round(duration_s, 6),
    }
    if record.key_id is not None:
        fields["key_id"] = record.key_id
    if record.error_code is not None:
        fields["error_code"] = record.error_code
    if record.route is None:
        return fields
    fields |= {
        "route": record.route.value,
        "tenant": record.subject.tenant,
        "adapter": record.subject.adapter,
        "version": record.subject.version,
        "engine": record.engine,
        "streamed": record.streamed,
        "queue_s": _rounded(record.queue_s),
        "ttft_s": _rounded(record.ttft_s),
        "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.completion_tokens,
        "tokens_estimated": record.estimated,
    }
    return fields


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def request_record(scope: Scope) -> RequestRecord:
    """The record that the door made for this request."""
    record = scope["state"]["record"]
    assert isinstance(record, RequestRecord)
    return record
