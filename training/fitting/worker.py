"""One process of a training run: `python -m training.fitting.worker FOLDER`.

It writes one JSON object a line to standard output: `{"stage", "fraction"}`, `{"step", "left_s",
"steps"}`, and at last `{"error"}` or `{"interrupted", "steps"}` where it did not finish; the result
is a file. It ends when its parent does (standard input then ends); "stop" there, SIGTERM or SIGINT
make it write a checkpoint and end.
"""

import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from adapters_registry.child import take_standard_output
from training.errors import TrainingError
from training.fitting.job import RESULT, FitJob, read_job, write_whole

LOCK = ".lock"
INTERRUPTED_CODE = 3
_LOCK_PATIENCE_S = 30.0

Say = Callable[..., None]


def main(argv: list[str]) -> int:
    """0 done, 1 failed, 3 stopped on request."""
    lines = take_standard_output()
    stop = threading.Event()
    threading.Thread(target=_hear_parent, args=(stop,), daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    job = read_job(Path(argv[0]))
    say = _speaker(lines)
    try:
        return _work(job, stop, say)
    except TrainingError as error:
        say(error=error.message)
        return 1


def _work(job: FitJob, stop: threading.Event, say: Say) -> int:
    from training.fitting.session import finish, join_processes, set_up

    process = join_processes()
    if not process.is_main_process:
        say = _silent
    lock = _take(job.folder / LOCK) if process.is_main_process else None
    process.wait_for_everyone()
    try:
        say(stage="loading the base model", fraction=None)
        session = set_up(job, stop, say)
        session.train()
        watch, steps = session.course.watch, session.plan.steps
        if session.course.interrupted:
            say(interrupted=watch.last_step, steps=steps)
            return INTERRUPTED_CODE
        say(stage="writing the adapter", fraction=None)
        fitted = finish(session)
        if process.is_main_process:
            write_whole(job.folder / RESULT, fitted.model_dump_json(indent=2).encode())
    finally:
        if lock is not None:
            os.close(lock)
    return 0


def _speaker(lines: IO[str]) -> Say:
    def say(**line: Any) -> None:
        print(json.dumps(line), file=lines, flush=True)

    return say


def _silent(**line: Any) -> None:
    del line


def _take(path: Path) -> int:
    """The lock; a killed run's worker may need a moment to end. Raises TrainingError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    until = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise TrainingError(f"{path.parent}: another process trains here") from None
            time.sleep(0.1)
        else:
            return descriptor


def _hear_parent(stop: threading.Event) -> None:
    while os.read(0, 4096):
        stop.set()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
