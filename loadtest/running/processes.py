"""Several processes, each with its share of the schedule; their samples come here over pipes."""

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

from loadtest.client.target import Target
from loadtest.running.brake import Brake
from loadtest.running.child import child_main
from loadtest.running.drive import Part
from loadtest.running.options import Options
from loadtest.running.sending import OnSample
from loadtest.running.state import OnProgress, PartOutcome, Progress
from loadtest.running.tester import OwnFigures
from loadtest.workload.errors import WorkloadError
from loadtest.workload.spec import Workload

_BEGIN_AFTER_S = 0.1
_LOOK_S = 0.2
"""A Ctrl-C is passed on within so long."""


def run_processes(
    workload: Workload,
    target: Target,
    options: Options,
    on_sample: OnSample,
    on_progress: OnProgress | None,
    brake: Brake | None = None,
) -> PartOutcome:
    """Runs `options.processes` children that begin together; returns what came of all.

    Raises WorkloadError as each of them would. One that dies is told of in `problem`.
    """
    with _signals() as signals, _children(workload, target, options) as children:
        together = _Together(children, on_sample, on_progress)
        together.begin()
        if brake is not None:
            brake.attach(partial(together.stop_sending, brake.grace_s))
        passed_on = 0
        while together.running:
            together.receive(_LOOK_S)
            while passed_on < len(signals):
                passed_on += 1
                together.stop()
        return together.outcome()


class _Child:
    """A process and the pipe to it."""

    def __init__(self, process: SpawnProcess, pipe: Connection) -> None:
        self.process = process
        self.pipe = pipe
        self.outcome: PartOutcome | None = None
        self.progress = Progress(0.0, 0, 0)

    def tell(self, *message: Any) -> None:
        with contextlib.suppress(OSError):  # It has ended.
            self.pipe.send(message)


class _Together:
    """All children of a run."""

    def __init__(
        self, children: list[_Child], on_sample: OnSample, on_progress: OnProgress | None
    ) -> None:
        self._children = children
        self._on_sample = on_sample
        self._on_progress = on_progress
        self._problem: str | None = None
        self.running = list(children)

    def begin(self) -> None:
        """Waits until all are ready, and lets them begin at one moment of the shared clock."""
        for number, child in enumerate(self._children, 1):
            try:
                kind, value = child.pipe.recv()
            except EOFError:
                raise RuntimeError(f"process {number} ended before the run began") from None
            if kind == "failed":
                raise WorkloadError(value)
        begin_s = time.perf_counter() + _BEGIN_AFTER_S
        for child in self._children:
            child.tell("begin", begin_s)

    def stop(self) -> None:
        """Passes a Ctrl-C on."""
        for child in self.running:
            child.tell("stop")

    def stop_sending(self, grace_s: float) -> None:
        """Passes a pulled brake on."""
        for child in self.running:
            child.tell("stop_sending", grace_s)

    def receive(self, timeout_s: float) -> None:
        """Takes what has come from any child."""
        by_pipe = {child.pipe: child for child in self.running}
        for pipe in wait(list(by_pipe), timeout_s):
            assert isinstance(pipe, Connection)
            child = by_pipe[pipe]
            try:
                kind, value = pipe.recv()
            except (EOFError, OSError):
                self._lost(child)
            else:
                self._take(child, kind, value)

    def outcome(self) -> PartOutcome:
        """Of all that told theirs."""
        whole = PartOutcome("completed", None, 0.0, 0, 0, OwnFigures())
        for child in self._children:
            if child.outcome is not None:
                whole.merge(child.outcome)
        if self._problem is not None:
            whole.ended, whole.problem = "interrupted", self._problem
        return whole

    def _take(self, child: _Child, kind: str, value: Any) -> None:
        if kind == "samples":
            for sample in value:
                self._on_sample(sample)
        elif kind == "progress":
            child.progress = value
            self._tell(child)
        elif kind == "done":
            child.outcome = value
            self.running.remove(child)
            if value.ended == "target":
                self.stop()

    def _tell(self, child: _Child) -> None:
        """Once a round, with what all have told last."""
        if self._on_progress is not None and child is self.running[0]:
            told = [one.progress for one in self._children]
            self._on_progress(
                Progress(
                    child.progress.now_s,
                    sum(one.sent for one in told),
                    sum(one.ended for one in told),
                    any(one.stopped for one in told),
                )
            )

    def _lost(self, child: _Child) -> None:
        self.running.remove(child)
        child.process.join(1)
        code = child.process.exitcode
        self._problem = (
            f"one of {len(self._children)} processes died (exit code {code}); what it had not"
            " told yet is missing"
        )
        self.stop()


@contextlib.contextmanager
def _children(workload: Workload, target: Target, options: Options) -> Iterator[list[_Child]]:
    """Starts them; none outlives the block."""
    context = multiprocessing.get_context("spawn")
    children: list[_Child] = []
    try:
        for number in range(options.processes):
            ours, theirs = context.Pipe()
            part = Part(number, options.processes)
            process = context.Process(
                target=child_main, args=(theirs, workload, target, options, part), daemon=True
            )
            with _no_interrupt():
                process.start()
            theirs.close()
            children.append(_Child(process, ours))
        yield children
    finally:
        for child in children:
            child.pipe.close()
        for child in children:
            child.process.join(5)
            child.process.kill()
            child.process.join()
            child.process.close()


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """What is started meanwhile gets no Ctrl-C, not even before it can say so itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Each Ctrl-C or plain kill while the block runs, instead of an exception. Where signals
    cannot be taken, outside of the main thread, none."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        came.append(number)

    before = {}
    for one in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError):
            before[one] = signal.signal(one, note)
    try:
        yield came
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
