"""One process's run: sets its parts up, drives them, and ends in order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from loadtest.client.client import Client
from loadtest.client.target import Target
from loadtest.running.closed_loop import closed_loop
from loadtest.running.first_answers import FirstAnswers
from loadtest.running.open_loop import open_loop
from loadtest.running.options import Options
from loadtest.running.pacing import AlarmClock
from loadtest.running.sending import OnSample, Sender
from loadtest.running.state import Ended, OnProgress, PartOutcome, Progress
from loadtest.running.tester import Watch
from loadtest.running.timetable import Timetable
from loadtest.samples import Sample
from loadtest.workload.arrivals import ClosedLoop
from loadtest.workload.schedule import by_session, extent, schedule
from loadtest.workload.spec import Workload
from loadtest.workload.tokenizer import load_tokenizer

_PROGRESS_S = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a run a process has."""

    number: int = 0
    of: int = 1


class Driver:
    """A run that is ready; `run` may be called once, in an event loop."""

    def __init__(
        self,
        workload: Workload,
        target: Target,
        options: Options,
        on_sample: OnSample,
        clock: AlarmClock,
        part: Part | None = None,
    ) -> None:
        """Reads the workload's files. Raises WorkloadError, TargetError."""
        self._workload = workload
        self._target = target
        self._options = options
        self._part = part or Part()
        self._on_sample = on_sample
        self._clock = clock
        schedule_s = extent(workload).seconds
        self._end_s = options.end_s(schedule_s)
        self._phases = options.phases(schedule_s)
        self._sessions = by_session(schedule(workload, part=self._part.number, parts=self._part.of))
        self._tokenizer = load_tokenizer(options.tokenizer) if options.tokenizer else None
        self._first = FirstAnswers(target.url)
        target.ssl_context()
        self._ended: Ended = "completed"
        self._stopped = False
        self._timetable: Timetable | None = None
        self._client: Client | None = None
        self._watch: Watch | None = None
        self._grace: asyncio.TimerHandle | None = None

    async def run(self, begin_s: float, on_progress: OnProgress | None = None) -> PartOutcome:
        """begin_s: the clock's time that the run's seconds count from."""
        options = self._options
        timetable = self._timetable = Timetable(self._clock, begin_s)
        watch = self._watch = Watch(self._clock, self._is_measured(begin_s))
        async with Client(
            self._target,
            self._clock,
            options.timeouts,
            max_connections=max(1, options.max_connections // self._part.of),
            requests_per_connection=options.requests_per_connection,
        ) as client:
            self._client = client
            sender = Sender(client, timetable, begin_s, self._phases, self._take, self._tokenizer)
            if self._stopped:
                timetable.stop()  # Before the begin.
            async with _progress(sender, on_progress):
                watch.start()
                try:
                    await self._send_all(sender)
                finally:
                    watch.stop()
                    self._stop_grace()
            watch.figures.waits, watch.figures.out_of_files = client.waits, client.out_of_files
        self._first.finish()
        self._judge_target()
        return PartOutcome(
            self._ended, self._first.problem if self._ended == "target" else None,
            max(0.0, timetable.now()), sender.tally.sent, sender.tally.unsent, watch.figures,
        )  # fmt: skip

    def stop_sending(self, grace_s: float) -> None:
        """Sends no more; what is under way is cancelled after the grace. It is no interruption."""
        if self._ended == "completed":
            self._end("completed", grace_s)

    def interrupt(self) -> None:
        """Sends no more, and gives what is under way its grace; called again, none."""
        if self._ended == "completed":
            self._end("interrupted", self._options.grace_s)
        elif self._client is not None:
            self._client.cancel()

    async def _send_all(self, sender: Sender) -> None:
        arrivals = self._workload.arrivals
        try:
            if isinstance(arrivals, ClosedLoop):
                await closed_loop(
                    self._sessions, arrivals.stages, sender, self._end_s,
                    part=self._part.number, parts=self._part.of,
                )  # fmt: skip
            else:
                # The schedule ends by itself: a trace with its last request, which is to be sent.
                await open_loop(self._sessions, sender, self._options.stop_after_s)
        except BaseExceptionGroup as group:
            # One that a callback or a file caused: the others are its consequences.
            raise group.exceptions[0] from None

    def _take(self, sample: Sample) -> None:
        assert self._watch is not None
        self._watch.note(sample)
        self._first.see(sample)
        self._judge_target()
        self._on_sample(sample)

    def _judge_target(self) -> None:
        wrong = self._first.problem is not None and not self._options.keep_going
        if wrong and self._ended == "completed":
            self._end("target", 0.0)

    def _end(self, how: Ended, grace_s: float) -> None:
        self._ended, self._stopped = how, True
        if self._timetable is not None:
            self._timetable.stop()
        if self._client is not None:
            loop = asyncio.get_running_loop()
            self._stop_grace()
            self._grace = loop.call_later(grace_s, self._client.cancel)

    def _stop_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()

    def _is_measured(self, begin_s: float) -> Callable[[float], bool]:
        """Of moments of the clock. The phases of many requests go by their numbers besides."""
        end_s, first = self._end_s, self._options.warmup_requests

        def measured(at_s: float) -> bool:
            since_s = at_s - begin_s
            if since_s < 0 or (end_s is not None and since_s >= end_s):
                return False
            return self._phases.of(first, since_s) == "measured"

        return measured


@contextlib.asynccontextmanager
async def _progress(sender: Sender, on_progress: OnProgress | None) -> AsyncIterator[None]:
    """Tells each second how far it is, and at once when it is stopped."""
    if on_progress is None:
        yield
        return
    tally, timetable = sender.tally, sender.timetable

    async def tell() -> None:
        while True:
            stopped = timetable.stopped
            on_progress(Progress(timetable.now(), tally.sent, tally.ended, stopped))
            if stopped:
                await asyncio.sleep(_PROGRESS_S)
            else:
                await timetable.until(timetable.now() + _PROGRESS_S)

    task = asyncio.create_task(tell())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
