"""vLLM's offline engine, as a run starts it, but kept for the next run on the same base."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType

from training.bench import Bench, Candidate
from training.evaluation.engines import Subject
from training.evaluation.offline import OfflineEngine


class _Judge:
    """What an evaluation asks of an engine, and nothing of what only vLLM can be asked."""

    def __init__(self, engine: OfflineEngine) -> None:
        self.generate = engine.generate
        self.score = engine.score


class SharedEngine:
    """Starts when a base is first judged; ends with its context, or for another base."""

    def __init__(self, max_rank: int) -> None:
        self._max_rank = max_rank
        self._base: Path | None = None
        self._engine: OfflineEngine | None = None
        self._turn = Lock()

    def __enter__(self) -> "SharedEngine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    @contextmanager
    def open_bench(self, candidate: Candidate) -> Iterator[Bench]:
        """Base and candidate on this engine, for one run at a time.

        After a failure the next run gets a new engine. Whether trainer and engine agree, which no
        gate asks, is not looked at.
        """
        with self._turn:
            try:
                subjects = [Subject("base"), Subject("candidate", adapter=candidate.adapter)]
                described = {"base": candidate.base_name, "candidate": "this run's adapter"}
                yield Bench(_Judge(self._on(candidate.base)), subjects, described)
            except BaseException:
                self._close()
                raise

    def _on(self, base: Path) -> OfflineEngine:
        if self._engine is None or self._base != base:
            self._close()
            self._base = base
            self._engine = OfflineEngine(base, max_rank=self._max_rank).__enter__()
        return self._engine

    def _close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
