"""One stream on its way to the client, and what is learnt from it as it passes.

`take` is called for every piece of the engine's answer, from within the event loop's own read: what
it does is the gateway's cost for a token.
"""

import time

from gateway.access import RequestRecord
from gateway.client import Client
from gateway.errors import EngineFailed, GatewayError, anthropic_body, openai_body
from gateway.metrics import CallSeries
from gateway.routes import Route
from gateway.sample import Kept
from gateway.sse import EventStream, error_event

_HEAD = (
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\n"
    b"x-accel-buffering: no\r\n"
)
_MODEL = b'"model":'


class Stream:
    """Follows one stream, checks that the right version speaks, and writes it on."""

    __slots__ = (
        "_client",
        "_events",
        "_head",
        "_kept",
        "_last_s",
        "_name",
        "_named",
        "_record",
        "_route",
        "_series",
        "_tokens",
    )

    def __init__(
        self,
        client: Client,
        record: RequestRecord,
        series: CallSeries,
        route: Route,
        *,
        engine_name: bytes,
        head: bytes,
        hide_usage: bool,
        kept: Kept,
    ) -> None:
        """engine_name: as a JSON string. head: the header lines that every answer carries."""
        self._client = client
        self._record = record
        self._series = series
        self._route = route
        self._name = _MODEL + engine_name
        self._named = False
        self._head = _HEAD + head
        self._events = EventStream(route, hide_usage=hide_usage)
        self._kept = kept
        self._tokens = 0
        self._last_s = 0.0

    def take(self, chunk: bytes) -> None:
        """Writes on what can go on now.

        Raises EngineFailed where the engine spoke as another model or sent an error of its own,
        and EventTooLarge.
        """
        events = self._events
        block = events.feed(chunk)
        if block:
            if not self._named:
                self._check_name(block)
            client = self._client
            if not client.started:
                client.start(self._head)
                self._record.sent_status = 200
            if events.token_events > self._tokens:
                self._tick(events.token_events)
            self._kept.add(block)
            client.write(block)
        if events.failed:
            raise EngineFailed("The engine failed; the answer is incomplete.")

    def check_end(self) -> None:
        """To be called when the engine has ended its answer. Raises EngineFailed if too early."""
        if not self._events.ended:
            raise EngineFailed("The engine ended the answer early.")

    def end(self, problem: GatewayError | None = None) -> None:
        """Ends the client's answer, with an error event where there was a problem."""
        if problem is not None:
            self._client.write(
                error_event(
                    self._route,
                    openai_body(problem),
                    anthropic_body(problem, self._record.request_id),
                )
            )
        self._client.end()

    def settle(self) -> None:
        """Notes the tokens on the record: the engine's count, or of a broken-off answer ours."""
        record, events = self._record, self._events
        if events.usage is not None:
            record.prompt_tokens = events.usage.prompt_tokens
        if events.usage is not None and events.ended:
            record.completion_tokens = events.usage.completion_tokens
        else:
            record.estimated = True
            record.completion_tokens = events.token_events

    def _check_name(self, block: bytes) -> None:
        """The last line of defence against a base answer under an adapter's name."""
        if self._name in block:
            self._named = True
        elif _MODEL in block or self._events.token_events:
            raise EngineFailed("The engine answered as another model; the answer was dropped.")

    def _tick(self, token_events: int) -> None:
        now = time.perf_counter()
        if self._tokens:
            # Tokens that came together share the time since the last ones.
            new = token_events - self._tokens
            self._series.itl.observe((now - self._last_s) / new, new)
        else:
            self._record.ttft_s = now - self._record.arrived_at
        self._tokens = token_events
        self._last_s = now
