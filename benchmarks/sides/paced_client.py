"""Many streams at once, and the gaps between their tokens.

`python -m benchmarks.sides.paced_client` reads one JSON object (`PacedJob`) from standard input and
keeps that many streams open, each followed by the next on its connection. It writes a line
`{"event": "started"}` when all run and the window begins, and `{"event": "result", ...}`
(`PacedResult`) at its end.
"""

import asyncio
import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

from benchmarks.sides.gaps import PER_SECOND, Gaps, Spread

_EVENT = b"data: {"
_TAIL = len(_EVENT) - 1
_END = b"0\r\n\r\n"
_OK = b"HTTP/1.1 200 "
_CONNECTS_AT_ONCE = 64
_AGAIN_S = 0.2


@dataclass(frozen=True)
class PacedJob:
    """What is to be done."""

    host: str
    port: int
    requests: list[str]
    """As they go over the wire; streams take them in turn."""
    tokens: list[int]
    """How many tokens the answer to each has at least."""
    streams: int
    ramp_s: float
    """The streams begin spread over this time, before the window."""
    seconds: float


@dataclass(frozen=True)
class PacedResult:
    """What came of it, in the window alone. `errors` are by kind and of the ramp too."""

    seconds: float
    tokens: int
    """Events with a choice: the tokens and each stream's first."""
    streams_ended: int
    errors: dict[str, int]
    ttft: Spread
    itl: Spread
    cpu_s: float


class Tally:
    """What all streams count into."""

    def __init__(self) -> None:
        self.errors: Counter[str] = Counter()
        self.start_window()

    def start_window(self) -> None:
        """Forget what was counted, errors apart."""
        self.ttft, self.itl = Gaps(), Gaps()
        self.tokens = 0
        self.streams_ended = 0


class Stream(asyncio.Protocol):
    """One connection that asks for one stream after the other."""

    def __init__(
        self, tally: Tally, turns: Callable[[], tuple[bytes, int]], lost: Callable[["Stream"], None]
    ) -> None:
        """turns: the next request and how many tokens its answer has at least."""
        self._tally = tally
        self._turns = turns
        self._lost = lost
        self._tail = b""
        self._events = self._expected = 0
        self._asked_s = self._last_s = 0.0
        self._open = False
        self.closing = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        now_s = time.perf_counter()
        if not self._tail and not data.startswith(_OK):
            self._fail(f"answer: {data[:80].decode(errors='replace').splitlines()[0]}")
            return
        seen = self._tail + data
        self._tail = seen[-_TAIL:]
        if events := seen.count(_EVENT):
            self._count(events, now_s)
        if seen.endswith(_END):
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._open and not self.closing:
            self._tally.errors["connection lost in a stream"] += 1
        self._lost(self)

    def close(self) -> None:
        """Leave, in the middle of a stream or not."""
        self.closing = True
        if self.transport is not None:
            self.transport.abort()

    def _ask(self) -> None:
        assert self.transport is not None
        request, self._expected = self._turns()
        self._tail, self._events, self._open = b"", 0, True
        self._asked_s = time.perf_counter()
        self.transport.write(request)

    def _count(self, events: int, now_s: float) -> None:
        tally = self._tally
        tally.tokens += events
        if self._events:
            # Those that came together: one has waited, the others came at once.
            gap_s = now_s - self._last_s
            itl = tally.itl
            itl.buckets[min(int(gap_s * PER_SECOND), itl.last)] += 1
            if gap_s > itl.longest_s:
                itl.longest_s = gap_s
            if events > 1:
                itl.buckets[0] += events - 1
        else:
            tally.ttft.add(now_s - self._asked_s)
        self._last_s = now_s
        self._events += events

    def _end(self) -> None:
        self._open = False
        self._tally.streams_ended += 1
        if self._events < self._expected:
            self._tally.errors["stream too short"] += 1
        self._ask()

    def _fail(self, kind: str) -> None:
        self._tally.errors[kind] += 1
        self._open = False
        if self.transport is not None:
            self.transport.abort()


class Crowd:
    """All streams; a connection that is lost is made again."""

    def __init__(self, job: PacedJob) -> None:
        self.tally = Tally()
        self._job = job
        self._streams: set[Stream] = set()
        self._again: set[asyncio.Task[None]] = set()
        self._turn = 0
        self._slots = asyncio.Semaphore(_CONNECTS_AT_ONCE)
        self._done = False
        self._requests = [request.encode() for request in job.requests]

    async def run(self) -> PacedResult:
        """Ramp up, then measure."""
        job = self._job
        for index in range(job.streams):
            self._connect_soon(index * job.ramp_s / job.streams)
        # The slowest to begin has had as long again.
        await asyncio.sleep(2 * job.ramp_s)
        _say({"event": "started"})
        self.tally.start_window()
        began_s, cpu_s = time.perf_counter(), time.process_time()
        await asyncio.sleep(job.seconds)
        result = self._result(time.perf_counter() - began_s, time.process_time() - cpu_s)
        await self._leave()
        return result

    def _result(self, seconds: float, cpu_s: float) -> PacedResult:
        tally = self.tally
        errors = dict(tally.errors)
        if missing := self._job.streams - len(self._streams):
            errors["not connected at the end"] = missing
        return PacedResult(
            seconds=seconds,
            tokens=tally.tokens,
            streams_ended=tally.streams_ended,
            errors=errors,
            ttft=tally.ttft.spread(),
            itl=tally.itl.spread(),
            cpu_s=cpu_s,
        )

    async def _leave(self) -> None:
        self._done = True
        for task in list(self._again):
            task.cancel()
        for stream in list(self._streams):
            stream.close()
        # Connections are closed in the loop's next round.
        await asyncio.sleep(0)

    def _turns(self) -> tuple[bytes, int]:
        index = self._turn % len(self._requests)
        self._turn += 1
        return self._requests[index], self._job.tokens[index]

    def _connect_soon(self, delay_s: float) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(delay_s))
        self._again.add(task)
        task.add_done_callback(self._again.discard)

    async def _connect(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        loop, job = asyncio.get_running_loop(), self._job
        async with self._slots:
            try:
                _, stream = await loop.create_connection(
                    lambda: Stream(self.tally, self._turns, self._lost), job.host, job.port
                )
            except OSError as error:
                self.tally.errors[f"connect: {error.strerror}"] += 1
                if not self._done:
                    self._connect_soon(_AGAIN_S)
                return
        self._streams.add(stream)

    def _lost(self, stream: Stream) -> None:
        self._streams.discard(stream)
        if not self._done:
            self._connect_soon(_AGAIN_S)


def _say(line: object) -> None:
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


def main() -> None:
    """One job."""
    job = PacedJob(**json.load(sys.stdin))
    # Nothing here makes cycles, and a collection would be measured as a gap.
    gc.disable()

    async def run() -> PacedResult:
        return await Crowd(job).run()

    _say({"event": "result", **asdict(uvloop.run(run()))})


if __name__ == "__main__":
    main()
