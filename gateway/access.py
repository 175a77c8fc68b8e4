"""One record a request: made at the door, filled in on the way, counted and logged at its end."""

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.logs import RequestLog
from gateway.metrics import NOBODY, CallSeries, Metrics, Subject
from gateway.routes import Route

_log = logging.getLogger("loraplex.request")
CLIENT_CLOSED = 499
SHUTDOWN = 503
_IDS = 256
_ID_BYTES = 16


class RequestRecord(msgspec.Struct):
    """What is known of one request. Holds no key, no prompt and no answer."""

    request_id: str
    method: str
    arrived_at: float = msgspec.field(default_factory=time.perf_counter)
    """perf_counter seconds."""
    route: Route | None = None
    """None: not an inference route."""
    path_template: str | None = None
    subject: Subject = NOBODY
    series: CallSeries | None = None
    """Where the subject's calls are counted, once the subject is known."""
    key_id: str | None = None
    engine: str | None = None
    streamed: bool = False
    sent_status: int | None = None
    """The HTTP status that went out."""
    final_status: int | None = None
    """Where it differs: 499 for a client that went away, 502 for an answer that broke off."""
    error_code: str | None = None
    queue_s: float | None = None
    """From the arrival until the call could go to the engine, the adapter's load within it."""
    cold_start: bool = False
    """Whether the adapter had to be loaded for it first."""
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
        status = self.status
        if status == CLIENT_CLOSED:
            return "cancelled"
        if self.final_status is not None:
            return "broken"
        if status >= 500:
            return "failed"
        return "refused" if status >= 400 else "served"

    def elapsed_s(self) -> float:
        """Seconds since the request arrived."""
        return time.perf_counter() - self.arrived_at


class AccessLog:
    """Gives each request its record, and its one end: counted once and logged once."""

    def __init__(self, metrics: Metrics, request_log: RequestLog | None = None) -> None:
        """request_log: takes the lines instead of the logger `loraplex.request`."""
        self._metrics = metrics
        self._log = request_log or _log_line
        self._ids: list[str] = []

    def begin(self, method: str) -> RequestRecord:
        """A record for a request that has just arrived; to be given to `end`."""
        if not self._ids:
            # Many at once: the system call costs as much as the rest of the record.
            random = os.urandom(_IDS * _ID_BYTES).hex(" ", _ID_BYTES)
            self._ids = random.split(" ")
        return RequestRecord(self._ids.pop(), method)

    def end(self, record: RequestRecord) -> None:
        """Counts and logs a request."""
        duration_s = record.elapsed_s()
        if record.route is not None:
            self._count(record, record.route, duration_s)
        else:
            self._metrics.other_requests.labels(
                record.method, record.path_template or "", str(record.status)
            ).inc()
        quiet = record.path_template in ("/livez", "/readyz")
        self._log(logging.DEBUG if quiet else logging.INFO, _fields(record, duration_s))

    def _count(self, record: RequestRecord, route: Route, duration_s: float) -> None:
        series = record.series or self._metrics.call(record.subject, route)
        series.count(record.status)
        series.duration.observe(duration_s)
        if record.queue_s is not None:
            series.queue.observe(record.queue_s)
        if record.ttft_s is not None:
            series.ttft.observe(record.ttft_s)
        if record.prompt_tokens:
            series.prompt_tokens.inc(record.prompt_tokens)
        if record.completion_tokens:
            series.count_tokens(record.completion_tokens, record.estimated)


class Recorded:
    """Plain ASGI around the application: the record of every request that is not relayed."""

    def __init__(self, app: ASGIApp, access: AccessLog) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = self._access.begin(scope["method"])
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
            record.final_status = record.final_status or SHUTDOWN
            raise
        except Exception:
            record.final_status = record.final_status or 500
            raise
        finally:
            # The template, not the path: a path may hold anything.
            record.path_template = getattr(scope.get("route"), "path", None)
            self._access.end(record)


def _log_line(level: int, fields: Mapping[str, Any]) -> None:
    _log.log(level, "request", extra={"fields": dict(fields)})


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
    tenant, adapter, version = record.subject
    fields |= {
        "route": record.route,
        "tenant": tenant,
        "adapter": adapter,
        "version": version,
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
