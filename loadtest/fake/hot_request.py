"""A generating request read with a few searches; whatever is unusual is left to a real parser."""

from typing import NamedTuple

HOT_ROUTES = ("/v1/chat/completions", "/v1/completions")

_ROUTES = {f"POST {route} HTTP/1.1".encode(): route for route in HOT_ROUTES}
_BEGINNING = b"POST /v1/c"
_LINE_END, _HEAD_END = b"\r\n", b"\r\n\r\n"
_JSON_TYPE = b"\r\ncontent-type: application/json"
_LENGTH = b"\r\ncontent-length:"
_ID = b"\r\nx-request-id:"
_HEAD_BYTES = 65_536


class HotRequest(NamedTuple):
    """One request, and where in the bytes it ends."""

    route: str
    request_id: bytes
    """Of the header; empty without one."""
    body: bytes
    end: int


def read_hot(data: bytes) -> HotRequest | None:
    """The request that `data` begins with, if it is whole and a plain one of a hot route."""
    head_end = data.find(_HEAD_END)
    route = _ROUTES.get(data[: data.find(_LINE_END)])
    if head_end < 0 or route is None:
        return None
    head = data[: head_end + 2].lower()
    end = head_end + 4 + _length(head)
    if end > len(data) or end == head_end + 4 or _JSON_TYPE not in head:
        return None
    id_start = head.find(_ID)
    request_id = b""
    if id_start >= 0:
        # Taken from `data`, where it is not in lower case.
        request_id = data[id_start + len(_ID) : data.find(_LINE_END, id_start + 2)].strip()
    return HotRequest(route, request_id, data[head_end + 4 : end], end)


def may_become_hot(data: bytes) -> bool:
    """Whether more bytes could make a hot request of what is none yet."""
    head_end = data.find(_HEAD_END)
    if head_end < 0:
        return data[: len(_BEGINNING)] == _BEGINNING[: len(data)] and len(data) < _HEAD_BYTES
    if data[: data.find(_LINE_END)] not in _ROUTES:
        return False
    return head_end + 4 + _length(data[: head_end + 2].lower()) > len(data)


def _length(head: bytes) -> int:
    """The body's length that a head in lower case states; 0 where it states none."""
    start = head.find(_LENGTH)
    if start < 0:
        return 0
    digits = head[start + len(_LENGTH) : head.find(_LINE_END, start + 2)].strip()
    return int(digits) if digits.isdigit() else 0
