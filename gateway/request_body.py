"""Request bodies under caps on bytes and time; read only after the caller is known."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from gateway.error_handlers import validation_error
from gateway.errors import BadRequest, PayloadTooLarge, RequestTimeout, UnsupportedMediaType

Model = TypeVar("Model", bound=BaseModel)


async def chunks(request: Request, *, limit_bytes: int, idle_s: float) -> AsyncIterator[bytes]:
    """The body as it arrives, without empty chunks.

    Raises PayloadTooLarge (by Content-Length before the first byte is read), RequestTimeout
    after `idle_s` of silence, BadRequest when the client goes away.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    received = 0
    more = True
    while more:
        chunk, more = await _receive(request, idle_s)
        received += len(chunk)
        if received > limit_bytes:
            raise _too_large(limit_bytes)
        if chunk:
            yield chunk


async def read_json(
    request: Request, model: type[Model], *, limit_bytes: int, idle_s: float
) -> Model:
    """The JSON body as a `model`. FastAPI's own body fields are read without a cap before auth."""
    if media_type(request) not in ("application/json", ""):
        raise UnsupportedMediaType("This route takes JSON: send `content-type: application/json`.")
    body = bytearray()
    async for chunk in chunks(request, limit_bytes=limit_bytes, idle_s=idle_s):
        body += chunk
    return parse_json(bytes(body), model)


def parse_json(body: bytes, model: type[Model]) -> Model:
    """`body` as a `model`, or a BadRequest that names the field."""
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise validation_error(error) from None


async def _receive(request: Request, idle_s: float) -> tuple[bytes, bool]:
    """The next piece of the body and whether more will come."""
    try:
        async with asyncio.timeout(idle_s):
            message = await request.receive()
    except TimeoutError:
        raise RequestTimeout(
            f"No byte of the request body came for {idle_s:g} s; send it without a pause."
        ) from None
    if message["type"] == "http.disconnect":
        raise BadRequest(
            "The connection closed before the body was complete.", code="incomplete_body"
        )
    return message.get("body", b""), message.get("more_body", False)


def media_type(request: Request) -> str:
    """The body's type as the client names it, without parameters; may be empty."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request body is larger than {limit_bytes} bytes.")
