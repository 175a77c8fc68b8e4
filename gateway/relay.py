"""The engine's answer on its way to the client: bytes through, followed but not rewritten.

A plain answer goes out whole, once its end has arrived. A stream goes out as it comes; where it
breaks off, the client gets one error event and a proper end.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import Message, Send

from gateway.access import RequestRecord
from gateway.client_body import ClientGone
from gateway.config import Timeouts
from gateway.engine_call import EngineCall
from gateway.engine_errors import from_engine
from gateway.errors import EngineFailed, EngineTimeout, GatewayError, anthropic_body, openai_body
from gateway.metrics import Metrics
from gateway.resolve import Target
from gateway.routes import Route
from gateway.sse import EventStream, EventTooLarge, error_event, usage_of
from gateway.upstream import Response, UpstreamError, UpstreamTimeout

_MAX_PLAIN_BYTES = 64 * 2**20
_LARGE_BYTES = 2**20
_MAX_ERROR_BYTES = 2**20
_MAX_KEPT_BYTES = 256 * 1024
_BROKEN = 502


class Relay:
    """Carries one answer. After `run`, `kept` holds its first 256 KiB, to be judged."""

    def __init__(
        self,
        send: Send,
        record: RequestRecord,
        route: Route,
        target: Target,
        requested: str,
        metrics: Metrics,
        timeouts: Timeouts,
    ) -> None:
        self._send = send
        self._record = record
        self._route = route
        self._target = target
        self._requested = requested
        self._metrics = metrics
        self._idle_s = timeouts.idle_s
        self._client_s = timeouts.client_s
        self._kept: list[bytes] = []
        self._kept_bytes = 0

    @property
    def kept(self) -> bytes:
        """The beginning of what was delivered."""
        return b"".join(self._kept)

    async def run(self, response: Response, call: EngineCall) -> None:
        """Carries the answer to its end.

        Raises GatewayError while nothing was sent; later trouble becomes an error event.
        """
        if response.status >= 400:
            raise await self._refusal(response)
        if call.streamed:
            await self._stream(response, call)
        else:
            await self._plain(response)

    async def _refusal(self, response: Response) -> GatewayError:
        body = await self._read(response, _MAX_ERROR_BYTES)
        return from_engine(
            response.status,
            body,
            engine_name=self._target.engine_name,
            requested=self._requested,
        )

    async def _plain(self, response: Response) -> None:
        body = await self._read(response, _MAX_PLAIN_BYTES)
        # A large one is parsed beside the loop, where it stalls no stream.
        in_thread = len(body) > _LARGE_BYTES
        answer = await asyncio.to_thread(_json_object, body) if in_thread else _json_object(body)
        self._check_model(answer)
        if usage := usage_of(answer):
            self._record.prompt_tokens, self._record.completion_tokens = usage
        await self._start(b"application/json", [(b"content-length", b"%d" % len(body))])
        await self._body(body, more=False)

    async def _read(self, response: Response, limit_bytes: int) -> bytes:
        try:
            return await response.read(self._idle_s, limit_bytes)
        except UpstreamError as error:
            raise _told(error) from error

    def _check_model(self, answer: Mapping[str, Any]) -> None:
        # The last line of defence against a base answer under an adapter's name.
        model = answer.get("model")
        if model is not None and model != self._target.engine_name:
            raise EngineFailed("The engine answered as another model; the answer was dropped.")

    async def _stream(self, response: Response, call: EngineCall) -> None:
        events = EventStream(self._route, hide_usage=call.hide_usage)
        clock = _TokenClock(self._record, self._route, self._metrics)
        started = False
        problem: GatewayError | None = None
        try:
            async for chunk in response.chunks(self._idle_s):
                block = events.feed(chunk)
                if not block and not events.failed:
                    continue
                if not started and block:
                    self._check_first(block)
                    await self._start(b"text/event-stream; charset=utf-8", _STREAM_HEADERS)
                    started = True
                clock.tick(events.token_events)
                if block:
                    await self._body(block, more=True)
                if events.failed:
                    problem = EngineFailed("The engine failed; the answer is incomplete.")
                    break
            if not events.ended and problem is None:
                problem = EngineFailed("The engine ended the answer early.")
        except (UpstreamError, EventTooLarge) as error:
            problem = _told(error)
        finally:
            self._count(events)
        if not started and problem is not None:
            raise problem
        if problem is not None:
            self._record.final_status, self._record.error_code = _BROKEN, problem.code
        await self._finish(problem)

    def _check_first(self, block: bytes) -> None:
        if b'"model":' not in block:
            return
        name = b'"model":' + json.dumps(self._target.engine_name).encode()
        if name not in block:
            raise EngineFailed("The engine answered as another model; the answer was dropped.")

    async def _start(self, content_type: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        await self._send_in_time(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", content_type),
                    (b"x-loraplex-version", self._target.label.encode()),
                    *headers,
                ],
            }
        )

    async def _body(self, body: bytes, *, more: bool) -> None:
        if self._kept_bytes < _MAX_KEPT_BYTES:
            self._kept.append(body[: _MAX_KEPT_BYTES - self._kept_bytes])
            self._kept_bytes += len(self._kept[-1])
        await self._send_in_time({"type": "http.response.body", "body": body, "more_body": more})

    async def _finish(self, problem: GatewayError | None) -> None:
        body = b""
        if problem is not None:
            body = error_event(
                self._route,
                openai_body(problem),
                anthropic_body(problem, self._record.request_id),
            )
        await self._send_in_time({"type": "http.response.body", "body": body, "more_body": False})

    async def _send_in_time(self, message: Message) -> None:
        """A client that does not read must not hold an engine's place for ever."""
        try:
            async with asyncio.timeout(self._client_s):
                await self._send(message)
        except TimeoutError:
            raise ClientGone from None

    def _count(self, events: EventStream) -> None:
        record = self._record
        if events.usage is not None and events.ended:
            record.prompt_tokens, record.completion_tokens = events.usage
            return
        record.estimated = True
        record.completion_tokens = events.token_events
        if events.usage is not None:
            record.prompt_tokens = events.usage.prompt_tokens


_STREAM_HEADERS = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


class _TokenClock:
    """Times the first token and the gaps between tokens of one stream."""

    def __init__(self, record: RequestRecord, route: Route, metrics: Metrics) -> None:
        self._record = record
        self._gap = metrics.itl.labels(*record.subject, route.value)
        self._seen = 0
        self._last_s = 0.0

    def tick(self, token_events: int) -> None:
        """token_events: how many came until now."""
        new = token_events - self._seen
        if new <= 0:
            return
        now = time.perf_counter()
        if not self._seen:
            self._record.ttft_s = now - self._record.arrived_at
        else:
            # Tokens that came together share the time since the last ones.
            gap_s = (now - self._last_s) / new
            for _ in range(new):
                self._gap.observe(gap_s)
        self._seen = token_events
        self._last_s = now


def _told(error: Exception) -> GatewayError:
    if isinstance(error, UpstreamTimeout):
        return EngineTimeout("The engine was silent for too long; the answer is incomplete.")
    return EngineFailed("The engine broke off; the answer is incomplete.")


def _json_object(body: bytes) -> Mapping[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        raise EngineFailed("The engine's answer was not JSON.") from None
    if not isinstance(parsed, dict):
        raise EngineFailed("The engine's answer was not a JSON object.")
    return parsed
