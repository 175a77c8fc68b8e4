"""One of several processes: takes its part of the schedule, and sends its samples over a pipe.

It says ("ready", None), and at the end ("done", PartOutcome) or ("failed", WorkloadError's text);
between them ("samples", [Sample, ...]) and ("progress", Progress). It is told ("begin", the
clock's time), "stop" for each Ctrl-C, and ("stop_sending", the grace's seconds). Where
the pipe ends, its parent has: it ends too.
"""

import asyncio
import os
import queue
import signal
import threading
from multiprocessing.connection import Connection
from typing import Any

from loadtest.client.target import Target, TargetError
from loadtest.running.drive import Driver, Part
from loadtest.running.looping import run_loop
from loadtest.running.options import Options
from loadtest.running.pacing import PreciseClock
from loadtest.running.state import PartOutcome
from loadtest.samples import Sample
from loadtest.workload.errors import WorkloadError
from loadtest.workload.spec import Workload

Message = tuple[str, Any]
BATCH_S = 0.1
"""Samples are handed on so often: one by one would cost as much as the requests."""


def child_main(
    pipe: Connection, workload: Workload, target: Target, options: Options, part: Part
) -> None:
    """Runs in the child."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)  # The parent says when to stop.
    outbox = _Outbox(pipe)
    clock = PreciseClock()
    try:
        driver = Driver(workload, target, options, outbox.add, clock, part)
        outbox.post("ready", None)
        _, begin_s = pipe.recv()
        outbox.post("done", run_loop(_drive(driver, pipe, outbox, begin_s)))
    except (WorkloadError, TargetError) as error:
        outbox.post("failed", str(error))
    except EOFError:
        os._exit(1)
    finally:
        clock.close()
        outbox.close()


async def _drive(
    driver: Driver, pipe: Connection, outbox: "_Outbox", begin_s: float
) -> PartOutcome:
    loop = asyncio.get_running_loop()

    def told() -> None:
        try:
            kind, *more = pipe.recv()
        except (EOFError, OSError):
            os._exit(1)
        if kind == "stop_sending":
            driver.stop_sending(*more)
        else:
            driver.interrupt()

    async def hand_on() -> None:
        while True:
            await asyncio.sleep(BATCH_S)
            outbox.flush()

    loop.add_reader(pipe.fileno(), told)
    batches = asyncio.create_task(hand_on())
    try:
        return await driver.run(begin_s, lambda progress: outbox.post("progress", progress))
    finally:
        batches.cancel()
        loop.remove_reader(pipe.fileno())


class _Outbox:
    """Sends in a thread of its own: a parent that is busy must not hold the event loop up."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._samples: list[Sample] = []
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def add(self, sample: Sample) -> None:
        """Takes a sample into the next batch."""
        self._samples.append(sample)

    def flush(self) -> None:
        if self._samples:
            self._queue.put(("samples", self._samples))
            self._samples = []

    def post(self, kind: str, value: object) -> None:
        """Sends a message after all samples so far."""
        self.flush()
        self._queue.put((kind, value))

    def close(self) -> None:
        """Returns when all is sent."""
        self._queue.put(None)
        self._thread.join()

    def _send(self) -> None:
        while (message := self._queue.get()) is not None:
            try:
                self._pipe.send(message)
            except OSError:
                os._exit(1)
