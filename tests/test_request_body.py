"""Bodies under caps on bytes and time."""

import asyncio
from typing import Any

import pytest
from fastapi import Request
from pydantic import BaseModel

from gateway.errors import BadRequest, PayloadTooLarge, RequestTimeout, UnsupportedMediaType
from gateway.request_body import read_json


class Body(BaseModel):
    name: str
    on: bool = False


def request(*pieces: bytes, headers: dict[str, str] | None = None, ends: bool = True) -> Request:
    """A request whose body comes in these pieces, and then ends or stays silent."""
    queue = list(pieces)

    async def receive() -> Any:
        if not queue:
            return await asyncio.get_running_loop().create_future()
        piece = queue.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(queue) or not ends}

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


async def read(request: Request, limit_bytes: int = 100, idle_s: float = 5) -> Body:
    return await read_json(request, Body, limit_bytes=limit_bytes, idle_s=idle_s)


@pytest.mark.parametrize("content_type", [None, "application/json", "Application/JSON; charset=x"])
async def test_a_body_in_pieces_is_read_whole(content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    assert (await read(request(b'{"na', b"", b'me": "a"}', headers=headers))).name == "a"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
async def test_what_a_browser_may_send_across_sites_is_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        await read(request(b'{"name": "a"}', headers={"content-type": content_type}))


async def test_nothing_is_read_of_a_body_declared_too_large() -> None:
    with pytest.raises(PayloadTooLarge):
        await read(request(ends=False, headers={"content-length": "101"}))


async def test_a_body_that_turns_out_too_large_is_refused() -> None:
    with pytest.raises(PayloadTooLarge):
        await read(request(b" " * 60, b" " * 60, ends=False))


async def test_a_body_at_the_limit_passes() -> None:
    body = b'{"name": "a"}'
    headers = {"content-length": str(len(body))}
    assert (await read(request(body, headers=headers), limit_bytes=len(body))).name == "a"


async def test_silence_ends_the_wait() -> None:
    with pytest.raises(RequestTimeout):
        await read(request(b'{"name"', ends=False), idle_s=0.05)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"name": "a", "on": "yes"}', b"null"])
async def test_what_is_no_such_body_is_a_400(body: bytes) -> None:
    with pytest.raises(BadRequest):
        await read(request(body))
