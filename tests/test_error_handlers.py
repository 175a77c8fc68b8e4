"""One error shape for whatever went wrong, and nothing in it that is not the caller's."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, ValidationError

from adapters_registry import errors as registry_errors
from adapters_registry.errors import RegistryError
from gateway import error_handlers
from gateway.access import AccessLog, Recorded
from gateway.error_handlers import translate, validation_error
from gateway.errors import Overloaded
from gateway.metrics import Metrics
from tests.http_server import connected, serving

SECRET = "the-prompt-nobody-may-see"


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: int
    names: list[str] = []


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    error_handlers.install(app)
    app.add_middleware(Recorded, access=AccessLog(Metrics()))

    @app.post("/body")
    async def body(body: Body) -> None:
        del body

    @app.get("/v1/messages")
    @app.get("/overloaded")
    async def overloaded() -> None:
        raise Overloaded("Too much to do.", retry_after_s=3)

    @app.get("/v1/messages/bug")
    @app.get("/bug")
    async def bug() -> None:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError(SECRET) from error

    @app.get("/bug-in-mid-answer")
    async def bug_in_mid_answer() -> StreamingResponse:
        async def stream() -> AsyncIterator[bytes]:
            yield b"first"
            raise ValueError(SECRET)

        return StreamingResponse(stream(), headers={"content-length": "99"})

    return app


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as client:
        yield client


def error(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return found


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (registry_errors.InvalidName, 400, "invalid_name"),
        (registry_errors.InvalidAdapter, 400, "invalid_adapter"),
        (registry_errors.InvalidProfile, 400, "invalid_profile"),
        (registry_errors.UnknownTenant, 404, "not_found"),
        (registry_errors.UnknownKey, 404, "not_found"),
        (registry_errors.UnknownAdapter, 404, "not_found"),
        (registry_errors.UnknownVersion, 404, "not_found"),
        (registry_errors.AlreadyExists, 409, "already_exists"),
        (registry_errors.IllegalMove, 409, "illegal_move"),
        (registry_errors.StaleRevision, 412, "stale_revision"),
    ],
)
def test_what_the_registry_refuses_keeps_its_words(
    kind: type[RegistryError], status: int, code: str
) -> None:
    answer = translate(kind("what is wrong", field="r"))
    assert (answer.status, answer.code, answer.param) == (status, code, "r")
    assert answer.message == "what is wrong"


@pytest.mark.parametrize(
    ("kind", "status", "retry_after"),
    [
        (registry_errors.StorageError, 507, None),
        (registry_errors.DatabaseUnavailable, 503, "2"),
        (registry_errors.OutcomeUnknown, 503, "2"),
    ],
)
def test_the_registrys_own_trouble_is_told_in_general(
    kind: type[RegistryError], status: int, retry_after: str | None
) -> None:
    answer = translate(kind("/data/registry.db is broken"))
    assert answer.status == status
    assert answer.headers().get("retry-after") == retry_after
    assert "/data" not in answer.message


def test_every_registry_error_has_its_answer() -> None:
    kinds = RegistryError.__subclasses__()
    assert len(kinds) >= 12
    for kind in kinds:
        assert translate(kind("x")).code is not None


async def test_a_gateway_error_keeps_its_headers(http: httpx.AsyncClient) -> None:
    answer = await http.get("/overloaded")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert error(answer) == {
        "message": "Too much to do.",
        "type": "overloaded_error",
        "param": None,
        "code": "overloaded",
    }


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/messages", "overloaded_error"),
        ("/v1/messages/bug", "api_error"),
        ("/v1/messages/nothing", "not_found_error"),
    ],
)
async def test_messages_have_anthropics_shape(
    http: httpx.AsyncClient, path: str, kind: str
) -> None:
    answer = await http.get(path)
    body = answer.json()
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["error"]["type"] == kind
    assert body["request_id"] == answer.headers["x-request-id"]


async def test_a_path_that_only_begins_like_messages_has_openais_shape(
    http: httpx.AsyncClient,
) -> None:
    assert error(await http.get("/v1/messagesX"))["code"] == "unknown_route"


async def test_an_unknown_route_is_a_404(http: httpx.AsyncClient) -> None:
    answer = await http.get("/nothing")
    assert (answer.status_code, error(answer)["code"]) == (404, "unknown_route")


async def test_another_method_is_a_405_that_names_the_right_one(http: httpx.AsyncClient) -> None:
    answer = await http.get("/body")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert "POST" in error(answer)["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"count": SECRET}, "count"),
        ({"count": 1, "names": ["a", 5]}, "names.1"),
        ({"count": 1, "size": SECRET}, "size"),
        ({}, "count"),
        (SECRET, None),
    ],
)
async def test_a_wrong_field_is_named_and_its_value_is_not(
    http: httpx.AsyncClient, body: Any, param: str | None
) -> None:
    answer = await http.post("/body", json=body)
    assert (answer.status_code, error(answer)["param"]) == (400, param)
    assert SECRET not in answer.text
    assert (param or "body") in error(answer)["message"]


async def test_broken_json_is_a_400(http: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json"}
    answer = await http.post("/body", content=f'{{"{SECRET}', headers=headers)
    assert (answer.status_code, error(answer)["param"]) == (400, None)
    assert SECRET not in answer.text


def test_many_problems_are_told_briefly() -> None:
    with pytest.raises(ValidationError) as failed:
        Body.model_validate_json(json.dumps({"count": 1, "names": [0] * 100}))
    answer = validation_error(failed.value)
    assert answer.param == "names.0"
    assert answer.message.endswith("and 95 more")
    assert len(answer.message) < 500


async def test_a_bug_is_a_500_that_tells_nothing(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await http.get("/bug")
    assert (answer.status_code, error(answer)["code"]) == (500, "internal_error")
    assert SECRET not in answer.text
    assert SECRET not in caplog.text
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(logged) == 1
    assert logged[0].startswith("unexpected ValueError from KeyError in GET /bug\n")
    assert "test_error_handlers.py" in logged[0]


def test_a_bug_in_mid_answer_closes_the_connection_and_is_counted_as_broken(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with serving(app) as port, connected(port) as client:
        client.sendall(b"GET /bug-in-mid-answer HTTP/1.1\r\nhost: x\r\n\r\n")
        received = b""
        while piece := client.recv(65536):
            received += piece
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"\r\n\r\nfirst")
    assert SECRET not in caplog.text
    (request,) = [record for record in caplog.records if record.name == "loraplex.request"]
    assert request.__dict__["fields"]["outcome"] == "broken"


async def test_the_access_log_has_the_errors_code(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await http.get("/overloaded")
    (request,) = [record for record in caplog.records if record.name == "loraplex.request"]
    assert request.__dict__["fields"]["error_code"] == "overloaded"
