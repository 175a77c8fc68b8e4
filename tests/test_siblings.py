"""What a worker asks of the other workers, over real HTTP."""

import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters_registry.types import ServingProfile, Version, VersionState
from gateway.siblings import FORWARDED, Siblings
from tests.fake_gateway import FakeGateway, serving_fake

KEY = "the-admin-key"
FEEDBACK = json.dumps({"completion_id": "chatcmpl-1", "score": 1}).encode()
VERSION = Version(
    tenant="acme",
    adapter="support",
    number=3,
    digest="0" * 64,
    state=VersionState.CANDIDATE,
    rank=4,
    size_bytes=1,
    warnings=(),
    profile=ServingProfile(),
    created_at=datetime.fromtimestamp(0, UTC),
    path=Path("/nowhere"),
)


@pytest.fixture
def others() -> Iterator[list[FakeGateway]]:
    """Two other workers."""
    with ExitStack() as stack:
        yield [stack.enter_context(serving_fake()) for _ in range(2)]


@pytest.fixture
async def siblings(others: list[FakeGateway]) -> AsyncIterator[Siblings]:
    found = Siblings([other.url for other in others], KEY)
    yield found
    await found.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """A worker that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


async def test_each_reads_the_registry(
    others: list[FakeGateway], siblings: Siblings, caplog: pytest.LogCaptureFixture
) -> None:
    for other in others:
        other.on("POST /admin/v1/refresh", {"revision": 7})
    await siblings.refresh()
    for other in others:
        (asked,) = other.asked
        assert (asked.method, asked.path) == ("POST", "/admin/v1/refresh")
        assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert caplog.messages == []


async def test_one_that_cannot_read_it_is_told_of_and_keeps_nobody(
    others: list[FakeGateway], silent: str, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = others
    one.refuse("POST /admin/v1/refresh", 503, "the database does not answer")
    other.on("POST /admin/v1/refresh", {"revision": 7})
    nobody = "http://127.0.0.1:1"
    siblings = Siblings([one.url, silent, nobody, other.url], KEY, timeout_s=0.5)
    with caplog.at_level(logging.WARNING):
        await siblings.refresh()
    await siblings.close()
    assert len(other.asked) == 1
    assert set(caplog.messages) == {
        f"the worker at {url} did not read the registry ({told}); its poll will"
        for url, told in (
            (one.url, "it answered 503"),
            (silent, "no answer"),
            (nobody, "no answer"),
        )
    }


async def test_calls_in_flight_are_added_up(others: list[FakeGateway], siblings: Siblings) -> None:
    path = "/admin/v1/in-flight"
    others[0].on(f"GET {path}", {"in_flight": 2})
    others[1].on(f"GET {path}", {"in_flight": 3})
    assert await siblings.in_flight(VERSION) == 5
    others[1].refuse(f"GET {path}", 404, "there is no such version")
    assert await siblings.in_flight(VERSION) == 2


async def test_feedback_goes_on_with_the_caller_s_key_until_one_takes_it(
    others: list[FakeGateway], siblings: Siblings
) -> None:
    others[1].on("POST /v1/feedback", {"accepted": True}, 202)
    headers = [("x-api-key", "lpx_key"), ("cookie", "c=1"), ("content-length", "7")]
    assert await siblings.take_feedback(headers, FEEDBACK)
    for other in others:
        (asked,) = other.asked
        assert asked.path == "/v1/feedback"
        assert asked.body == FEEDBACK
        assert asked.headers["x-api-key"] == "lpx_key"
        assert FORWARDED in asked.headers
        assert {"cookie", "authorization"}.isdisjoint(asked.headers)


async def test_feedback_that_one_took_goes_no_further(
    others: list[FakeGateway], siblings: Siblings
) -> None:
    others[0].on("POST /v1/feedback", {"accepted": True}, 202)
    assert await siblings.take_feedback([("x-api-key", "lpx_key")], FEEDBACK)
    assert others[1].asked == []


async def test_feedback_of_a_completion_that_nobody_knows(siblings: Siblings) -> None:
    assert not await siblings.take_feedback([("x-api-key", "lpx_key")], FEEDBACK)


async def test_forwarded_feedback_goes_no_further(
    others: list[FakeGateway], siblings: Siblings
) -> None:
    for other in others:
        other.on("POST /v1/feedback", {"accepted": True}, 202)
    assert not await siblings.take_feedback([(FORWARDED, "1")], FEEDBACK)
    assert [other.asked for other in others] == [[], []]


async def test_a_worker_alone_asks_nobody() -> None:
    alone = Siblings([], KEY)
    await alone.refresh()
    assert await alone.in_flight(VERSION) == 0
    assert not await alone.take_feedback([("x-api-key", "lpx_key")], FEEDBACK)
    await alone.close()
