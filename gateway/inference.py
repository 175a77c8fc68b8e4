"""One inference request from end to end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response as HTTPResponse
from starlette.types import Receive, Scope, Send

from gateway.access import CLIENT_CLOSED, RequestRecord, request_record
from gateway.auth import Caller
from gateway.client_body import ClientGone, read_body, until_gone
from gateway.config import Settings
from gateway.engine import Engine
from gateway.engine_call import EngineCall, cache_salt, engine_call, without_own_fields
from gateway.errors import EngineUnavailable, GatewayError, Overloaded
from gateway.feedback import Completions
from gateway.fields import check
from gateway.http_guard import ABORT
from gateway.json_body import parse_body
from gateway.metrics import Metrics
from gateway.profiles import apply_profile
from gateway.quality import Quality, Sample, expected_json
from gateway.relay import Relay
from gateway.resolve import Target, resolve
from gateway.routes import Route
from gateway.snapshots import Snapshots
from gateway.upstream import Response

_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request as ASGI gives it, and who makes it."""

    route: Route
    caller: Caller
    record: RequestRecord
    receive: Receive
    send: Send
    abort: Callable[[], None]
    """Ends the connection at once."""


class Inference:
    """Serves inference requests with the parts it is given; counts the calls in flight."""

    def __init__(
        self,
        settings: Settings,
        base_name: str,
        salt_secret: bytes,
        snapshots: Snapshots,
        engine: Engine,
        metrics: Metrics,
        quality: Quality,
        completions: Completions,
    ) -> None:
        self._settings = settings
        self._base_name = base_name
        self._salt_secret = salt_secret
        self._snapshots = snapshots
        self._engine = engine
        self._metrics = metrics
        self._quality = quality
        self._completions = completions
        self._in_flight = 0

    async def serve(self, exchange: Exchange) -> None:
        """Answers one request.

        Raises GatewayError while nothing was sent. Where the client goes away, the work for it is
        cancelled, which closes the call to the engine.
        """
        record = exchange.record
        try:
            limits, timeouts = self._settings.limits, self._settings.timeouts
            raw = await read_body(exchange.receive, limits.body_bytes, timeouts.body_s)
            body = parse_body(raw, limits)
            del raw
            answer = asyncio.create_task(self._answer(exchange, body))
            gone = asyncio.create_task(until_gone(exchange.receive))
            try:
                await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    raise ClientGone
                await answer
            finally:
                await _end(answer, gone)
        except ClientGone:
            record.final_status = CLIENT_CLOSED
            exchange.abort()
        except GatewayError as error:
            record.error_code = error.code
            raise

    async def _answer(self, exchange: Exchange, body: dict[str, Any]) -> None:
        route, record = exchange.route, exchange.record
        requested = str(body["model"])
        tenant = exchange.caller.tenant
        assert tenant is not None
        target = resolve(self._snapshots.current, tenant, requested, self._base_name)
        record.subject, record.engine = target.subject, self._engine.id
        check(route, body, self._settings.limits)
        call = self._engine_call(route, body, target, record)
        record.streamed = call.streamed
        relay = Relay(
            exchange.send,
            record,
            route,
            target,
            requested,
            self._metrics,
            self._settings.timeouts,
        )
        async with self._place(record), self._engine.lease(target.version):
            record.queue_s = record.elapsed_s()
            with await self._open(call, target) as response:
                await relay.run(response, call)
        if record.final_status is None:  # What broke off says nothing of the version.
            self._remember(exchange, body, target, relay.kept)

    def _engine_call(
        self, route: Route, body: dict[str, Any], target: Target, record: RequestRecord
    ) -> EngineCall:
        sent = without_own_fields(route, body)
        if target.version is not None:
            sent = apply_profile(route, sent, target.version.profile)
        salt = cache_salt(self._salt_secret, target.tenant)
        return engine_call(route, sent, target, request_id=record.request_id, salt=salt)

    @contextlib.asynccontextmanager
    async def _place(self, record: RequestRecord) -> AsyncIterator[None]:
        """Holds one of the places for calls in flight. Raises Overloaded."""
        if self._in_flight >= self._settings.max_in_flight:
            raise Overloaded(
                "The gateway has as many calls in flight as it takes; try again.", retry_after_s=1
            )
        assert record.route is not None
        gauge = self._metrics.in_flight.labels(*record.subject, record.route.value)
        self._in_flight += 1
        gauge.inc()
        try:
            yield
        finally:
            self._in_flight -= 1
            gauge.dec()

    async def _open(self, call: EngineCall, target: Target) -> Response:
        """Sends the call. An engine that lost the adapter gets it again, once."""
        response = await self._send(call)
        if response.status != _NOT_FOUND or target.version is None:
            return response
        response.release()
        self._engine.lost(target.version)
        await self._engine.ensure_loaded(target.version)
        response = await self._send(call)
        if response.status == _NOT_FOUND:
            response.release()
            raise EngineUnavailable("The engine does not keep the adapter.", retry_after_s=5)
        return response

    async def _send(self, call: EngineCall) -> Response:
        return await self._engine.open(b"POST", call.path, headers=call.headers, body=call.body)

    def _remember(
        self, exchange: Exchange, body: dict[str, Any], target: Target, content: bytes
    ) -> None:
        if exchange.route is Route.COUNT_TOKENS:
            return
        tenant, adapter, version = target.subject
        self._completions.record(exchange.record.request_id, tenant, adapter, version)
        wants_json, schema = expected_json(exchange.route, body)
        self._quality.offer(
            Sample(
                route=exchange.route,
                tenant=tenant,
                adapter=adapter,
                version=version,
                streamed=exchange.record.streamed,
                content=content,
                wants_json=wants_json,
                json_schema=schema,
            )
        )


async def _end(*tasks: asyncio.Task[None]) -> None:
    """Cancels what still runs and waits until it has let go of all it held."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


class InferenceResponse(HTTPResponse):
    """The hand-over from a FastAPI route to the relay: from here on the request is plain ASGI."""

    def __init__(self, inference: Inference, route: Route, caller: Caller) -> None:
        super().__init__()
        self._inference = inference
        self._route = route
        self._caller = caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = request_record(scope)
        abort = scope.get("extensions", {}).get(ABORT, {}).get("now", _nothing)
        exchange = Exchange(self._route, self._caller, record, receive, send, abort)
        await self._inference.serve(exchange)


def _nothing() -> None:
    """Where the server offers no way to end a connection."""
