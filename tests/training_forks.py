"""Starts training runs quickly, to be killed: each is forked from one that has imported everything.

In: a line with recipe, run folder and cache folder. Out: the process's id, then, when it has
ended, a line that says so. It ends all of them with itself.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import transformers  # noqa: F401  # what a run imports anyway, and takes seconds

from tests.training_runs import ToldEngine, train
from training.bench import Bench, Candidate

JUDGING = "judging"
"""A file that a run leaves when it comes to be judged; it then waits for its end."""
_PR_SET_PDEATHSIG = 1


@contextmanager
def hanging_bench(candidate: Candidate) -> Iterator[Bench]:
    """A bench that never opens."""
    (candidate.adapter.parent / JUDGING).touch()
    signal.pause()
    yield Bench(ToldEngine({}), [], {})


def _run(words: list[str]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    recipe, folder, cache_dir = (Path(word) for word in words)
    train(recipe, folder, cache_dir, hanging_bench)


if __name__ == "__main__":
    while line := sys.stdin.readline():
        if (pid := os.fork()) == 0:
            try:
                _run(line.split())
            finally:
                os._exit(1)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("ended", flush=True)
