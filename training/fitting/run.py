"""Trains an adapter in processes that end with this one; a run goes on where it ended."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from training.data.rows import Row
from training.errors import Interrupted, TrainingError
from training.fitting.job import LOG, FitJob, Fitted, StepMetrics, read_result, store

Progress = Callable[[str, float | None], None]
"""Told what is being done, and the part of it that is done (0 to 1) where known."""
OnStep = Callable[[StepMetrics], None]

WORKER = "training.fitting.worker"
_STOP_PATIENCE_S = 120.0
"""A step, a look at the validation loss and a checkpoint must fit in."""
_END_PATIENCE_S = 10.0


def fit(
    job: FitJob,
    train: Sequence[Row],
    validation: Sequence[Row],
    *,
    num_processes: int = 1,
    progress: Progress = lambda *_: None,
    on_step: OnStep = lambda _: None,
) -> Fitted:
    """Train an adapter of `job.base` on `train`; `validation` (may be empty) tells the best step.

    A run that ended in the middle goes on from its last checkpoint in `job.folder`, and gives the
    same adapter; one that is done is not repeated. Ctrl-C and SIGTERM end it with a checkpoint.
    Raises TrainingError, and Interrupted after such an end.
    """
    store(job, train, validation)
    if (done := read_result(job.folder)) is not None:
        return done
    progress("starting the trainer", None)
    with (job.folder / LOG).open("ab") as log, _worker(job, num_processes, log) as child:
        reason = _relay(child, progress, on_step)
        child.wait()
    if (done := read_result(job.folder)) is not None:
        return done
    raise reason or TrainingError(_how_it_ended(job, child.returncode))


def _command(job: FitJob, num_processes: int) -> list[str]:
    worker = ["-m", WORKER, str(job.folder.absolute())]
    if num_processes == 1:
        return [sys.executable, *worker]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    return [sys.executable, *launcher, *worker]


@contextmanager
def _worker(job: FitJob, num_processes: int, log: IO[bytes]) -> Iterator["subprocess.Popen[str]"]:
    """The child while the block runs; nothing of it is left behind, however the block ends."""
    # In a group of its own: Ctrl-C reaches us alone, and it is for us to ask for a clean end.
    child = subprocess.Popen(
        _command(job, num_processes),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
    )
    try:
        with _sigterm_as_ctrl_c():
            yield child
    finally:
        assert child.stdin is not None
        assert child.stdout is not None
        with suppress(BrokenPipeError):
            child.stdin.close()  # every process of the run ends when its standard input does
        with suppress(subprocess.TimeoutExpired):
            child.wait(_END_PATIENCE_S)
        if child.poll() is None:
            child.kill()
            child.wait()
        child.stdout.close()


def _relay(
    child: "subprocess.Popen[str]", progress: Progress, on_step: OnStep
) -> TrainingError | None:
    """Tells of the run until it closes its output. Gives back why it did not finish, if it said."""
    try:
        return _hear_all(child, progress, on_step)
    except KeyboardInterrupt:
        progress("stopping after this step, with a checkpoint", None)
        with _asked_to_stop(child):
            reason = _hear_all(child, progress, on_step)
        return reason or Interrupted(
            "training was stopped; the same command goes on from its last checkpoint"
        )


def _hear_all(
    child: "subprocess.Popen[str]", progress: Progress, on_step: OnStep
) -> TrainingError | None:
    assert child.stdout is not None
    reason: TrainingError | None = None
    for line in child.stdout:
        reason = _hear(json.loads(line), progress, on_step) or reason
    return reason


@contextmanager
def _asked_to_stop(child: "subprocess.Popen[str]") -> Iterator[None]:
    """While the block waits for the end; a worker that cannot even end its step is given up."""
    assert child.stdin is not None
    with suppress(BrokenPipeError):
        child.stdin.write("stop\n")
        child.stdin.flush()
    timer = threading.Timer(_STOP_PATIENCE_S, child.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _hear(said: dict[str, Any], progress: Progress, on_step: OnStep) -> TrainingError | None:
    if "error" in said:
        return TrainingError(said["error"])
    if "interrupted" in said:
        return Interrupted(
            f"training stopped after step {said['interrupted']} of {said['steps']}, with a"
            " checkpoint; the same command goes on from there"
        )
    if "step" in said:
        step = StepMetrics.model_validate(said["step"])
        on_step(step)
        progress(_words(step, said["steps"], said["left_s"]), step.step / said["steps"])
    else:
        progress(said["stage"], said["fraction"])
    return None


def _words(step: StepMetrics, steps: int, left_s: float) -> str:
    parts = [f"training: step {step.step} of {steps}", f"loss {step.loss:.3f}"]
    if step.validation_loss is not None:
        parts.append(f"validation {step.validation_loss:.3f}")
    parts += [f"{step.tokens_per_s:.0f} tokens/s", f"{_duration(left_s)} left"]
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _how_it_ended(job: FitJob, code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (the machine may be out of memory)" if name == "SIGKILL" else ""
        return f"training was ended by {name}{hint}; the same command goes on from its checkpoint"
    log = (job.folder / LOG).read_text(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(log) if line.strip()), "no message")
    return f"training failed: {last}; see {LOG} in {job.folder}"


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """While the block runs; only a main thread hears signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
