"""Keeps the engine and the gateway running as children, and ends them so that nothing stays behind.

Who ends whom:
- A child that dies takes its process group with it (`processes`).
- When the supervisor itself is killed, the kernel kills its children (`leash`), and the guard kills
  their groups (`guard`). When the guard is killed, the supervisor starts another.
- Descendants that left their group become the supervisor's children, and are killed at its end.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from gateway.backoff import Backoff
from gateway.console import Console
from gateway.diagnosis import why_it_failed
from gateway.guard import Guard
from gateway.leash import adopt_orphans
from gateway.processes import Child, Command, end_adopted

T = TypeVar("T")

_PROBE_TIMEOUT_S = 5.0
_FAILURES_UNTIL_DEAD = 3
_TAIL_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Service:
    """A child that is to be up all the time."""

    command: Command
    alive_url: str
    """Answers 200 once the start has succeeded; later, 5xx means that it must be started again."""
    start_limit_s: float
    stop_grace_s: float
    prefix: str = ""
    """What its lines are printed under; its name when empty."""


@dataclass(frozen=True, slots=True)
class Timings:
    """How often things are looked at, and how long a restart waits, in seconds."""

    poll_s: float = 0.25
    health_s: float = 1.0
    backoff_first_s: float = 1.0
    backoff_most_s: float = 30.0
    backoff_stable_s: float = 60.0
    guard_again_s: float = 0.5


class Stopped(Exception):
    """A signal asked for the end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.signal = number


class StartFailed(Exception):
    """A service ended, or did not answer in time, before it ever was up."""

    def __init__(self, name: str, reason: str, tail: list[str]) -> None:
        super().__init__(f"the {name} could not start: {reason}")
        self.tail = tail


