"""A real uvicorn in a thread, and raw sockets to it, for what only a real connection shows."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

_START_S = 10.0


@contextmanager
def serving(app: Any, **config: Any) -> Iterator[int]:
    """Serves `app` while the block runs; the port. config: further settings of uvicorn."""
    settings: dict[str, Any] = {
        "log_level": "critical",
        "lifespan": "off",
        "timeout_graceful_shutdown": 5,
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, **(settings | config)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        deadline_s = time.monotonic() + _START_S
        while not server.started and time.monotonic() < deadline_s:
            time.sleep(0.005)
        assert server.started
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(_START_S)
            assert not thread.is_alive()


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """A TCP connection whose calls fail after 10 s."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        yield client


def read_answer(client: socket.socket) -> bytes:
    """One answer with a content-length: its head and its body."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(client)
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    ]
    while lengths and len(body) < lengths[0]:
        body += _some(client)
    return head + b"\r\n\r\n" + body


def seconds_until_closed(client: socket.socket) -> float:
    """How long the server takes to close the connection; what it still sends is dropped."""
    began_s = time.monotonic()
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began_s


def _some(client: socket.socket) -> bytes:
    received = client.recv(65536)
    assert received, "the server closed the connection in the middle of an answer"
    return received
