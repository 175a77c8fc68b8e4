"""Runs a workload against a target, in this process or in several."""

import asyncio
import contextlib
import resource
import signal
from collections.abc import Callable, Iterator
from functools import partial

from loadtest.client.target import Target
from loadtest.running.brake import Brake
from loadtest.running.drive import Driver
from loadtest.running.looping import run_loop
from loadtest.running.options import Options
from loadtest.running.pacing import AlarmClock, PreciseClock
from loadtest.running.processes import run_processes
from loadtest.running.sending import OnSample
from loadtest.running.state import OnProgress, PartOutcome, RunOutcome, outcome_of
from loadtest.workload.spec import Workload

_BEGIN_AFTER_S = 0.05
"""What is to be set up first takes so long."""


def run(
    workload: Workload,
    target: Target,
    options: Options,
    on_sample: OnSample,
    *,
    clock: AlarmClock | None = None,
    on_progress: OnProgress | None = None,
    brake: Brake | None = None,
) -> RunOutcome:
    """Sends the workload and hands each request's Sample to `on_sample`, in the order they end.

    Ctrl-C ends it in order: nothing more is sent, what is under way gets `options.grace_s`, then
    it is cancelled, and the outcome is that of what was run; a second Ctrl-C cancels at once.
    Raises WorkloadError and TargetError before anything is sent, and what `on_sample` raises.
    clock: of one process only. brake: ends the run from a callback.
    """
    _raise_file_limit()
    if options.processes > 1:
        whole = run_processes(workload, target, options, on_sample, on_progress, brake)
        return outcome_of(whole, options.processes)
    own = clock or PreciseClock()
    try:
        driver = Driver(workload, target, options, on_sample, own)
        whole = run_loop(_drive(driver, own, on_progress, brake))
    finally:
        own.close()
    return outcome_of(whole, 1)


async def _drive(
    driver: Driver, clock: AlarmClock, on_progress: OnProgress | None, brake: Brake | None
) -> PartOutcome:
    if brake is not None:
        brake.attach(partial(driver.stop_sending, brake.grace_s))
    with _interrupts(driver.interrupt):
        return await driver.run(clock.now() + _BEGIN_AFTER_S, on_progress)


@contextlib.contextmanager
def _interrupts(callback: Callable[[], object]) -> Iterator[None]:
    """Calls back for each Ctrl-C, and for a plain kill, instead of breaking off."""
    loop = asyncio.get_running_loop()
    taken: list[signal.Signals] = []
    for one in (signal.SIGINT, signal.SIGTERM):
        # Not in a thread other than the main one.
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(one, callback)
            taken.append(one)
    try:
        yield
    finally:
        for one in taken:
            loop.remove_signal_handler(one)


def _raise_file_limit() -> None:
    """As many connections as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
