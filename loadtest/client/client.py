"""Sends requests over kept connections and tells what became of each.

Nothing is raised for what a server or the network does: every failure is a Reply.
"""

import asyncio
import errno
import math
import os
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Self

from loadtest.client.clock import Clock, Handle
from loadtest.client.connection import Connection
from loadtest.client.exchange import Exchange
from loadtest.client.reply import Reply, Timeouts
from loadtest.client.target import Target
from loadtest.samples import Outcome

_CONNECTS_AT_ONCE = 256
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
REFUSED = "connection refused"
NO_HOST = "no such host"


@dataclass(frozen=True, slots=True)
class Call:
    """A request to be sent."""

    route: str
    tenant: str
    body: bytes
    stream: bool
    words: bool = False
    """Keep what the answer says."""


class Client:
    """All connections to one target. Belongs to the event loop that it is first used in."""

    def __init__(
        self,
        target: Target,
        clock: Clock,
        timeouts: Timeouts | None = None,
        *,
        max_connections: int = 10_000,
        requests_per_connection: int | None = None,
    ) -> None:
        """max_connections: so many requests are under way at most; more wait, and `waits` counts
        them. requests_per_connection: then it is closed, so that a balancer can spread the load.

        Raises TargetError.
        """
        self._target = target
        self._clock = clock
        self._timeouts = timeouts or Timeouts()
        self._ssl = target.ssl_context()
        self._max_connections = max_connections
        self._uses = requests_per_connection
        self._heads: dict[tuple[str, str], bytes] = {}
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._addresses: list[tuple[str, int]] | None = None
        self._slots = asyncio.Semaphore(_CONNECTS_AT_ONCE)
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._exchanges: set[Exchange] = set()
        self._connecting: set[asyncio.Task[Connection]] = set()
        self._cancelled = False
        self.in_flight = 0
        self.waits = 0
        """Requests that had to wait because `max_connections` were in use."""
        self.out_of_files = 0
        """Connections that this machine, not the server, could not make."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def open_connections(self) -> int:
        """In use or kept."""
        return len(self._all)

    async def ask(self, call: Call) -> Reply:
        """Sends it and returns when the answer has come, or will not come."""
        if not await self._enter():
            return Reply("cancelled", error="cancelled", ended_s=self._clock.now())
        try:
            reply = await self._ask(call, self._clock.now())
        finally:
            self._leave()
        key = self._target.key_of(call.tenant)
        if key and reply.error and key in reply.error:
            reply.error = reply.outcome
        return reply

    def cancel(self) -> None:
        """Ends all that is under way, and all that comes later, as cancelled."""
        self._cancelled = True
        now_s = self._clock.now()
        for exchange in list(self._exchanges):
            exchange.fail("cancelled", "cancelled", now_s)
        for task in list(self._connecting):
            task.cancel()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(False)
        self._waiting.clear()

    async def close(self) -> None:
        """Cancels what is under way and closes every connection."""
        self.cancel()
        for connection in list(self._all):
            connection.abort()
        for _ in range(2):
            await asyncio.sleep(0)  # The transports report their end, TLS in its second round.

    async def _ask(self, call: Call, sent_s: float) -> Reply:
        request = self._request(call)
        kept = self._take()
        if kept is not None:
            exchange = await self._exchange(kept, call, request, sent_s)
            if not _was_stale(exchange):
                return _reply(exchange)
        connection = await self._connect(sent_s)
        if isinstance(connection, Reply):
            return connection
        return _reply(await self._exchange(connection, call, request, sent_s))

    async def _exchange(
        self, connection: Connection, call: Call, request: bytes, sent_s: float
    ) -> Exchange:
        done = asyncio.get_running_loop().create_future()
        exchange = Exchange(done, sent_s, stream=call.stream, words=call.words)
        self._exchanges.add(exchange)
        watch = _Watch(exchange, self._clock, self._timeouts)
        try:
            connection.send(request, exchange)
            await done
        finally:
            watch.stop()
            self._exchanges.discard(exchange)
            self._give_back(connection)
        return exchange

    def _request(self, call: Call) -> bytes:
        head = self._heads.get((call.tenant, call.route))
        if head is None:
            head = self._target.request_head(call.route, call.tenant)
            self._heads[call.tenant, call.route] = head
        return b"%b%d\r\n\r\n%b" % (head, len(call.body), call.body)

    # connections

    async def _enter(self) -> bool:
        """Waits for leave to send; false where all was cancelled."""
        if self.in_flight >= self._max_connections and not self._cancelled:
            self.waits += 1
            waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            return await waiter
        if self._cancelled:
            return False
        self.in_flight += 1
        return True

    def _leave(self) -> None:
        """Hands the place to the one who has waited longest."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(True)
                return
        self.in_flight -= 1

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable():
                return connection
            connection.abort()
        return None

    def _give_back(self, connection: Connection) -> None:
        spent = self._uses is not None and connection.uses >= self._uses
        if connection.reusable() and not spent and not self._cancelled:
            self._idle.append(connection)
        else:
            connection.abort()

    async def _connect(self, sent_s: float) -> Connection | Reply:
        """A new connection, or how it failed."""
        if self._cancelled:
            return self._given_up(sent_s)
        task = asyncio.get_running_loop().create_task(self._dial())
        self._connecting.add(task)
        expiry = self._clock.call_at(self._clock.now() + self._timeouts.connect_s, task.cancel)
        try:
            await asyncio.wait([task])
        finally:
            expiry.cancel()
            self._connecting.discard(task)
            task.cancel()
        if task.cancelled():
            return self._given_up(sent_s)
        error = task.exception()
        if error is None:
            return task.result()
        if not isinstance(error, OSError | UnicodeError):
            raise error
        return self._unsent("connection", self._reason(error), sent_s)

    async def _dial(self) -> Connection:
        """Tries the host's addresses in turn. Raises OSError or UnicodeError."""
        async with self._slots:
            addresses = await self._resolve()
            for place, (host, port) in enumerate(addresses):
                try:
                    return await self._open(host, port)
                except OSError:
                    if place + 1 == len(addresses):
                        raise
        raise AssertionError("a host has an address")

    async def _open(self, host: str, port: int) -> Connection:
        name = self._target.host if self._ssl is not None else None
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self._clock, self._all.discard),
            host,
            port,
            ssl=self._ssl,
            server_hostname=name,
        )
        self._all.add(connection)
        if connection.closed or self._cancelled:
            connection.abort()
            self._all.discard(connection)
        return connection

    async def _resolve(self) -> list[tuple[str, int]]:
        """The target's addresses, asked once: a look-up a connection would cost a thread each."""
        if self._addresses is None:
            loop, target = asyncio.get_running_loop(), self._target
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            self._addresses = list(dict.fromkeys((str(one[4][0]), target.port) for one in found))
        return self._addresses

    def _given_up(self, sent_s: float) -> Reply:
        """Of a connection that was not made in time, or not waited for."""
        if self._cancelled:
            return self._unsent("cancelled", "cancelled", sent_s)
        return self._unsent("timeout", "connect", sent_s)

    def _unsent(self, outcome: Outcome, error: str, sent_s: float) -> Reply:
        return Reply(outcome, sent_s, self._clock.now(), None, error)

    def _reason(self, error: OSError | UnicodeError) -> str:
        """The kind of a failure to connect."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"certificate: {error.verify_message}"
        if isinstance(error, ssl.SSLError):
            return f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}"
        if isinstance(error, socket.gaierror | UnicodeError):
            return NO_HOST
        if error.errno in _OUT_OF_FILES:
            self.out_of_files += 1
        if isinstance(error, ConnectionRefusedError):
            return REFUSED
        return os.strerror(error.errno).lower() if error.errno else "cannot connect"


class _Watch:
    """Ends an exchange that takes too long, with one timer that follows it."""

    def __init__(self, exchange: Exchange, clock: Clock, timeouts: Timeouts) -> None:
        self._exchange = exchange
        self._clock = clock
        self._timeouts = timeouts
        self._timer: Handle | None = None
        self._look()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        due, now_s = self._exchange.due(self._timeouts), self._clock.now()
        if due is None or self._exchange.reply is not None:
            self._timer = None
        elif due[0] <= now_s:
            self._exchange.fail("timeout", due[1], now_s)
        else:
            # A body that begins meanwhile may be silent for so long at most.
            idle_s = math.inf if self._timeouts.idle_s is None else self._timeouts.idle_s
            self._timer = self._clock.call_at(min(due[0], now_s + idle_s), self._look)


def _was_stale(exchange: Exchange) -> bool:
    """Whether the server had closed the kept connection before it saw the request."""
    return _reply(exchange).outcome == "connection" and exchange.heard_s is None


def _reply(exchange: Exchange) -> Reply:
    assert exchange.reply is not None
    return exchange.reply
