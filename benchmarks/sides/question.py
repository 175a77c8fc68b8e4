"""What every side is asked: one conversation of a usual size, plain or streamed."""

import json
from dataclasses import dataclass, field
from urllib.parse import urlsplit

ROUTE = "/v1/chat/completions"
PLAIN_TOKENS = 32
STREAM_TOKENS = 128
BASE = "bench-base"
"""The base model's name on the engine."""

_MESSAGES = [
    {
        "role": "system",
        "content": "You are the assistant of a shop's support team. Answer in short and friendly "
        "sentences, and never promise a date that the order does not show.",
    },
    {
        "role": "user",
        "content": "Hello, I ordered a pair of running shoes two weeks ago and they have not come "
        "yet. The order number is 4711-0815. Can you tell me where the parcel is?",
    },
]


@dataclass(frozen=True)
class Target:
    """Where a side answers, as what, and with which headers."""

    url: str
    model: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 80


def body(model: str, tokens: int, *, streamed: bool) -> bytes:
    """One request's JSON."""
    asked = {
        "model": model,
        "messages": _MESSAGES,
        "max_tokens": tokens,
        "temperature": 0.7,
        "stream": streamed,
    }
    return json.dumps(asked).encode()


def raw_request(target: Target, tokens: int) -> bytes:
    """A streamed request as it goes over the wire."""
    content = body(target.model, tokens, streamed=True)
    headers = {
        "host": f"{target.host}:{target.port}",
        "content-type": "application/json",
        "content-length": str(len(content)),
        **target.headers,
    }
    lines = [f"POST {ROUTE} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + content
