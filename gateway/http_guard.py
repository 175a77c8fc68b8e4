"""uvicorn's HTTP protocol with the limits it lacks: time and size of headers, time to end a body.

A connection is closed when
- a request's header block is not complete `headers_s` after the connection opened, or, on a
  connection kept alive, after the first byte of the next request. Between requests uvicorn's own
  `timeout_keep_alive` holds;
- a request's URL and headers are larger than `header_bytes` (431);
- an answer is complete and the rest of that request's body does not come within `headers_s`. Until
  then uvicorn reads and drops it, so that a client refused in mid-upload can read why.
"""

import asyncio
import json
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.errors import BadRequest, GatewayError, openai_body

_HEADER_BYTES = 64 * 2**10


ABORT = "loraplex.abort"
"""The extension in a request's scope that ends its connection at once."""


def guarded_protocol(headers_s: float, header_bytes: int = _HEADER_BYTES) -> type[asyncio.Protocol]:
    """The class for `uvicorn.Config(http=...)`, with its limits bound."""

    class Bound(GuardedProtocol):
        limit_s = headers_s
        limit_bytes = header_bytes

    return Bound


class HeadersTooLarge(GatewayError):
    """A request whose URL and headers are over the limit."""

    status = 431
    type = "invalid_request_error"
    default_code = "headers_too_large"


class GuardedProtocol(HttpToolsProtocol):
    """One connection. Subclasses bind the limits."""

    limit_s: float
    limit_bytes: int

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._timer: asyncio.TimerHandle | None = None
        self._in_headers = False
        self._in_message = False
        self._messages = 0
        self._parsed_bytes = 0
        self._unparsed_bytes = 0
        self._too_large = False

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._in_message and self._timer is None:
            # Also for stray line ends, with which the parser begins no message.
            self._start_timer()
        before = self._messages if self._in_headers else None
        super().data_received(data)
        if self._in_headers and self._messages == before:
            self._count_unparsed(len(data))

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn where the parser gave up, so also where a callback here did."""
        if not self._answer_is_owed_to_another():
            self._disown_request()
            self.transport.write(_raw_answer(self._refusal()))
        self.transport.close()

    # The parser's callbacks

    def on_message_begin(self) -> None:
        self._messages += 1
        self._in_message = self._in_headers = True
        self._parsed_bytes = self._unparsed_bytes = 0
        self._start_timer()
        super().on_message_begin()
        # An orderly close would wait for ever on a client that does not read.
        self.scope["extensions"] = {ABORT: {"now": self.transport.abort}}

    def on_url(self, url: bytes) -> None:
        self._count_parsed(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_parsed(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_message = False
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_message and not self._in_headers:
            self._start_timer()

    # The limits

    def _count_parsed(self, size_bytes: int) -> None:
        self._parsed_bytes += size_bytes
        if self._parsed_bytes > self.limit_bytes:
            self._too_large = True
            raise ValueError("headers too large")

    def _count_unparsed(self, size_bytes: int) -> None:
        """Counts a chunk that lies wholly within a header block, which the parser only gathers."""
        self._unparsed_bytes += size_bytes
        if self._unparsed_bytes > self.limit_bytes and not self.transport.is_closing():
            self._too_large = True
            self.send_400_response("")

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self.limit_s, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        answering = cycle is not None and not cycle.response_complete
        if self.flow.read_paused or (answering and not self._in_message):
            # It is us who do not read, or who owe an answer: a stray line end cannot cut it off.
            self._start_timer()
            return
        self._timer = None
        self.transport.abort()

    def _answer_is_owed_to_another(self) -> bool:
        """Whether a refusal now would be read as, or within, the answer to another request."""
        cycle: RequestResponseCycle | None = self.cycle
        if self.pipeline:
            return True
        if cycle is None or cycle.response_complete:
            return False
        in_its_body = self._in_message and not self._in_headers
        return cycle.response_started or not in_its_body

    def _disown_request(self) -> None:
        """To the application, a request whose body broke off is a client that went away."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    def _refusal(self) -> GatewayError:
        if self._too_large:
            return HeadersTooLarge(f"The URL and headers are larger than {self.limit_bytes} bytes.")
        return BadRequest("This is not a valid HTTP/1.1 request.", code="invalid_http")


def _raw_answer(error: GatewayError) -> bytes:
    body = json.dumps(openai_body(error)).encode()
    reason = b"Bad Request" if error.status == 400 else b"Request Header Fields Too Large"
    return (
        b"HTTP/1.1 %d %s\r\n" % (error.status, reason)
        + b"content-type: application/json\r\nconnection: close\r\n"
        + b"content-length: %d\r\n\r\n" % len(body)
        + body
    )
