"""The client's side of a request: its body under limits, and the moment it goes away."""

import asyncio

from starlette.types import Receive

from gateway.errors import PayloadTooLarge, RequestTimeout


class ClientGone(Exception):
    """The client closed the connection before its answer's end."""


async def read_body(receive: Receive, limit_bytes: int, timeout_s: float) -> bytes:
    """The whole request body.

    Raises PayloadTooLarge above `limit_bytes`, RequestTimeout where it takes longer than
    `timeout_s` seconds, ClientGone.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit_bytes:
                    raise PayloadTooLarge(f"The request body is over {limit_bytes} bytes.")
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        raise RequestTimeout(f"The request body did not come within {timeout_s:g} s.") from None


async def until_gone(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
