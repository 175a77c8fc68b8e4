"""One soak from end to end: a warm-up, stretches with a lull after each, and the end."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.sides.engine import Engine
from benchmarks.soaking.answer import FAILED
from benchmarks.soaking.books import ClientBooks, LogBooks, LogFile, match
from benchmarks.soaking.client import Crowd, Patience
from benchmarks.soaking.counts import Counts, read_counts
from benchmarks.soaking.engine_side import EngineSide
from benchmarks.soaking.gateway import Gateway, Place
from benchmarks.soaking.kernel import Ports, cpu_s, look
from benchmarks.soaking.plan import Planned, Route, plan
from benchmarks.soaking.probed_gateway import Holdings
from benchmarks.soaking.results import END, SETTLED, START, Books, Checkpoint, Mix, Results
from benchmarks.soaking.wire import Wire

_LEFT = frozenset({200, 499}) | FAILED
"""What a request may be counted under that the client left: the answer may have been written."""
_QUIET_S = 60.0
_POLL_S = 0.1
_IDLE_SHARE = 0.02
_RESET_SHARE = 0.012
"""Of the calls that the engine may reset; some requests make none, and 1 % is asked for."""


@dataclass(frozen=True)
class Options:
    """What is to be done."""

    requests: int
    concurrency: int
    seed: int
    reset_share: float = _RESET_SHARE
    stretches: int = 10
    silent_readers: bool = True
    settle_s: float = 0.0
    """How long the gateway is left alone before the first look, for what it does by the minute."""
    patience: Patience = field(default_factory=Patience)


class Soak:
    """Follows the plan and fills in the results."""

    def __init__(
        self,
        options: Options,
        gateway: Gateway,
        place: Place,
        engine: Engine,
        results: Results,
        report: Callable[[int, str], None],
    ) -> None:
        """report: told how many requests are done, and what goes on."""
        self._options = options
        self._gateway = gateway
        self._engine_child = engine
        self._engine = EngineSide(engine.url)
        self._results = results
        self._report = report
        self._callers = len(place.callers)
        wire = Wire(f"127.0.0.1:{gateway.port}", place.callers)
        self._client = ClientBooks()
        self._log, self._log_file = LogBooks(), LogFile(gateway.log)
        self._counts = Counts({}, 0)
        self._crowd = Crowd(
            wire,
            ("127.0.0.1", gateway.port),
            self._client,
            options.patience,
            options.concurrency,
        )
        self._ports = Ports(gateway.port, gateway.metrics_port, engine.target.port)
        self._began_s = time.monotonic()

    async def run(self) -> None:
        """Ended early, it leaves the results as they stood at the last checkpoint.

        Raises ChildFailed where the gateway or the engine ended.
        """
        try:
            await self._warm_up()
            self._engine.set_reset_share(self._options.reset_share)
            await self._stretches()
            await self._end()
            self._results.partial = False
        finally:
            self._crowd.leave()
            self._engine.close()

    async def _warm_up(self) -> None:
        """Every kind of good request by every caller, so that what is made once is made."""
        self._report(0, "warm-up")
        kinds = [(route, streamed) for route in Route for streamed in (False, True)]
        planned = [
            Planned(route, streamed, number=number, caller=caller)
            for caller in range(self._callers)
            for number, (route, streamed) in enumerate(kinds)
            if route.streams or not streamed
        ]
        await self._crowd.follow(iter(planned), lambda: None)
        self._crowd.leave()
        await asyncio.sleep(self._options.settle_s)
        self._engine.let_go()
        await self._quiet(alone=True)
        holdings = await self._look(START, collected=True)
        self._results.tasks_at_start = holdings.tasks
        self._results.objects_at_start = holdings.objects

    async def _stretches(self) -> None:
        options, stretches = self._options, self._options.stretches
        planned = plan(options.requests, options.seed, self._callers, silent=options.silent_readers)
        ends = [options.requests * stretch // stretches for stretch in range(stretches + 1)]
        before = self._client.requests
        for stretch in range(1, stretches + 1):
            await self._crowd.follow(
                take(planned, ends[stretch] - ends[stretch - 1]),
                lambda: self._report(self._client.requests - before, "asking"),
            )
            await self._quiet()
            await self._look(f"{100 * stretch // stretches} %", collected=False)
            self._engine.forget_calls()

    async def _end(self) -> None:
        self._report(self._options.requests, "settling")
        self._crowd.leave()
        await self._quiet()
        await self._idle()
        await self._look(SETTLED, collected=False)
        self._engine.let_go()
        await self._quiet(alone=True)
        holdings = await self._look(END, collected=True)
        self._results.tasks_at_end = holdings.tasks
        self._results.objects_at_end = holdings.objects

    async def _quiet(self, *, alone: bool = False) -> None:
        """Returns once nothing is in flight and all is counted, or when that takes too long.

        alone: and nobody but the gateway's own probe is connected to the engine.
        """
        end_s = time.monotonic() + _QUIET_S
        while time.monotonic() < end_s:
            self._gateway.child.check()
            self._engine_child.child.check()
            if await asyncio.to_thread(self._is_quiet, alone):
                return
            await asyncio.sleep(_POLL_S)

    def _is_quiet(self, alone: bool) -> bool:
        self._counts = read_counts(self._gateway.metrics_port)
        self._log.take(self._log_file.new_lines())
        sockets = look(self._gateway.child.pid, self._ports).sockets
        return (
            not self._counts.in_flight
            and not self._engine.open_calls()
            and self._counts.total >= self._client.requests
            and self._log.lines >= self._client.requests
            and sockets.clients <= self._crowd.connections
            and not sockets.metrics
            and (not alone or sockets.engine == 1)
        )

    async def _idle(self) -> None:
        """Returns once the gateway does nothing any more: answers are judged after their end."""
        end_s = time.monotonic() + _QUIET_S
        used_s = cpu_s(self._gateway.child.pid)
        while time.monotonic() < end_s:
            await asyncio.sleep(1)
            before_s, used_s = used_s, cpu_s(self._gateway.child.pid)
            if used_s - before_s <= _IDLE_SHARE:
                return

    async def _look(self, name: str, *, collected: bool) -> Holdings:
        # First, since a scrape takes a socket for a while.
        process = look(self._gateway.child.pid, self._ports)
        holdings = await asyncio.to_thread(self._gateway.holdings, collected=collected)
        await asyncio.to_thread(self._is_quiet, False)
        self._results.checkpoints.append(
            Checkpoint(
                name=name,
                seconds=time.monotonic() - self._began_s,
                requests=self._client.requests,
                counted=self._counts.total,
                logged=self._log.lines,
                in_flight=self._counts.in_flight,
                engine_open=self._engine.open_calls(),
                connections=self._crowd.connections,
                process=process,
                tasks=sum(holdings.tasks.values()),
                blocks=holdings.blocks,
                heap_bytes=holdings.heap_bytes,
                remembered_bytes=holdings.remembered_bytes,
            )
        )
        self._write_down()
        return holdings

    def _write_down(self) -> None:
        """The books as they stand."""
        client, log = self._client, self._log
        mix = Mix(
            requests=client.requests,
            beginnings=client.beginnings,
            cancelled=dict(client.left),
            refused=dict(client.refused),
            paces=dict(client.paces),
            cut_off=dict(client.cut_off),
            unanswered=client.unanswered,
            connections=client.connections,
            resets=client.resets,
            answered_by_status=dict(client.answered_by_status()),
        )
        self._results.books = Books(
            mix=mix,
            problems=dict(client.problems),
            examples=client.examples,
            counted_by_status=self._counts.by_status,
            logged_by_status=dict(log.by_status()),
            doubled=log.doubled,
            matched=match(client, log, _LEFT),
            complaints=len(log.complaints),
            complaint_examples=log.complaints[:10],
        )
        self._results.engine = self._engine.totals()


def take(planned: Iterator[Planned], requests: int) -> Iterator[Planned]:
    """So many requests of the plan, and the beginnings before each."""
    while requests:
        step = next(planned)
        requests -= step.is_request
        yield step
