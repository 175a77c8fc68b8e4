"""The engine's answer on its way to the client: bytes through, followed but not rewritten.

A plain answer goes out whole, once its end has arrived. A stream goes out as it comes; where it
breaks off, the client gets one error event and a proper end.
"""

import asyncio
from typing import Any

import msgspec

from gateway.access import RequestRecord
from gateway.client import Client
from gateway.config import Timeouts
from gateway.destination import Destination
from gateway.engine_call import EngineCall
from gateway.engine_errors import from_engine
from gateway.errors import EngineFailed, EngineTimeout, GatewayError, ShuttingDown
from gateway.metrics import CallSeries
from gateway.routes import GENERATING, Route
from gateway.sample import Kept
from gateway.sse import EventTooLarge, tokens_of
from gateway.stream import Stream
from gateway.upstream import Response, UpstreamError, UpstreamTimeout

_MAX_PLAIN_BYTES = 64 * 2**20
_LARGE_BYTES = 2**20
_MAX_ERROR_BYTES = 2**20
_BROKEN = 502
_COLD = b"x-loraplex-cold-start: true\r\n"


class _Answer(msgspec.Struct):
    """What is looked at in a plain answer; the rest is skipped by the parser."""

    model: str | None = None
    usage: dict[str, Any] | None = None


class Relay:
    """Carries one answer to its client."""

    __slots__ = (
        "_client",
        "_destination",
        "_idle_s",
        "_kept",
        "_record",
        "_requested",
        "_route",
        "_series",
    )

    def __init__(
        self,
        client: Client,
        record: RequestRecord,
        series: CallSeries,
        route: Route,
        destination: Destination,
        requested: str,
        timeouts: Timeouts,
        kept: Kept,
    ) -> None:
        """requested: the model's name in the client's words. kept: takes what is to be judged."""
        self._client = client
        self._record = record
        self._series = series
        self._route = route
        self._destination = destination
        self._requested = requested
        self._idle_s = timeouts.idle_s
        self._kept = kept

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
            engine_name=self._destination.target.engine_name,
            requested=self._requested,
        )

    async def _plain(self, response: Response) -> None:
        body = await self._read(response, _MAX_PLAIN_BYTES)
        # A large one is parsed beside the loop, where it stalls no stream.
        in_thread = len(body) > _LARGE_BYTES
        answer = await asyncio.to_thread(_parsed, body) if in_thread else _parsed(body)
        self._check_model(answer.model)
        if answer.usage is not None:
            self._record.prompt_tokens, self._record.completion_tokens = tokens_of(answer.usage)
        self._kept.add(body)
        self._record.sent_status = 200
        self._client.answer(b"content-type: application/json\r\n" + self._head(), body)

    async def _read(self, response: Response, limit_bytes: int) -> bytes:
        try:
            return await response.read(self._idle_s, limit_bytes)
        except UpstreamError as error:
            raise _told(error) from error

    def _check_model(self, model: str | None) -> None:
        # The last line of defence against a base answer under an adapter's name.
        if model != self._destination.target.engine_name and (
            model is not None or self._route in GENERATING
        ):
            raise EngineFailed("The engine answered as another model; the answer was dropped.")

    async def _stream(self, response: Response, call: EngineCall) -> None:
        client = self._client
        stream = Stream(
            client,
            self._record,
            self._series,
            self._route,
            engine_name=self._destination.engine_name_json,
            head=self._head(),
            hide_usage=call.hide_usage,
            kept=self._kept,
        )
        client.on_flow(response.pause, response.resume)
        problem: GatewayError | None = None
        try:
            await response.pipe(stream.take, self._idle_s)
            stream.check_end()
        except (UpstreamError, EventTooLarge) as error:
            problem = _told(error)
        except GatewayError as error:
            problem = error
        except asyncio.CancelledError:
            if client.started and not client.gone:  # The gateway's own end.
                stream.end(ShuttingDown("The gateway is shutting down; the answer is incomplete."))
            raise
        finally:
            stream.settle()
        if problem is not None:
            if not client.started:
                raise problem
            self._record.final_status, self._record.error_code = _BROKEN, problem.code
        stream.end(problem)

    def _head(self) -> bytes:
        """The header lines of every answer. They tell a tenant of its own request alone: a cold
        start is of the version that it asked for, and the wait shows in its latency anyhow.
        """
        record = self._record
        return b"%bx-request-id: %b\r\nserver-timing: queue;dur=%.3f\r\n%b" % (
            self._destination.head,
            record.request_id.encode(),
            1e3 * (record.queue_s or 0.0),
            _COLD if record.cold_start else b"",
        )


def _told(error: Exception) -> GatewayError:
    if isinstance(error, UpstreamTimeout):
        return EngineTimeout("The engine was silent for too long; the answer is incomplete.")
    return EngineFailed("The engine broke off; the answer is incomplete.")


_DECODER = msgspec.json.Decoder(_Answer)


def _parsed(body: bytes) -> _Answer:
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EngineFailed("The engine's answer was not a JSON object.") from None
