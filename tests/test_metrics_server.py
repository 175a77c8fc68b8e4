"""The operations listener over real HTTP: scrapes, what is passed on, its beginning and its end."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.config import SettingsError, Timeouts
from gateway.metrics import Metrics, Subject
from gateway.metrics_server import PASSED_ON, MetricsServer, patience_s
from tests.test_series import parsed, sample

HOST = "127.0.0.1"
# What a test waits for must come long before these would bring it about.
TIMEOUTS = Timeouts(client_s=3600, headers_s=3600)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for the gateway: tells what it was asked."""
    request = Request(scope, receive)
    said = {
        "asked": f"{request.method} {request.url.path}",
        "key": request.headers.get("authorization"),
        "body": (await request.body()).decode(),
    }
    await JSONResponse(said, 202)(scope, receive, send)


@asynccontextmanager
async def listening(
    metrics: Any, gateway: ASGIApp = echo, *, stall_s: float = 0.0
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running listener."""
    server = MetricsServer(
        cast(Metrics, metrics), gateway, host=HOST, port=0, timeouts=TIMEOUTS, stall_s=stall_s
    )
    async with (
        server,
        httpx.AsyncClient(
            base_url=f"http://{HOST}:{server.port}", trust_env=False, timeout=60
        ) as client,
    ):
        yield client


def with_traffic(subjects: int = 300) -> Metrics:
    """Metrics that take many slices."""
    metrics = Metrics()
    for number in range(subjects):
        call = metrics.call(Subject(f"t{number}", "support", "1"), "chat")
        call.count(200)
        call.duration.observe(0.25, number + 1)
    return metrics


@pytest.mark.parametrize("stall_s", [0.0, 3600.0])
async def test_a_scrape_gives_every_series(stall_s: float) -> None:
    metrics = with_traffic()
    assert len([*metrics.render()]) > 4
    async with listening(metrics, stall_s=stall_s) as client:
        for _ in range(2):  # The second on the same connection.
            answer = await client.get("/metrics?name[]=ignored")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert "date" in answer.headers
            samples = parsed(answer.text)
            for number in range(300):
                who = {"tenant": f"t{number}", "adapter": "support", "version": "1"}
                count = sample("loraplex_request_duration_seconds_count", **who, route="chat")
                assert samples[count] == number + 1
            assert samples[sample("process_open_fds")] > 0


async def test_scrapes_at_once_are_each_right() -> None:
    metrics = with_traffic()
    async with listening(metrics) as client:
        answers = await asyncio.gather(*(client.get("/metrics") for _ in range(4)))
    expected = parsed(b"".join(metrics.render()).decode())
    for answer in answers:
        found = parsed(answer.text)
        assert found.keys() == expected.keys()
        changed = {
            name for (name, labels), value in expected.items() if found[name, labels] != value
        }
        assert all(name.startswith("process_") for name in changed)


async def test_head_has_no_body() -> None:
    async with listening(with_traffic()) as client:
        answer = await client.head("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert answer.content == b""
        assert (await client.get("/metrics")).status_code == 200


@pytest.mark.parametrize("path", ["/", "/metrics/", "/v1/models", "/admin/v1/tenants", "/%2e%2e/x"])
async def test_other_paths_are_unknown(path: str) -> None:
    async with listening(Metrics()) as client:
        answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_route"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_refused(method: str) -> None:
    async with listening(Metrics()) as client:
        answer = await client.request(method, "/metrics")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", sorted(PASSED_ON))
async def test_some_routes_are_the_gateway_s_own(path: str) -> None:
    async with listening(Metrics()) as client:
        answer = await client.post(path, content=b"a body", headers={"authorization": "Bearer k"})
    assert answer.status_code == 202
    assert answer.json() == {"asked": f"POST {path}", "key": "Bearer k", "body": "a body"}


class Slices:
    """Metrics whose rendering notes at which of the loop's turns each slice was made."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.turn = 0
        self.made_at: list[int] = []
        self.given_up = asyncio.Event()

    def render(self) -> Iterator[bytes]:
        try:
            for _ in range(self.count):
                self.made_at.append(self.turn)
                yield b"# " + b"x" * 2**16 + b"\n"
        finally:
            self.given_up.set()

    async def watch_turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


@pytest.mark.parametrize("scrapes", [1, 3])
async def test_other_work_is_done_after_each_slice(scrapes: int) -> None:
    slices = Slices(20)
    watcher = asyncio.create_task(slices.watch_turns())
    async with listening(slices) as client:
        await asyncio.gather(*(client.get("/metrics") for _ in range(scrapes)))
    watcher.cancel()
    assert len(slices.made_at) == 20 * scrapes
    assert len(set(slices.made_at)) == 20 * scrapes


@pytest.mark.parametrize(
    ("others_s", "waits_s"), [(0, 0.0002), (0.002, 0.0002), (0.005, 0.0005), (1, 0.001)]
)
def test_a_busy_loop_gives_a_scrape_a_little_more(others_s: float, waits_s: float) -> None:
    assert patience_s(0.0002, others_s) == pytest.approx(waits_s)


async def _begin_to_read(client: httpx.AsyncClient) -> tuple[asyncio.StreamReader, Any]:
    """A scrape of which only the beginning was read."""
    url = client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1024)
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
    assert b"200 OK" in await reader.readline()
    return reader, writer


async def test_nothing_is_rendered_for_a_client_that_went_away() -> None:
    slices = Slices(10**9)
    async with listening(slices) as client:
        _, writer = await _begin_to_read(client)
        writer.transport.abort()
        await slices.given_up.wait()


async def test_a_scrape_under_way_does_not_hold_up_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slices = Slices(10**9)
    async with listening(slices) as client:
        reader, writer = await _begin_to_read(client)
    assert slices.given_up.is_set()
    text = b""
    with suppress(ConnectionResetError):
        text = await reader.read()
    assert not text.endswith(b"0\r\n\r\n")
    writer.transport.abort()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_after_the_end_nobody_listens() -> None:
    async with listening(Metrics()) as client:
        await client.get("/metrics")
        port = client.base_url.port
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, port)


async def test_a_port_that_is_taken_is_named_with_its_flag(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        said = f"port {port} on 127.0.0.1 is taken: choose another with --metrics-port"
        server = MetricsServer(Metrics(), echo, host=HOST, port=port, timeouts=TIMEOUTS)
        with pytest.raises(SettingsError, match=said):
            await server.__aenter__()
    critical = [each.getMessage() for each in caplog.records if each.levelname == "CRITICAL"]
    assert critical == [f"cannot start: {said}"]


async def test_the_port_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with listening(Metrics()) as client:
        port = client.base_url.port
    assert f"metrics on http://127.0.0.1:{port}/metrics" in caplog.text
