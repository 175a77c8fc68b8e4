"""Starts real training workers quickly: each is forked from one that has imported everything.

In: a line of JSON, {"folder", "kill"}. Out: the exit code, negative for a signal. `kill` names a
point at which the worker kills itself with SIGKILL, as a machine that fails would. With a line as
its argument it is such a worker itself: CUDA cannot be used in a fork.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from training.fitting import preference_trainer, session
from training.fitting.checkpoints import Checkpoints
from training.fitting.trainer import StepTrainer
from training.fitting.worker import main

_PR_SET_PDEATHSIG = 1
_IMPORTED_ONCE = (preference_trainer, session)


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _at_step(method: Callable[..., Any], step: int, *, after: bool) -> Callable[..., Any]:
    """The method, with an end before or after its call at that step."""

    def wrapped(self: StepTrainer, *args: Any, **kwargs: Any) -> Any:
        if not after and self.state.global_step == step:
            _die()
        made = method(self, *args, **kwargs)
        if after and self.state.global_step == step:
            _die()
        return made

    return wrapped


def _plant(kill: str) -> None:
    train, put = StepTrainer.training_step, Checkpoints.put_in_place

    def put_in_place(self: Checkpoints, step: int) -> None:
        if step == 4:
            _die()
        put(self, step)

    def write_adapter(folder: Path, *_: Any) -> None:
        folder.mkdir()
        _die()

    def terminated(self: StepTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return train(self, *args, **kwargs)

    owner, name, planted = {
        # Before there is a checkpoint.
        "first step": (StepTrainer, "training_step", _at_step(train, 0, after=True)),
        "between steps": (StepTrainer, "training_step", _at_step(train, 3, after=False)),
        # Its files are written, and it is not yet in place.
        "checkpoint": (Checkpoints, "put_in_place", put_in_place),
        "adapter": (session, "write_adapter", write_adapter),
        # A polite end, which gives time for a checkpoint.
        "SIGTERM": (StepTrainer, "training_step", terminated),
    }[kill]
    setattr(owner, name, planted)


def _work(folder: str, kill: str | None) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    reading, _ = os.pipe()  # a standard input that never ends
    os.dup2(reading, 0)
    log = os.open(Path(folder) / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    said = os.open(Path(folder) / "said.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(log, 2)
    if kill is not None:
        _plant(kill)
    os._exit(main([folder]))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _work(**json.loads(sys.argv[1]))
    on_gpu = torch.cuda.is_available()
    while line := sys.stdin.readline():
        if (pid := os.fork()) == 0:
            try:
                if on_gpu:
                    words = [sys.executable, "-m", "tests.fitting_forks", line]
                    os.execv(sys.executable, words)  # noqa: S606
                _work(**json.loads(line))
            finally:
                os._exit(70)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
