"""A relayed request's one record and one answer, whatever its serving comes to."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters_registry.tenants import NewKey, new_key
from adapters_registry.types import Key, Scope, Snapshot
from gateway.access import AccessLog
from gateway.client import Client
from gateway.entry import Entry
from gateway.errors import BadRequest, EngineUnavailable
from gateway.inference import Exchange
from gateway.key_use import KeyUse
from gateway.metrics import Metrics
from gateway.parts import Parts
from gateway.routes import Route
from tests.noted_connection import NotedConnection, client_on
from tests.snapshots_for_tests import AT, snapshot

Act = Callable[[Exchange], Coroutine[Any, Any, None]]
ADMIN_KEY = "an admin key of any form"
SECRET = "a-secret-prompt"
KEY, WITHOUT_SCOPE = new_key(), new_key()


def _stored(key: NewKey, scope: Scope) -> Key:
    return Key(key.id, "acme", "a key", frozenset({scope}), key.secret_sha256, AT)


KNOWN = Snapshot(
    1,
    snapshot(tenants=("acme",)).tenants,
    {
        KEY.id: _stored(KEY, Scope.INFERENCE),
        WITHOUT_SCOPE.id: _stored(WITHOUT_SCOPE, Scope.MANAGE),
    },
)


@dataclass
class Holder:
    current: Snapshot


@dataclass
class StandInInference:
    """Does what the test wants of it."""

    act: Act
    exchanges: list[Exchange] = field(default_factory=list)

    async def serve(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        await self.act(exchange)


@dataclass
class StandInParts:
    """What an entry needs of the gateway."""

    inference: StandInInference
    snapshots: Holder = field(default_factory=lambda: Holder(KNOWN))
    admin_key_sha256: bytes = hashlib.sha256(ADMIN_KEY.encode()).digest()
    key_use: KeyUse = field(default_factory=lambda: KeyUse(lambda used: None))


@dataclass
class Served:
    """One request and what became of it."""

    wire: NotedConnection
    client: Client
    lines: list[Mapping[str, Any]]
    metrics: Metrics
    exchanges: list[Exchange]
    key_use: KeyUse
    raised: BaseException | None = None

    @property
    def head(self) -> list[str]:
        """The answer's status line and headers."""
        return self.wire.sent.partition(b"\r\n\r\n")[0].decode().split("\r\n")

    @property
    def body(self) -> Any:
        """The answer's body, parsed."""
        return json.loads(self.wire.sent.partition(b"\r\n\r\n")[2])

    def end(self) -> tuple[int | None, int, str, str | None]:
        """The status that was sent and the one that was counted, the outcome and the error's code.

        There is one line and one count.
        """
        (line,) = self.lines
        text = b"".join(self.metrics.render()).decode()
        (counted,) = [
            sample
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "loraplex_requests_total"
        ]
        assert counted.value == 1
        assert (line["tenant"], line["route"]) == (
            counted.labels["tenant"],
            counted.labels["route"],
        )
        status = int(counted.labels["status"])
        return line["status"], status, line["outcome"], line.get("error_code")


async def served(
    act: Act, *headers: tuple[bytes, bytes], route: Route = Route.CHAT, gone: bool = False
) -> Served:
    """Has a request served, with a tenant's key where no headers are given."""
    lines: list[Mapping[str, Any]] = []
    metrics, inference, wire = Metrics(), StandInInference(act), NotedConnection()
    access = AccessLog(metrics, lambda level, fields: lines.append(fields))
    parts = StandInParts(inference)
    entry = Entry(route, cast(Parts, parts), access)
    own = (b"authorization", b"Bearer " + KEY.text.encode())
    client = client_on(wire, *(headers or (own,)))
    if gone:
        client.lost()
    found = Served(wire, client, lines, metrics, inference.exchanges, parts.key_use)
    try:
        await entry(client)
    except asyncio.CancelledError as error:
        found.raised = error
    return found


def raising(error: BaseException, *, started: bool = False) -> Act:
    """Serving that fails."""

    async def act(exchange: Exchange) -> None:
        if started:
            exchange.client.start(b"")
            exchange.client.write(b"half")
        raise error

    return act


async def answering(exchange: Exchange) -> None:
    exchange.record.sent_status = 200
    exchange.client.answer(b"", b"{}")