class Supervisor:
    """The children of `loraplex serve`. Used as `async with`; at its end nothing is left."""

    def __init__(self, console: Console, timings: Timings | None = None) -> None:
        self._console = console
        self._timings = timings or Timings()
        self._guard = Guard()
        self._children: dict[str, tuple[Child, float]] = {}
        """By name, with the seconds it is given to end."""
        self._tiers: list[list[str]] = []
        """Names in the order of their first starts; the last tier is ended first, all of a tier
        together."""
        self._up: set[str] = set()
        self._stop = asyncio.Event()
        self._force = asyncio.Event()
        self._signal: signal.Signals | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._stop_signals = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            self._stop_signals.append(signal.SIGHUP)

    async def __aenter__(self) -> Self:
        adopt_orphans()
        loop = asyncio.get_running_loop()
        for number in self._stop_signals:
            loop.add_signal_handler(number, self._asked_to_stop, number)
        self._guard.start()
        self._tasks.append(asyncio.create_task(self._keep_guard()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._console.end_progress()
        await self._end_tasks()
        # The gateway drains first, while the engine still answers.
        for tier in reversed(self._tiers):
            living = [self._children[name] for name in tier if name in self._children]
            await asyncio.gather(*(self._end(*child) for child in living))
        await end_adopted(frozenset({self._guard.pid}))
        self._guard.close()
        for number in self._stop_signals:
            asyncio.get_running_loop().remove_signal_handler(number)

    async def step(self, command: Command, on_line: Callable[[str], None]) -> int:
        """Runs a command to its end and answers its exit status. Raises Stopped."""
        self._tiers.append([command.name])
        child = self._start(command, on_line, grace_s=0)
        status = await self.unless_stopped(child.wait())
        self._forget(child)
        return status

    async def serve(
        self,
        tiers: Sequence[Sequence[Service]],
        *,
        ready_urls: Sequence[str],
        on_ready: Callable[[], None],
    ) -> None:
        """Keeps the services up until a signal comes.

        tiers: the last one is ended first, the services of one together.
        on_ready: called once, when all are up and each of ready_urls has answered 200, in order.
        Raises Stopped, or StartFailed for a service that was never up.
        """
        self._tiers += [[service.command.name for service in tier] for tier in tiers]
        services = [service for tier in tiers for service in tier]
        works = [self._keep(service) for service in services]
        works.append(self._announce(services, ready_urls, on_ready))
        tasks = [asyncio.create_task(work) for work in works]
        self._tasks += tasks
        await self.unless_stopped(_first_failure(tasks))

    async def unless_stopped(self, work: Awaitable[T]) -> T:
        """The work's result. Raises Stopped as soon as a signal asks for the end."""
        doing = asyncio.ensure_future(work)
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if self._signal is not None:
                raise Stopped(self._signal)
            return doing.result()
        finally:
            for task in (doing, stopping):
                task.cancel()
            await asyncio.gather(doing, stopping, return_exceptions=True)

    # keeping

    async def _keep(self, service: Service) -> None:
        """Starts the service again whenever it dies. Raises StartFailed if it was never up."""
        name, timings = service.command.name, self._timings
        loop = asyncio.get_running_loop()
        backoff = Backoff(timings.backoff_first_s, timings.backoff_most_s, timings.backoff_stable_s)
        was_up = False
        while True:
            began_s = loop.time()
            child = self._start(
                service.command,
                lambda line: self._console.child_line(service.prefix or name, line),
                service.stop_grace_s,
            )
            reason = await self._until_dead(service, child, again=was_up)
            was_up |= name in self._up
            self._up.discard(name)
            self._forget(child)
            if not was_up:
                raise StartFailed(name, reason, [*child.tail][-_TAIL_SHOWN:])
            delay_s = backoff.after(loop.time() - began_s)
            self._console.warn(f"the {name} ended: {reason}; starting it again in {delay_s:g} s")
            await asyncio.sleep(delay_s)

    async def _until_dead(self, service: Service, child: Child, *, again: bool) -> str:
        """Returns why the child is dead, once it is, by itself or because it was unwell."""
        watching = asyncio.create_task(self._watch(service, again=again))
        dying = asyncio.create_task(child.wait())
        try:
            await asyncio.wait({watching, dying}, return_when=asyncio.FIRST_COMPLETED)
            if not dying.done():
                await child.kill()
                return watching.result()
            return why_it_failed(dying.result(), child.tail)
        finally:
            watching.cancel()
            dying.cancel()
            await asyncio.gather(watching, dying, return_exceptions=True)

    async def _watch(self, service: Service, *, again: bool) -> str:
        """Returns when the service must be killed, and why."""
        name = service.command.name
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with httpx.AsyncClient(trust_env=False, timeout=_PROBE_TIMEOUT_S) as client:
            while await _probe(client, service.alive_url) != 200:
                if loop.time() - began_s > service.start_limit_s:
                    return f"it did not answer within {service.start_limit_s:g} s"
                await asyncio.sleep(self._timings.poll_s)
            self._up.add(name)
            if again:
                self._console.say(f"the {name} is up again after {loop.time() - began_s:.0f} s")
            failures = 0
            while failures < _FAILURES_UNTIL_DEAD:
                await asyncio.sleep(self._timings.health_s)
                status = await _probe(client, service.alive_url)
                # Slow is not dead: None is a timeout.
                failures = failures + 1 if status is not None and status >= 500 else 0
        return "its health check failed"

    async def _announce(
        self, services: list[Service], ready_urls: Sequence[str], on_ready: Callable[[], None]
    ) -> None:
        began_s = asyncio.get_running_loop().time()
        names = [service.command.name for service in services]
        waited_for = [*ready_urls]
        async with httpx.AsyncClient(trust_env=False, timeout=_PROBE_TIMEOUT_S) as client:
            while waited_for:
                if missing := [name for name in names if name not in self._up]:
                    news = f"starting the {missing[0]}"
                elif await _probe(client, waited_for[0]) == 200:
                    del waited_for[0]
                    continue
                else:
                    news = "waiting until the gateway is ready"
                self._console.progress(news, began_s)
                await asyncio.sleep(self._timings.poll_s)
        self._console.end_progress()
        on_ready()

    async def _keep_guard(self) -> None:
        while True:
            await _death_of(self._guard.pid)
            self._guard.start()
            await asyncio.sleep(self._timings.guard_again_s)

    # children

    def _start(self, command: Command, on_line: Callable[[str], None], grace_s: float) -> Child:
        child = Child.start(command, on_line)
        self._guard.add(child.pid)
        self._children[child.name] = (child, grace_s)
        return child

    def _forget(self, child: Child) -> None:
        self._guard.remove(child.pid)
        del self._children[child.name]

    async def _end(self, child: Child, grace_s: float) -> None:
        """Ends a child in its time, or at once when a second signal comes."""
        stopping = asyncio.create_task(child.stop(grace_s))
        forcing = asyncio.create_task(self._force.wait())
        await asyncio.wait({stopping, forcing}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            await child.kill()
        await stopping
        forcing.cancel()
        self._forget(child)

    # ends

    def _asked_to_stop(self, number: signal.Signals) -> None:
        if self._signal is None:
            self._signal = number
            self._console.end_progress()
            if self._children:
                self._console.say("stopping; once more to stop at once")
            self._stop.set()
        else:
            self._force.set()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _first_failure(tasks: list[asyncio.Task[Any]]) -> None:
    """Raises the first exception of any of the tasks."""
    await asyncio.gather(*tasks)


async def _probe(client: httpx.AsyncClient, url: str) -> int | None:
    """The status; None when no answer came in time, 599 when there is nobody to give one."""
    try:
        return (await client.get(url)).status_code
    except httpx.TimeoutException:
        return None
    except httpx.HTTPError:
        return 599


async def _death_of(pid: int) -> None:
    """Returns when the process is dead."""
    loop = asyncio.get_running_loop()
    dead = asyncio.Event()
    fd = os.pidfd_open(pid)
    loop.add_reader(fd, dead.set)
    try:
        await dead.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
