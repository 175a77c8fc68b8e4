"""Runs merges quickly: each in a process forked from one that has imported torch.

In: a line of JSON, {"base", "adapter", "out", "cache", "end", "with"}. Out: what became of it,
{"steps", "killed", "said", "resumed"}. A step is an fsync, a rename or a write of weights; `end`
is the one at which the process gets the signal `with`, None for none.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from training.errors import TrainingError
from training.merge.job import AdapterInput, MergeJob
from training.merge.merge import merge

STEPS = ("fsync", "rename", "replace", "write", "copy_file_range")
MAX_SHARD_BYTES = 100_000


def job(told: dict[str, Any]) -> MergeJob:
    """What every run is asked for."""
    return MergeJob(
        base=Path(told["base"]),
        base_name="tiny",
        adapters=(AdapterInput(Path(told["adapter"]), name="one"),),
        out=Path(told["out"]),
        cache_dir=Path(told["cache"]),
        max_shard_bytes=MAX_SHARD_BYTES,
        verify=False,
    )


def _count(end: int | None, number: int, report: Callable[[str], None]) -> None:
    """From now on the steps are told, and the signal is sent before one of them."""
    taken = 0

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal taken
            taken += 1
            report(name)
            if taken - 1 == end:
                os.kill(os.getpid(), number)
            return real(*args, **kwargs)

        return step

    for name in STEPS:
        setattr(os, name, counted(name, getattr(os, name)))


def _run(told: dict[str, Any], out: int) -> None:
    write = os.write

    def say(word: str) -> None:
        write(out, word.encode() + b"\n")

    torch.set_num_threads(1)
    _count(told["end"], told["with"], lambda name: say(f"step {name}"))
    try:
        merged = merge(job(told))
    except TrainingError as error:
        say(f"said {type(error).__name__}: {error.message}")
    else:
        say(f"resumed {merged.resumed}")


def _forked(told: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            _run(told, writer)
        except BaseException as error:
            os.write(writer, f"said {type(error).__name__}: {error}\n".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        lines = [line.rstrip("\n").partition(" ") for line in said]
    _, status = os.waitpid(pid, 0)
    found = {kind: rest for kind, _, rest in lines}
    return {
        "steps": [rest for kind, _, rest in lines if kind == "step"],
        "killed": os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL,
        "said": found.get("said"),
        "resumed": int(found.get("resumed", "0")),
    }


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_forked(json.loads(line))), flush=True)
