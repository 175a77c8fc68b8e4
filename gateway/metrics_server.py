"""The operations listener on the metrics port, on the relay's own event loop.

`/metrics` is rendered there slice by slice, since a second thread would fight the relay for the
interpreter. A few other routes are passed on to the gateway: of several workers on one port, each
can be reached alone only here.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.config import SettingsError, Timeouts
from gateway.errors import GatewayError, MethodNotAllowed, NotFound, openai_body
from gateway.http_guard import guarded_protocol
from gateway.metrics import Metrics
from gateway.preflight import port_problem

_log = logging.getLogger(__name__)

PASSED_ON = frozenset(
    {"/livez", "/readyz", "/v1/feedback", "/admin/v1/refresh", "/admin/v1/in-flight"}
)
"""The paths that the gateway itself answers."""

_HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": ((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),),
}
_METHODS = "GET, HEAD"
_KEEP_ALIVE_S = 75
_STALL_S = 0.0002
_SHARE = 0.1
"""Of the loop's time under load, what a scrape may take."""
_MOST_STALLS = 5
_END_S = 1.0
"""How long answers under way may take once the end has begun."""


class Operations:
    """The listener's ASGI application."""

    def __init__(self, metrics: Metrics, gateway: ASGIApp, stall_s: float) -> None:
        self._stall_s = stall_s
        self._metrics = metrics
        self._gateway = gateway
        self._turn = asyncio.Lock()
        self._others_s = 0.0
        """How long the loop's last turn took without a scrape's part."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in PASSED_ON:
            await self._gateway(scope, receive, send)
        elif error := _refusal(scope):
            allow = {"allow": _METHODS} if error.status == MethodNotAllowed.status else None
            answer = JSONResponse(openai_body(error), error.status, allow)
            await answer(scope, receive, send)
        elif scope["method"] == "HEAD":
            await send(_HEAD)
            await send({"type": "http.response.body"})
        else:
            await self._scrape(receive, send)

    async def _scrape(self, receive: Receive, send: Send) -> None:
        slices = self._metrics.render()
        gone = asyncio.create_task(_until_gone(receive))
        try:
            await send(_HEAD)
            more = True
            while more and not gone.done():
                # However many scrapes there are, the relay waits for one of them at a time.
                async with self._turn:
                    text = self._some(slices)
                    await self._let_others_work()
                more = text is not None
                await send({"type": "http.response.body", "body": text or b"", "more_body": more})
        finally:
            gone.cancel()

    async def _let_others_work(self) -> None:
        began_s = time.perf_counter()
        await asyncio.sleep(0)
        self._others_s = time.perf_counter() - began_s

    def _some(self, slices: Iterator[bytes]) -> bytes | None:
        """What can be rendered while the relay may wait; None after the last slice."""
        until_s = time.perf_counter() + patience_s(self._stall_s, self._others_s)
        some = []
        for text in slices:
            some.append(text)
            if time.perf_counter() >= until_s:
                break
        return b"".join(some) if some else None


class MetricsServer:
    """Listens from `__aenter__` to `__aexit__`."""

    def __init__(
        self,
        metrics: Metrics,
        gateway: ASGIApp,
        *,
        host: str,
        port: int,
        timeouts: Timeouts,
        stall_s: float = _STALL_S,
    ) -> None:
        """gateway: what the routes in PASSED_ON are passed on to. port: 0 picks a free one.

        stall_s: for how long a scrape may keep the relay waiting at a time, see `patience_s`.
        """
        self._host = host
        self._port = port
        self._server = uvicorn.Server(
            uvicorn.Config(
                Operations(metrics, gateway, stall_s),
                http=guarded_protocol(timeouts.headers_s, client_s=timeouts.client_s),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=int(2 * _END_S),
            )
        )
        self._clock: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Where it listens, once it does."""
        return self._port

    async def __aenter__(self) -> Self:
        """Raises SettingsError where the port cannot be listened on."""
        try:
            listener = _listen(self._host, self._port)
        except SettingsError as error:
            # Of an error in its lifespan the gateway's own server shows a traceback only.
            _log.critical("cannot start: %s", error)
            raise
        self._port = listener.getsockname()[1]
        server = self._server
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup([listener])
        self._clock = asyncio.create_task(server.main_loop(), name="metrics server")
        _log.info("metrics on http://%s/metrics", _authority(self._host, self._port))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        if self._clock is not None:
            await self._clock
        patience = asyncio.get_running_loop().call_later(_END_S, self._abort)
        await self._server.shutdown()
        patience.cancel()

    def _abort(self) -> None:
        """Ends the connections whose answers are still under way."""
        for connection in [*self._server.server_state.connections]:
            connection.transport.abort()


def patience_s(stall_s: float, others_s: float) -> float:
    """How long the relay may wait for a scrape now: `stall_s`, or longer where it is busy.

    others_s: how long the loop's last turn took. Where that is long, a scrape in the smallest steps
    would take ages, and a few times `stall_s` is still little beside it.
    """
    return max(stall_s, min(others_s * _SHARE, _MOST_STALLS * stall_s))


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _refusal(scope: Scope) -> GatewayError | None:
    if scope["path"] != "/metrics":
        return NotFound("There is no such route on the metrics port.", code="unknown_route")
    if scope["method"] not in ("GET", "HEAD"):
        return MethodNotAllowed(f"This route does not take that method; use {_METHODS}.")
    return None


def _listen(host: str, port: int) -> socket.socket:
    try:
        return _bound(host, port)
    except OSError as error:
        problem = port_problem("--metrics-port", host, port)
        raise SettingsError(problem or f"--metrics-port {port} on {host}: {error}") from error


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with contextlib.ExitStack() as on_failure:
        listener = on_failure.enter_context(socket.socket(family, kind, protocol))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
        on_failure.pop_all()
        return listener


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
