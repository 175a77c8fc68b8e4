"""What the fake says before it takes a route's shape, and how vLLM writes JSON and errors."""

import hashlib
import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

FINGERPRINT = "vllm-0.32.0-fake"
Json = dict[str, Any]

_SYSTEM_PATH = re.compile(r"/(?:home|usr|opt|var|tmp|root|lib|mnt|srv)(?:/[\w.\-]+)+")
_FILE = re.compile(r"(?:/[\w\-]+)+/[\w\-]+\.\w+")


def dump(value: object) -> bytes:
    """JSON as vLLM writes it: no spaces, text as UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def data_event(value: object) -> bytes:
    """A server-sent event of OpenAI's older routes."""
    return b"data: " + dump(value) + b"\n\n"


def named_event(value: Json) -> bytes:
    """A server-sent event of Responses and Messages: its type is also its name."""
    return b"event: " + str(value["type"]).encode() + b"\n" + data_event(value)


def error_body(message: str, kind: str, code: int, param: str | None = None) -> Json:
    """OpenAI's error shape as vLLM fills it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def without_paths(message: str) -> str:
    """As vLLM hides them in its messages: most paths, not all."""
    return _FILE.sub("<path>", _SYSTEM_PATH.sub("<path>", message))


def random_id() -> str:
    """Sixteen hex digits, as vLLM's own."""
    return secrets.token_hex(8)


@dataclass(frozen=True)
class Answer:
    """What is to be said, before it takes a route's shape."""

    model: str
    pieces: tuple[str, ...]
    """The text token by token; an answer that ends by itself ends with an empty piece."""
    finish_reason: str
    """`stop` or `length`."""
    prompt_tokens: int
    choices: int
    request: Mapping[str, Any]
    request_id: str
    next_tokens: tuple[dict[str, float], ...] | None = None
    """For each prompt the likeliest next tokens by their ids, where asked for."""
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def usage(self, produced: int | None = None) -> Json:
        """OpenAI's usage after `produced` tokens of every choice, or of all."""
        tokens = self.choices * (len(self.pieces) if produced is None else produced)
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + tokens,
            "completion_tokens": tokens,
        }

    def wants_usage(self, field_name: str) -> bool:
        """Whether `stream_options` asks for this."""
        options = self.request.get("stream_options") or {}
        return bool(options.get("include_usage") and options.get(field_name))

    def logprob(self, step: int) -> float:
        """A log-probability that belongs to the model's name and the place."""
        seed = hashlib.sha256(f"{self.model} {step}".encode()).digest()
        return -0.01 - seed[0] / 100


class Shape(Protocol):
    """How one route says an answer."""

    def plain(self) -> Json: ...
    def head(self) -> Iterator[bytes]: ...
    def step(self, index: int) -> Iterator[bytes]: ...
    def tail(self) -> Iterator[bytes]: ...
    def broken(self, message: str) -> bytes:
        """The error event of a stream that fails on the way."""
        ...


def model_card(name: str, root: str, parent: str | None, max_model_len: int | None) -> Json:
    """One entry of `/v1/models`."""
    created = int(time.time())
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": max_model_len,
        "permission": [
            {
                "id": f"modelperm-{random_id()}",
                "object": "model_permission",
                "created": created,
                "allow_create_engine": False,
                "allow_sampling": True,
                "allow_logprobs": True,
                "allow_search_indices": False,
                "allow_view": True,
                "allow_fine_tuning": False,
                "organization": "*",
                "group": None,
                "is_blocking": False,
            }
        ],
    }
