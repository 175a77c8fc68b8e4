"""The server's side of a connection: uvicorn's HTTP protocol, with the limits it lacks and a lane.

The lane: a request on a relayed route is handed to the relay as a `Client`, without ASGI; all other
requests go uvicorn's way. Requests on one connection are answered one at a time, and one that comes
before the last was answered (pipelining, which no client of these APIs does) ends the connection
after that answer: RFC 9112 lets the client send it again.

A connection is closed when
- a request's header block is not complete `headers_s` after the connection opened, or, on a
  connection kept alive, after the first byte of the next request. Between requests uvicorn's own
  `timeout_keep_alive` holds;
- a request's URL and headers are larger than `header_bytes` (431);
- an answer is complete and the rest of that request's body does not come within `headers_s`. Until
  then it is read and dropped, so that a client refused in mid-upload can read why;
- more of an answer waits than the transport holds, and its client takes less than 64 KiB of it in
  `client_s`; where the answer is the last one, also when less than that waits.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.client import Client
from gateway.errors import BadRequest, GatewayError, openai_body

Serve = Callable[[Client], Coroutine[Any, Any, None]]
Lane = Mapping[tuple[bytes, bytes], Serve]
"""Who serves a method and path."""

_HEADER_BYTES = 64 * 2**10
_CLIENT_S = 60.0
_LEAST_READ_BYTES = 65_536
"""What a client is to read in `client_s`: one that takes a byte now and then holds an engine."""


def guarded_protocol(
    headers_s: float,
    header_bytes: int = _HEADER_BYTES,
    *,
    client_s: float = _CLIENT_S,
    lane: Lane | None = None,
) -> type[asyncio.Protocol]:
    """The class for `uvicorn.Config(http=...)`, with its limits and its lane bound."""

    class Bound(GuardedProtocol):
        limit_s = headers_s
        limit_bytes = header_bytes
        client_limit_s = client_s
        relayed = lane or {}

    return Bound


class HeadersTooLarge(GatewayError):
    """A request whose URL and headers are over the limit."""

    status = 431
    type = "invalid_request_error"
    default_code = "headers_too_large"


class GuardedProtocol(HttpToolsProtocol):
    """One connection. Subclasses bind the limits and the lane."""

    limit_s: float
    limit_bytes: int
    client_limit_s: float
    relayed: Lane

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._timer: asyncio.TimerHandle | None = None
        self._client_timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        """What of an answer was unread when the timer was set."""
        self._keep_alive_timer: asyncio.TimerHandle | None = None
        self._idle_since: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._to_serve: Serve | None = None
        self._asked: asyncio.Future[None] | None = None
        """What the task waits for between two requests."""
        self._client: Client | None = None
        """Of the relayed request that is answered now, or was last."""
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._default_lines = b""
        self._in_headers = False
        self._in_message = False
        self._messages = 0
        self._parsed_bytes = 0
        self._unparsed_bytes = 0
        self._too_large = False
        self._deaf = False
        """Whether what comes now is dropped: a request came before the last was answered."""

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_client_timer()
        if self._keep_alive_timer is not None:
            self._keep_alive_timer.cancel()
        super().connection_lost(exc)
        if self._client is not None:
            self._client.lost()
        self._ask()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._idle_since = None
        before = self._messages
        was_in_headers, was_in_message = self._in_headers, self._in_message
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        except httptools.HttpParserUpgrade as wish:
            self._pass_over(data[wish.args[0] :])
            return
        if self._in_headers and was_in_headers and self._messages == before:
            self._count_unparsed(len(data))
        # Set here and not where a request begins: one that came whole needs no timer. Also for
        # stray line ends, with which the parser begins no message.
        between = not was_in_message and self._messages == before
        if self._timer is None and (self._in_headers or between):
            self._start_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_client()
        if self._client is not None:
            self._client.flow_paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():  # Else the rest is to be read too.
            self._stop_client_timer()
        if self._client is not None:
            self._client.flow_resumed()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def shutdown(self) -> None:
        if self._answers_client():
            assert self._client is not None
            self._client.keep_alive = False
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn where the parser gave up, so also where a callback here did."""
        if self._deaf:
            return
        if not self._has_an_answer():
            self.transport.write(_raw_answer(self._refusal()))
        self._disown_request()
        self._close()

    # What a client needs of its connection

    def default_headers(self) -> bytes:
        """Header lines for every answer."""
        headers = self.server_state.default_headers
        if headers is not self._default_headers:  # The server makes them anew each second.
            self._default_headers = headers
            self._default_lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        return self._default_lines

    def pause_reading(self) -> None:
        """Takes no more of the request for now."""
        self.flow.pause_reading()

    def resume_reading(self) -> None:
        """Goes on taking."""
        self.flow.resume_reading()

    @property
    def write_paused(self) -> bool:
        """Whether the client has not yet read what was written."""
        return self.flow.write_paused

    def answered(self) -> None:
        """A relayed request has its answer."""
        assert self._client is not None
        if not self._client.keep_alive:
            self._close()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._in_message:
            self._start_timer()  # for the rest of its body
        self._await_next()

    # The parser's callbacks

    def on_message_begin(self) -> None:
        # An answer that does not fit into the network's buffers was not read yet.
        if self._answering() or self.flow.write_paused:
            self._refuse_to_pipeline()
            return
        self._messages += 1
        self._in_message = self._in_headers = True
        self._parsed_bytes = self._unparsed_bytes = 0
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_url(self, url: bytes) -> None:
        if self._deaf:
            return
        self._count_parsed(len(url))
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._deaf:
            return
        self._parsed_bytes += len(name) + len(value) + 4  # `: ` and the line end
        if self._parsed_bytes > self.limit_bytes:
            self._count_parsed(0)
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._deaf or self.parser.should_upgrade():
            return
        self._stop_timer()
        method = self.parser.get_method()
        serve = self.relayed.get((method, self.url)) or self.relayed.get((method, _path(self.url)))
        if serve is None:
            self._client = None
            self._enter_asgi()
        else:
            self._enter_lane(serve)
        self._in_headers = False
        self.headers = []  # What comes now are trailers.

    def on_body(self, body: bytes) -> None:
        if self._deaf:
            return
        if self._client is not None:
            self._client.body_arrived(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._deaf or self._in_headers:
            return
        self._in_message = False
        self._stop_timer()
        if self._client is not None:
            self._client.body_ended()
            answered = self._client.complete
        else:
            super().on_message_complete()
            answered = self.cycle.response_complete
        if answered:
            self._await_next()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_what_is_left()
        elif self._in_message and not self._in_headers:
            self._start_timer()

    # The lane

    def _enter_lane(self, serve: Serve) -> None:
        self.cycle = None  # type: ignore[assignment]
        if self._task is None:
            self._task = self.loop.create_task(self._serve())
        modern = self.parser.get_http_version() > "1.0"
        self._client = Client(
            self,
            self.headers,
            self._task,
            keep_alive=modern and self.parser.should_keep_alive(),
            expects_100=modern and self.expect_100_continue,
            chunked=modern,
        )
        self._to_serve = serve
        self.tasks.add(self._task)
        self._ask()

    def _ask(self) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(None)

    async def _serve(self) -> None:
        """Serves the connection's relayed requests: a task for each would cost as much as relaying.

        It is among the server's tasks, which a shutdown waits for, only while it serves.
        """
        assert self._task is not None
        try:
            # What has come is served and counted, even where the connection is lost already.
            while self._to_serve is not None or not self.transport.is_closing():
                if self._to_serve is None:
                    self._asked = self.loop.create_future()
                    await self._asked
                    self._asked = None
                    continue
                serve, self._to_serve = self._to_serve, None
                assert self._client is not None
                try:
                    await serve(self._client)
                except BaseException:
                    self._close()
                    raise
                finally:
                    self.tasks.discard(self._task)
        finally:
            # Each holds the connection: circles that only the collector would find.
            self._task = self._client = None

    def _enter_asgi(self) -> None:
        """Has uvicorn begin the request, which it would have done with its first byte."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        super().on_headers_complete()

    def _answers_client(self) -> bool:
        return self._client is not None and not self._client.complete

    def _refuse_to_pipeline(self) -> None:
        """The answer that is owed is given, and then the connection ends."""
        self._deaf = True
        if not self._answering():
            self._close()
        elif self._client is not None:
            self._client.keep_alive = False
        else:
            self.cycle.keep_alive = False

    def _pass_over(self, rest: bytes) -> None:
        """Reads the request again, without its wish to upgrade: the parser stops at its headers.

        rest: what came behind these.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if self._deaf or method == b"CONNECT":
            self.send_400_response("")
            return
        lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        head = b"%b %b HTTP/%b\r\n" % (method, self.url, version.encode())
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self.data_received(b"%b%b\r\n%b" % (head, b"".join(lines), rest))

    def _close(self) -> None:
        self.transport.close()
        self._watch_what_is_left()

    def _watch_what_is_left(self) -> None:
        """An orderly close waits until the client has read."""
        if self._client_timer is None and self.transport.get_write_buffer_size():
            self._watch_client()

    def _await_next(self) -> None:
        """One timer follows the connection from answer to answer."""
        self._idle_since = self.loop.time()
        if self._keep_alive_timer is None:
            self._keep_alive_timer = self.loop.call_later(self.timeout_keep_alive, self._look_idle)

    def _look_idle(self) -> None:
        self._keep_alive_timer = None
        if self._idle_since is None:
            return  # A request is being answered; its end begins the wait again.
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._keep_alive_timer = self.loop.call_later(left_s, self._look_idle)
        else:
            self.timeout_keep_alive_handler()

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

    def _watch_client(self) -> None:
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._client_timer = self.loop.call_later(self.client_limit_s, self._on_client_timer)

    def _on_client_timer(self) -> None:
        if self._unread_bytes - self.transport.get_write_buffer_size() < _LEAST_READ_BYTES:
            self.transport.abort()
        else:
            self._watch_client()

    def _stop_client_timer(self) -> None:
        if self._client_timer is not None:
            self._client_timer.cancel()
            self._client_timer = None

    def _on_timer(self) -> None:
        if self.flow.read_paused or (self._answering() and not self._in_message):
            # It is us who do not read, or who owe an answer: a stray line end cannot cut it off.
            self._start_timer()
            return
        self._timer = None
        self.transport.abort()

    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return self._answers_client() or (cycle is not None and not cycle.response_complete)

    def _has_an_answer(self) -> bool:
        """Whether a refusal now would be read as the answer to another request, or within one."""
        if self._in_headers or not self._in_message:
            return self._answering()
        return self.cycle.response_started if self._client is None else self._client.started

    def _disown_request(self) -> None:
        """To whoever serves it, a request whose body broke off is a client that went away."""
        cycle: RequestResponseCycle | None = self.cycle
        if self._client is not None:
            self._client.lost()
        elif cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    def _refusal(self) -> GatewayError:
        if self._too_large:
            return HeadersTooLarge(f"The URL and headers are larger than {self.limit_bytes} bytes.")
        return BadRequest("This is not a valid HTTP/1.1 request.", code="invalid_http")


def _path(url: bytes) -> bytes:
    """The path of a request's target, decoded as uvicorn decodes it."""
    path = url if url.startswith(b"/") else httptools.parse_url(url).path or b""
    path = path.partition(b"?")[0].partition(b"#")[0]
    return unquote_to_bytes(path) if b"%" in path else path


def _raw_answer(error: GatewayError) -> bytes:
    body = json.dumps(openai_body(error)).encode()
    reason = b"Bad Request" if error.status == 400 else b"Request Header Fields Too Large"
    return (
        b"HTTP/1.1 %d %s\r\n" % (error.status, reason)
        + b"content-type: application/json\r\nconnection: close\r\n"
        + b"content-length: %d\r\n\r\n" % len(body)
        + body
    )
