"""One inference request from end to end."""

import asyncio
from typing import Any

import msgspec

from adapters_registry.types import Version
from gateway.access import CLIENT_CLOSED, RequestRecord
from gateway.auth import Caller
from gateway.client import Client, ClientGone
from gateway.config import Settings
from gateway.destination import Destination, Destinations
from gateway.engine import Engine
from gateway.engine_call import EngineCall, engine_call, without_own_fields
from gateway.errors import EngineUnavailable, GatewayError, Overloaded
from gateway.feedback import Completions
from gateway.fields import check
from gateway.json_body import parse_body
from gateway.metrics import CallSeries, Metrics
from gateway.profiles import apply_profile
from gateway.quality import Quality, expected_json
from gateway.relay import Relay
from gateway.resolve import Target
from gateway.routes import GENERATING, Route
from gateway.sample import Kept, Sample
from gateway.snapshots import Snapshots
from gateway.upstream import Response

_NOT_FOUND = 404


class Exchange(msgspec.Struct, frozen=True):
    """One request, who makes it, and the way back."""

    route: Route
    caller: Caller
    record: RequestRecord
    client: Client


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
        self._destinations = Destinations(base_name, salt_secret)
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
        record, client = exchange.record, exchange.client
        client.cancels = True
        try:
            await self._answer(exchange)
        except (asyncio.CancelledError, ClientGone, GatewayError) as error:
            if isinstance(error, asyncio.CancelledError):
                if not client.gone:
                    raise  # The gateway's own end.
                client.task.uncancel()
            if isinstance(error, GatewayError) and not client.gone:
                record.error_code = error.code
                raise
            record.final_status = CLIENT_CLOSED
        finally:
            client.cancels = False

    async def _answer(self, exchange: Exchange) -> None:
        route, record, settings = exchange.route, exchange.record, self._settings
        raw = await exchange.client.body(settings.limits.body_bytes, settings.timeouts.body_s)
        body = parse_body(raw, settings.limits)
        requested: str = body["model"]
        tenant = exchange.caller.tenant
        assert tenant is not None
        destination = self._destinations.find(self._snapshots.current, tenant, requested)
        target = destination.target
        record.subject, record.engine = target.subject, self._engine.id
        check(route, body, settings.limits)
        call = self._engine_call(route, body, destination, record)
        record.streamed = call.streamed
        record.series = series = self._metrics.call(target.subject, route)
        kept = Kept(wanted=self._quality.has_room)
        relay = Relay(
            exchange.client, record, series, route, destination, requested, settings.timeouts, kept
        )
        self._enter(series)
        try:
            with self._engine.hold(target.version) as resident:
                if not resident and target.version is not None:
                    await self._load(target.version, record)
                record.queue_s = record.elapsed_s()
                with await self._open(call, target, record) as response:
                    await relay.run(response, call)
        finally:
            self._leave(series)
        if record.final_status is None:  # What broke off says nothing of the version.
            self._remember(exchange, body, target, kept.take())

    def _engine_call(
        self, route: Route, body: dict[str, Any], destination: Destination, record: RequestRecord
    ) -> EngineCall:
        target = destination.target
        sent = without_own_fields(route, body)
        if destination.profile is not None:
            sent = apply_profile(route, sent, destination.profile)
        return engine_call(
            route, sent, target, request_id=record.request_id, salt=destination.cache_salt
        )

    def _enter(self, series: CallSeries) -> None:
        """Takes one of the places for calls in flight, until `_leave`. Raises Overloaded."""
        if self._in_flight >= self._settings.max_in_flight:
            raise Overloaded(
                "The gateway has as many calls in flight as it takes; try again.", retry_after_s=1
            )
        self._in_flight += 1
        series.in_flight.inc()

    def _leave(self, series: CallSeries) -> None:
        self._in_flight -= 1
        series.in_flight.dec()

    async def _load(self, version: Version, record: RequestRecord) -> None:
        record.cold_start = True
        await self._engine.ensure_loaded(version)

    async def _open(self, call: EngineCall, target: Target, record: RequestRecord) -> Response:
        """Sends the call. An engine that lost the adapter gets it again, once."""
        open_call, headers = self._engine.open, call.headers
        response = await open_call(b"POST", call.path, headers=headers, body=call.body)
        if response.status != _NOT_FOUND or target.version is None:
            return response
        response.release()
        self._engine.lost(target.version)
        await self._load(target.version, record)
        record.queue_s = record.elapsed_s()
        response = await open_call(b"POST", call.path, headers=headers, body=call.body)
        if response.status == _NOT_FOUND:
            response.release()
            raise EngineUnavailable("The engine does not keep the adapter.", retry_after_s=5)
        return response

    def _remember(
        self, exchange: Exchange, body: dict[str, Any], target: Target, content: bytes | None
    ) -> None:
        route, record = exchange.route, exchange.record
        if route not in GENERATING:
            return
        self._completions.record(record.request_id, target.subject)
        if content is None:
            self._quality.pass_over()
            return
        tenant, adapter, version = target.subject
        wants_json, schema = expected_json(route, body)
        self._quality.offer(
            Sample(
                route=route,
                tenant=tenant,
                adapter=adapter,
                version=version,
                streamed=record.streamed,
                content=content,
                wants_json=wants_json,
                json_schema=schema,
            )
        )
