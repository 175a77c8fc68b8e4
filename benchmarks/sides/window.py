"""One counted window of wrk against one side."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.sides.engine import Engine
from benchmarks.sides.question import PLAIN_TOKENS, STREAM_TOKENS, body
from benchmarks.sides.side import Running
from benchmarks.sides.wrk import WrkResult, run_wrk

_WARM_UP_S = 1.0
_MANY = 10
"""So many streams on each connection leave little of the count in buffers."""


@dataclass(frozen=True)
class Scenario:
    """What wrk does."""

    name: str
    title: str
    connections: int
    streamed: bool

    def content(self, model: str) -> bytes:
        tokens = STREAM_TOKENS if self.streamed else PLAIN_TOKENS
        return body(model, tokens, streamed=self.streamed)


PLAIN = Scenario("plain", "plain answers, 32 connections", 32, streamed=False)
STREAM = Scenario(
    "stream", "streams of 128 tokens at full speed, 32 connections", 32, streamed=True
)
ONE = Scenario("one", "plain answers, one connection", 1, streamed=False)
SCENARIOS = (PLAIN, STREAM, ONE)


@dataclass(frozen=True)
class Window:
    """Figures of one side in one round. CPU seconds are of the proxy's processes."""

    scenario: str
    side: str
    round: int
    seconds: float
    requests: int
    chunks: int
    """Tokens of streams that came through."""
    errors: dict[str, int]
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    cpu_s: float
    engine_cpu_s: float
    rss_bytes: int

    @property
    def requests_per_s(self) -> float:
        return self.requests / self.seconds

    @property
    def chunks_per_s(self) -> float:
        return self.chunks / self.seconds

    @property
    def cpu_s_per_1000_requests(self) -> float:
        return 1000 * self.cpu_s / max(self.requests, 1)

    @property
    def cpu_s_per_1000_chunks(self) -> float:
        return 1000 * self.cpu_s / max(self.chunks, 1)


def measure(
    scenario: Scenario,
    running: Running,
    engine: Engine,
    *,
    round_number: int,
    seconds: float,
    core: int,
    folder: Path,
) -> Window:
    """Warm the side up, then count. Raises ChildFailed."""
    content = scenario.content(running.target.model)
    for length_s in (_WARM_UP_S, seconds):
        chunks = engine.totals()["tokens_sent"]
        cpu_s, engine_cpu_s = running.cpu_s(), engine.child.cpu_s()
        result = run_wrk(
            running.target,
            content,
            connections=scenario.connections,
            seconds=length_s,
            core=core,
            folder=folder,
        )
    return Window(
        scenario=scenario.name,
        side=running.name,
        round=round_number,
        seconds=result.seconds,
        requests=result.requests,
        chunks=delivered(scenario, running, result, engine.totals()["tokens_sent"] - chunks),
        errors=result.errors,
        p50_ms=result.p50_ms,
        p90_ms=result.p90_ms,
        p99_ms=result.p99_ms,
        max_ms=result.max_ms,
        cpu_s=running.cpu_s() - cpu_s,
        engine_cpu_s=engine.child.cpu_s() - engine_cpu_s,
        rss_bytes=running.rss_bytes(),
    )


def delivered(scenario: Scenario, running: Running, result: WrkResult, sent: int) -> int:
    """How many tokens came through, of those that the engine has `sent`.

    Behind a slow side most of them still lie in buffers; there the bytes that arrived tell.
    """
    if not scenario.streamed:
        return 0
    if result.requests >= _MANY * scenario.connections or not running.stream_bytes:
        return sent
    return min(sent, result.bytes_read * STREAM_TOKENS // running.stream_bytes)