async def test_a_request_is_handed_on_with_its_caller_and_counted() -> None:
    found = await served(answering)
    (exchange,) = found.exchanges
    assert exchange.caller.tenant == "acme"
    assert exchange.route is Route.CHAT
    assert found.end() == (200, 200, "served", None)
    (line,) = found.lines
    assert (line["path"], line["method"], line["key_id"]) == (Route.CHAT.path, "POST", KEY.id)
    assert line["request_id"] == exchange.record.request_id


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ([(b"host", b"x")], 401, "invalid_api_key"),
        ([(b"authorization", b"Bearer lpx_wrong")], 401, "invalid_api_key"),
        ([(b"authorization", b"Bearer \xff")], 401, "invalid_api_key"),
        ([(b"authorization", b"Bearer " + ADMIN_KEY.encode())], 403, "admin_key_is_no_tenant"),
        ([(b"x-api-key", WITHOUT_SCOPE.text.encode())], 403, "missing_scope"),
    ],
)
@pytest.mark.parametrize("route", Route)
async def test_a_stranger_is_refused_before_anything_is_done(
    route: Route, headers: list[tuple[bytes, bytes]], status: int, code: str
) -> None:
    found = await served(answering, *headers, route=route)
    assert not found.exchanges
    assert found.end() == (status, status, "refused", code)
    assert found.head[0].split()[1] == str(status)
    assert ("www-authenticate: Bearer" in found.head) == (status == 401)
    (line,) = found.lines
    assert f"x-request-id: {line['request_id']}" in found.head
    assert line["tenant"] == ""


async def test_the_use_of_a_key_is_noted_when_its_request_arrived() -> None:
    found = await served(raising(BadRequest("no")))
    (exchange,) = found.exchanges
    assert found.key_use.noted == {KEY.id: exchange.record.arrived_at}
    assert (await served(answering, (b"x-api-key", b"lpx_wrong"))).key_use.noted == {}


@pytest.mark.parametrize("route", Route)
async def test_an_error_has_the_shape_of_its_route(route: Route) -> None:
    found = await served(raising(BadRequest("no such field", param="x", code="c")), route=route)
    assert found.end() == (400, 400, "refused", "c")
    assert "content-type: application/json" in found.head
    if route in (Route.MESSAGES, Route.COUNT_TOKENS):
        assert found.body["error"] == {"type": "invalid_request_error", "message": "no such field"}
        assert f"x-request-id: {found.body['request_id']}" in found.head
    else:
        assert found.body["error"]["message"] == "no such field"
        assert found.body["error"]["param"] == "x"


async def test_an_error_brings_its_own_headers() -> None:
    found = await served(raising(EngineUnavailable("try again", retry_after_s=5)))
    assert "retry-after: 5" in found.head
    assert found.end() == (503, 503, "failed", "engine_unavailable")


async def test_what_an_error_says_cannot_begin_a_header() -> None:
    found = await served(raising(BadRequest("a\r\nset-cookie: b=c", param="\r\n\r\n<script>")))
    assert not [line for line in found.head if line.startswith("set-cookie")]
    assert found.wire.sent.count(b"\r\n\r\n") == 1
    assert found.body["error"]["message"] == "a\r\nset-cookie: b=c"


async def test_a_bug_tells_the_client_nothing_and_the_log_where_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = await served(raising(ValueError(SECRET)))
    assert found.end() == (500, 500, "failed", "internal_error")
    assert SECRET.encode() not in found.wire.sent
    assert "ValueError" in caplog.text
    assert "test_entry.py" in caplog.text
    assert SECRET not in caplog.text


async def test_a_bug_in_mid_answer_cuts_it_off(caplog: pytest.LogCaptureFixture) -> None:
    found = await served(raising(ValueError(SECRET), started=True))
    assert found.wire.aborted
    assert found.wire.sent.endswith(b"half\r\n")
    assert found.end()[1:3] == (500, "broken")
    assert SECRET not in caplog.text


async def test_the_gateways_end_is_told_to_who_still_waits() -> None:
    found = await served(raising(asyncio.CancelledError()))
    assert isinstance(found.raised, asyncio.CancelledError)
    assert found.head[0].split()[1] == "503"
    assert found.body["error"]["code"] == "shutting_down"
    assert found.end() == (503, 503, "failed", "shutting_down")


async def test_the_gateways_end_in_mid_answer_is_counted() -> None:
    found = await served(raising(asyncio.CancelledError(), started=True))
    assert isinstance(found.raised, asyncio.CancelledError)
    assert found.wire.sent.endswith(b"half\r\n")
    assert found.end()[1:] == (503, "broken", "shutting_down")


@pytest.mark.parametrize("error", [BadRequest("no"), ValueError(SECRET), asyncio.CancelledError()])
async def test_nothing_is_said_to_a_client_that_is_gone(error: BaseException) -> None:
    found = await served(raising(error), gone=True)
    assert found.wire.sent == b""
    found.end()
