"""The lines of ended requests: as logging would write them, at once or together."""

import asyncio
import io
import json
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access import AccessLog, RequestRecord
from gateway.logs import JsonFormatter, RequestLines
from gateway.metrics import Metrics, Subject
from gateway.routes import Route
from tests.memory_loop import MemoryLoop

FLUSH_S = 0.02


class Written(io.BytesIO):
    """A stream that notes how often it was flushed."""

    flushes = 0

    def flush(self) -> None:
        self.flushes += 1

    def lines(self) -> list[dict[str, Any]]:
        """What was written, each line a JSON object."""
        text = self.getvalue().decode()
        assert text == "" or text.endswith("\n")
        return [json.loads(line) for line in text.split("\n")[:-1]]


class Full(io.BytesIO):
    """A stream that takes nothing."""

    def write(self, data: Any) -> int:
        raise OSError(28, "No space left on device")


class Clock:
    """In place of the module `time`, for what must not depend on how fast a test runs."""

    now_s = 1_784_900_000.5

    def time(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("gateway.logs.time", found)
    return found


def formatted(level: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the formatter makes of the same line."""
    record = logging.LogRecord("loraplex.request", level, "", 0, "request", None, None)
    record.fields = fields
    line: dict[str, Any] = json.loads(JsonFormatter().format(record))
    return line


def in_memory_time(scenario: Any) -> None:
    """Runs a scenario on a clock that moves only while it sleeps."""
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        runner.run(scenario())


def ended(route: Route | None, **known: Any) -> list[tuple[int, Mapping[str, Any]]]:
    """What the access log gives of a request that ended."""
    given_lines: list[tuple[int, Mapping[str, Any]]] = []
    access = AccessLog(Metrics(), lambda level, fields: given_lines.append((level, dict(fields))))
    record = RequestRecord("an-id", "POST", route=route, **known)
    access.end(record)
    return given_lines


@pytest.mark.parametrize(
    "line",
    [
        *ended(None, path_template="/livez", sent_status=200),
        *ended(None, path_template=None),
        *ended(Route.CHAT, sent_status=401, error_code="invalid_api_key"),
        *ended(
            Route.MESSAGES,
            subject=Subject("acme", "support", "3"),
            path_template="/v1/messages",
            key_id="k",
            engine="127.0.0.1:8000",
            streamed=True,
            sent_status=200,
            final_status=499,
            queue_s=0.00012345678,
            ttft_s=1.5,
            prompt_tokens=7,
            completion_tokens=9,
            estimated=True,
        ),
    ],
)
def test_a_requests_line_is_the_one_that_logging_would_write(
    line: tuple[int, Mapping[str, Any]],
) -> None:
    level, fields = line
    written = Written()
    RequestLines(written, "debug")(level, fields)
    (mine,), theirs = written.lines(), formatted(level, fields)
    assert list(mine) == list(theirs)
    taken_at = {datetime.fromisoformat(one.pop("ts")) for one in (mine, theirs)}
    assert mine == theirs
    assert (max(taken_at) - min(taken_at)).total_seconds() < 60
    assert all(at.utcoffset() is not None for at in taken_at)


@given(
    st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.booleans(), min_size=1)
)
def test_every_value_is_written_on_one_line(fields: dict[str, Any]) -> None:
    fields = {f"x{name}": value for name, value in fields.items()}
    written = Written()
    RequestLines(written, "info")(logging.INFO, fields)
    assert written.getvalue().count(b"\n") == 1
    (line,) = written.lines()
    assert fields.items() <= line.items()


@pytest.mark.parametrize("at_s", [1e9, 1e9 + 0.0004, 1e9 + 0.9996, 1784900000.123456])
def test_the_time_is_written_as_logging_writes_it(
    at_s: float, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, clock.now_s = Written(), at_s
    RequestLines(written, "info")(logging.INFO, {"a": 1})
    (line,) = written.lines()
    monkeypatch.setattr("time.time", clock.time)  # which a log record asks
    assert line["ts"] == formatted(logging.INFO, {})["ts"]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "INFO"])
def test_lines_below_the_level_are_left_out(level: str) -> None:
    async def scenario() -> None:
        written = Written()
        lines = RequestLines(written, level)
        for each in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            lines(each, {"n": each})
        lines.flush()
        least = logging.getLevelNamesMapping()[level.upper()]
        assert [line["n"] for line in written.lines()] == [
            each for each in (10, 20, 30, 40) if each >= least
        ]

    in_memory_time(scenario)


def test_a_line_in_quiet_times_is_written_at_once(clock: Clock) -> None:
    async def scenario() -> None:
        written = Written()
        lines = RequestLines(written, "info")
        for number in range(3):
            lines(logging.INFO, {"n": number})
            assert len(written.lines()) == written.flushes == number + 1
            clock.now_s += 2 * FLUSH_S

    in_memory_time(scenario)


def test_lines_in_busy_times_are_written_together_and_soon(clock: Clock) -> None:
    async def scenario() -> None:
        written = Written()
        lines = RequestLines(written, "info")
        for number in range(1000):
            lines(logging.INFO, {"n": number})
        assert len(written.lines()) == 1
        clock.now_s += FLUSH_S
        await asyncio.sleep(FLUSH_S)
        assert [line["n"] for line in written.lines()] == list(range(1000))
        assert written.flushes == 2

    in_memory_time(scenario)


@pytest.mark.usefixtures("clock")
def test_what_waits_at_the_end_is_written_then() -> None:
    written = Written()
    lines = RequestLines(written, "info")

    async def scenario() -> None:
        for number in range(10):
            lines(logging.INFO, {"n": number})

    in_memory_time(scenario)
    assert len(written.lines()) == 1
    lines.flush()
    assert [line["n"] for line in written.lines()] == list(range(10))
    lines.flush()
    assert len(written.lines()) == 10


@pytest.mark.usefixtures("clock")
def test_a_stream_that_takes_nothing_fails_no_request() -> None:
    async def scenario() -> None:
        lines = RequestLines(Full(), "info")
        for _ in range(3):
            lines(logging.INFO, {"n": 1})
        await asyncio.sleep(2 * FLUSH_S)
        lines(logging.INFO, {"n": 1})

    in_memory_time(scenario)
