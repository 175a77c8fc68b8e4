"""A server's connection that only notes what a `Client` asks of it."""

import asyncio
import contextlib
from typing import cast

from gateway.client import Client


class NotedConnection:
    """The connection and its transport in one."""

    def __init__(self) -> None:
        self.transport = cast(asyncio.Transport, self)
        self.sent = b""
        self.reading = True
        self.aborted = False
        self.answers = 0
        """How many answers came to their end."""
        self.write_paused = False

    def write(self, data: bytes) -> None:
        """As a transport's."""
        self.sent += data

    def abort(self) -> None:
        """As a transport's."""
        self.aborted = True

    def default_headers(self) -> bytes:
        """One header."""
        return b"date: now\r\n"

    def pause_reading(self) -> None:
        """Notes it."""
        self.reading = False

    def resume_reading(self) -> None:
        """Notes it."""
        self.reading = True

    def answered(self) -> None:
        """Counts it."""
        self.answers += 1


def client_on(
    connection: NotedConnection,
    *headers: tuple[bytes, bytes],
    keep_alive: bool = True,
    expects_100: bool = False,
    chunked: bool = True,
    task: "asyncio.Task[None] | None" = None,
) -> Client:
    """A client on the connection, served by `task` or the current one, if there is one."""
    if task is None:
        with contextlib.suppress(RuntimeError):
            task = asyncio.current_task()
    return Client(
        connection,
        headers,
        cast("asyncio.Task[None]", task),
        keep_alive=keep_alive,
        expects_100=expects_100,
        chunked=chunked,
    )
