"""An engine whose rule is known, over HTTP: `python -m benchmarks.truths.engine NAME SEED`.

NAME is one of `cases.ENGINES`, SEED is of its draws. It says `listening on URL`, and answers every
POST with a chat stream as vLLM's. `GET /late` tells how late it was itself: the moments at which it
wrote tokens less the moments at which its rule has them.
"""

import asyncio
import json
import random
import sys
from array import array
from collections import deque

import numpy as np
import uvloop

from benchmarks.truths.cases import ENGINES
from benchmarks.truths.shapes import Batch, Freezing, Shape, Slots
from loadtest.fake.http import LAST_CHUNK, Exchange, chunk_bytes, head_bytes, listen
from loadtest.running.pacing import PreciseClock
from loadtest.running.timetable import Timetable


def _event(choices: list[object], **more: object) -> bytes:
    said = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 0, "model": "base"}
    data = b"data: " + json.dumps(said | {"choices": choices} | more).encode() + b"\n\n"
    return chunk_bytes(data, len(data))


def _delta(delta: dict[str, str], finish: str | None = None) -> bytes:
    return _event([{"index": 0, "delta": delta, "finish_reason": finish}])


HEAD = head_bytes(200, "text/event-stream; charset=utf-8", None)
TOKEN = _delta({"content": " word"})
FIRST = HEAD + _delta({"role": "assistant", "content": ""}) + TOKEN


def tail(tokens: int) -> bytes:
    """The last token and what follows it."""
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}
    done = b"data: [DONE]\n\n"
    last = _delta({"content": " word"}, "length") + _event([], usage=usage)
    return last + chunk_bytes(done, len(done)) + LAST_CHUNK


class Served:
    """Answers by a shape's rule. Times are the clock's."""

    def __init__(self, shape: Shape, seed: int, clock: PreciseClock) -> None:
        self._shape = shape
        self._rng = random.Random(seed)
        self._timetable = Timetable(clock, 0.0)
        self._late = array("d")
        self._free = [0.0] * shape.slots if isinstance(shape, Slots) else []
        self._begin_s: float | None = None
        self._queue: deque[_Running] = deque()
        self._come = asyncio.Event()
        self._steps: asyncio.Task[None] | None = None

    async def handle(self, exchange: Exchange) -> None:
        """Answers one request."""
        come_s = self._timetable.now()
        if exchange.method == "GET":
            exchange.answer(200, json.dumps(self.late()).encode(), "application/json")
        elif isinstance(self._shape, Batch):
            await self._join(exchange, come_s, self._shape.tokens)
        else:
            first_s, last_s = self._promise(come_s)
            await self._write(exchange, first_s, FIRST)
            await self._write(exchange, last_s, tail(2))

    def late(self) -> dict[str, float]:
        """How late its writes were, in seconds."""
        if not self._late:
            return {"writes": 0}
        p50, p99, most = np.percentile(np.frombuffer(self._late), [50, 99, 100])
        return {"writes": len(self._late), "p50_s": p50, "p99_s": p99, "max_s": most}

    def _promise(self, come_s: float) -> tuple[float, float]:
        """When the first and the last token of a request come."""
        shape = self._shape
        if isinstance(shape, Slots):
            place = min(range(shape.slots), key=self._free.__getitem__)
            first_s = max(come_s, self._free[place])
            self._free[place] = last_s = first_s + shape.draw(self._rng)
            return first_s, last_s
        assert isinstance(shape, Freezing)
        begin_s = self._begin_s = come_s if self._begin_s is None else self._begin_s
        first_s = shape.done(come_s - begin_s, shape.first_s)
        return begin_s + first_s, begin_s + shape.done(first_s, shape.rest_s)

    async def _write(self, exchange: Exchange, at_s: float, data: bytes) -> None:
        await self._timetable.until(at_s)
        exchange.raw(data)
        self._late.append(max(0.0, self._timetable.now() - at_s))

    async def _join(self, exchange: Exchange, come_s: float, tokens: int) -> None:
        mine = _Running(exchange, come_s, tokens)
        self._queue.append(mine)
        self._come.set()
        if self._steps is None:
            self._steps = asyncio.create_task(self._step())
        await mine.done

    async def _step(self) -> None:
        """The batch's loop: one step after the other, by the rule's time, not by that of writes."""
        shape = self._shape
        assert isinstance(shape, Batch)
        running: dict[_Running, None] = {}
        now_s, last = 0.0, tail(shape.tokens)
        while True:
            if not running:
                now_s = max(now_s, await self._next_come_s())
            while self._queue and self._queue[0].come_s <= now_s and len(running) < shape.most:
                running[self._queue.popleft()] = None
            now_s += shape.step(len(running))
            await self._timetable.until(now_s)
            for one in tuple(running):
                if one.step(last):
                    del running[one]
            self._late.append(max(0.0, self._timetable.now() - now_s))

    async def _next_come_s(self) -> float:
        """When the next to join came; waits for one."""
        if not self._queue:
            self._come.clear()
            await self._come.wait()
        return self._queue[0].come_s


class _Running:
    """A request of a batch."""

    def __init__(self, exchange: Exchange, come_s: float, tokens: int) -> None:
        self.come_s = come_s
        self.done = asyncio.get_running_loop().create_future()
        self._exchange = exchange
        self._left = tokens
        self._begun = False

    def step(self, last: bytes) -> bool:
        """Writes the next token; whether that was all, or the client has left."""
        if self.done.done():
            return True
        self._left -= 1
        self._exchange.raw(last if not self._left else TOKEN if self._begun else FIRST)
        self._begun = True
        if not self._left:
            self.done.set_result(None)
        return not self._left


async def serve(shape: Shape, seed: int) -> None:
    """Serves until it is ended."""
    clock = PreciseClock()
    server = await listen(Served(shape, seed, clock).handle, "127.0.0.1", 0, backlog=4096)
    print(f"listening on http://127.0.0.1:{server.port}", flush=True)
    await server.run()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as main:
        main.run(serve(ENGINES[sys.argv[1]], int(sys.argv[2])))
