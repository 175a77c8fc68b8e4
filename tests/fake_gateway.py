"""An admin API over real HTTP: answers what a test tells it to, records what it was asked."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.http_server import serving


@dataclass(frozen=True)
class Asked:
    """One request as it arrived. query: undecoded. parts: of a multipart body, by name."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    parts: dict[str, bytes] = field(default_factory=dict)
    query: str = ""


class FakeGateway:
    """answers: (method, path) -> the response; anything else is a 404 in OpenAI's shape."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.answers: dict[tuple[str, str], Response] = {}

    def on(self, call: str, body: Any, status: int = 200) -> None:
        """`on("GET /admin/v1/tenants", {...})`; a body of bytes goes out as it is."""
        method, _, path = call.partition(" ")
        answer = Response(body, status) if isinstance(body, bytes) else JSONResponse(body, status)
        self.answers[method, path] = answer

    def refuse(
        self,
        call: str,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answers with an error in OpenAI's shape."""
        error = {"message": message, "type": "x", "param": param, "code": code}
        method, _, path = call.partition(" ")
        self.answers[method, path] = JSONResponse({"error": error}, status, headers)

    async def answer(self, request: Request) -> Response:
        """The ASGI side."""
        body, parts = b"", {}
        if request.headers.get("content-type", "").startswith("multipart/"):
            async with request.form() as form:
                for name, value in form.items():
                    assert isinstance(value, UploadFile)
                    parts[name] = await value.read()
        else:
            body = await request.body()
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = request.scope["raw_path"].decode()
        self.asked.append(Asked(request.method, path, headers, body, parts, request.url.query))
        missing = {"message": "There is no such thing.", "type": "x", "param": None, "code": "x"}
        return self.answers.get((request.method, path), JSONResponse({"error": missing}, 404))


@contextmanager
def serving_fake() -> Iterator[FakeGateway]:
    """A FakeGateway on a port of its own while the block runs."""
    gateway = FakeGateway()
    methods = ["GET", "POST", "PATCH", "DELETE"]
    app = Starlette(routes=[Route("/{path:path}", gateway.answer, methods=methods)])
    with serving(app) as port:
        gateway.url = f"http://127.0.0.1:{port}"
        yield gateway
