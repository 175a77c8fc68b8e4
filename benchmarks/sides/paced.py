"""The streams at a steady pace, measured from outside: gaps, the proxy's CPU share, its memory."""

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.sides.engine import ROOT, Engine
from benchmarks.sides.gaps import Spread
from benchmarks.sides.paced_client import PacedJob
from benchmarks.sides.processes import ChildFailed
from benchmarks.sides.question import Target, raw_request
from benchmarks.sides.side import Running

# Several lengths, so that streams do not all end, and begin anew, in one step.
_LENGTHS = (192, 224, 256, 288, 320)
_SAMPLE_S = 1.0
_LONGEST_RAMP_S = 10.0


@dataclass(frozen=True)
class Paced:
    """One side under many streams at once."""

    side: str
    streams: int
    token_time_s: float
    seconds: float
    chunks_per_s: float
    streams_ended: int
    errors: dict[str, int]
    ttft: Spread
    itl: Spread
    proxy_cpu_share: float
    """Of one core."""
    engine_cpu_share: float
    client_cpu_share: float
    cpu_s_per_1000_chunks: float
    rss_bytes: list[int]
    """Of the proxy, every second."""

    @property
    def rss_growth(self) -> float:
        """The median of the last quarter over that of the first, less one."""
        quarter = len(self.rss_bytes) // 4
        if not quarter or not any(self.rss_bytes):
            return 0.0
        first = statistics.median(self.rss_bytes[:quarter])
        return statistics.median(self.rss_bytes[-quarter:]) / first - 1


def job_for(target: Target, streams: int, ramp_s: float, seconds: float) -> PacedJob:
    """What the client is to do. The first event of an answer, the role, is counted as one more."""
    return PacedJob(
        host=target.host,
        port=target.port,
        requests=[raw_request(target, tokens).decode() for tokens in _LENGTHS],
        tokens=[tokens + 1 for tokens in _LENGTHS],
        streams=streams,
        ramp_s=ramp_s,
        seconds=seconds,
    )


def measure_paced(
    running: Running,
    engine: Engine,
    *,
    streams: int,
    token_time_s: float,
    seconds: float,
    core: int,
    on_window: Callable[[], None] | None = None,
) -> Paced:
    """Run the client on `core` against a side. Raises ChildFailed.

    on_window: called when all streams run and the counting begins.
    """
    engine.set_pace(token_time_s)
    try:
        # A stream lasts several seconds: spread over that time, beginnings stay spread.
        ramp_s = min(_LENGTHS[0] * token_time_s, _LONGEST_RAMP_S)
        job = job_for(running.target, streams, ramp_s, seconds)
        client = _start_client(job, core)
        try:
            _read(client, "started")
            if on_window is not None:
                on_window()
            return _watch(client, job, running, engine, token_time_s)
        finally:
            client.kill()
            client.communicate()
    finally:
        engine.set_pace(0.0)


def _start_client(job: PacedJob, core: int) -> subprocess.Popen[str]:
    command = ["taskset", "-c", str(core), sys.executable, "-m", "benchmarks.sides.paced_client"]
    client = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert client.stdin is not None
    client.stdin.write(json.dumps(asdict(job)))
    client.stdin.close()
    # So that `communicate` does not flush what is closed.
    client.stdin = None
    return client


def _watch(
    client: subprocess.Popen[str],
    job: PacedJob,
    running: Running,
    engine: Engine,
    token_time_s: float,
) -> Paced:
    cpu_s, engine_cpu_s = running.cpu_s(), engine.child.cpu_s()
    rss = _Sampler(running)
    try:
        said = _read(client, "result")
    finally:
        rss_bytes = rss.stop()
    cpu_s, engine_cpu_s = running.cpu_s() - cpu_s, engine.child.cpu_s() - engine_cpu_s
    seconds, tokens = said["seconds"], said["tokens"]
    return Paced(
        side=running.name,
        streams=job.streams,
        token_time_s=token_time_s,
        seconds=seconds,
        chunks_per_s=tokens / seconds,
        streams_ended=said["streams_ended"],
        errors=said["errors"],
        ttft=Spread(**said["ttft"]),
        itl=Spread(**said["itl"]),
        proxy_cpu_share=cpu_s / seconds,
        engine_cpu_share=engine_cpu_s / seconds,
        client_cpu_share=said["cpu_s"] / seconds,
        cpu_s_per_1000_chunks=1000 * cpu_s / max(tokens, 1),
        rss_bytes=rss_bytes,
    )


def _read(client: subprocess.Popen[str], event: str) -> dict[str, Any]:
    assert client.stdout is not None
    line = client.stdout.readline()
    said: dict[str, Any] = json.loads(line) if line else {}
    if said.get("event") != event:
        raise ChildFailed(f"the paced client ended early: {line!r}")
    return said


class _Sampler:
    """The side's resident memory every second, until it is stopped."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._samples: list[int] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> list[int]:
        """The samples, in bytes."""
        self._stopped.set()
        self._thread.join()
        return self._samples

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._stopped.is_set():
            self._samples.append(self._running.rss_bytes())
            due_s += _SAMPLE_S
            self._stopped.wait(max(0.0, due_s - time.monotonic()))
