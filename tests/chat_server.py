"""An OpenAI endpoint over real HTTP that answers what a test's function says."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.http_server import serving

Reply = Callable[[dict[str, Any]], str | Response]
"""From a request's body to the answer's text, or to another response."""


class ChatServer:
    """What was asked of it, and by how many at once at most."""

    def __init__(self, reply: Reply) -> None:
        self.url = ""
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.most_at_once = 0
        self._reply = reply
        self._at_once = 0
        self._lock = threading.Lock()

    async def answer(self, request: Request) -> Response:
        """The ASGI side."""
        body = await request.json()
        with self._lock:
            self.bodies.append(body)
            self.keys.append(request.headers.get("authorization"))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            said = await run_in_threadpool(self._reply, body)
        finally:
            with self._lock:
                self._at_once -= 1
        return completion(said) if isinstance(said, str) else said


def completion(text: str, finish_reason: str = "stop") -> Response:
    """A chat completion with that text."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return JSONResponse({"object": "chat.completion", "choices": [choice]})


def refusal(status: int, message: str, **headers: str) -> Response:
    """An error in OpenAI's shape."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"error": {"message": message}}, status, named)


@contextmanager
def chat_server(reply: Reply) -> Iterator[ChatServer]:
    """The server on a port of its own while the block runs; `url` ends in /v1."""
    server = ChatServer(reply)
    app = Starlette(routes=[Route("/v1/chat/completions", server.answer, methods=["POST"])])
    with serving(app) as port:
        server.url = f"http://127.0.0.1:{port}/v1"
        yield server
