"""Calls on the hot path's HTTP client, as its tests make them."""

from gateway.upstream import Response, Upstream

WAYS = ["read", "pipe"]
"""How a body can be had."""

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def ask(upstream: Upstream, body: bytes = b"", first_byte_s: float = 5) -> Response:
    """The response's headers have come."""
    return await upstream.open(b"POST", b"/", body=body, first_byte_s=first_byte_s)


async def body_of(response: Response, way: str = "pipe", idle_s: float = 5) -> bytes:
    """The whole body, had in one of the ways."""
    if way == "read":
        return await response.read(idle_s, 2**30)
    parts: list[bytes] = []
    await response.pipe(parts.append, idle_s)
    return b"".join(parts)


async def answer_to(upstream: Upstream, way: str = "pipe", body: bytes = b"") -> bytes:
    """A whole call."""
    with await ask(upstream, body) as response:
        return await body_of(response, way)
