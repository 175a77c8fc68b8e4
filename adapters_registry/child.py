"""Heavy work in a process of its own, so that its caller never imports torch.

The child writes one JSON object a line to standard output: `{"stage", "fraction"}` while it works,
`{"error"}` at last where it failed. It ends when its parent does: standard input, a pipe that the
parent never writes to, then reports its end.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import IO

from adapters_registry.errors import ModelError

Report = Callable[[str, float | None], None]
"""What is being done, and the fraction of the whole that is done (None: not known)."""

CHILD_FLAG = "--child"


def silent(_stage: str, _fraction: float | None) -> None:
    """A report that nobody reads."""


def run_child(module: str, arguments: list[str], report: Report = silent) -> None:
    """Runs `python -m module arguments --child` to its end.

    Raises ModelError with the child's own reason, or with how it ended.
    """
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments, CHILD_FLAG],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert child.stdout is not None
            reason = _relay(child.stdout, report)
            child.wait()
        finally:
            _end(child)
        if child.returncode != 0:
            raise ModelError(reason or _how_it_ended(child.returncode, log))


def serve_parent(work: Callable[[Report], None]) -> int:
    """The child's side: does the work, says how it goes, gives back the exit code."""
    lines = take_standard_output()
    if CHILD_FLAG in sys.argv:
        threading.Thread(target=_end_with_parent, daemon=True).start()

    def say(**line: object) -> None:
        print(json.dumps(line), file=lines, flush=True)

    try:
        work(lambda stage, fraction: say(stage=stage, fraction=fraction))
    except ModelError as error:
        say(error=error.message)
        return 1
    return 0


def _relay(lines: IO[str], report: Report) -> str | None:
    """Passes stages on until the child closes its output. Gives back its reason to fail."""
    reason: str | None = None
    for line in lines:
        said = json.loads(line)
        if "error" in said:
            reason = said["error"]
        else:
            report(said["stage"], said["fraction"])
    return reason


def _end(child: subprocess.Popen[str]) -> None:
    """Leaves no child behind, also when the caller is interrupted."""
    if child.poll() is None:
        child.kill()
        child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def _how_it_ended(code: int, log: IO[bytes]) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (the machine may be out of memory)" if name == "SIGKILL" else ""
        return f"the work on the base model was ended by {name}{hint}"
    log.seek(0)
    said = log.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(said) if line.strip()), "no message")
    return f"the work on the base model failed: {last}"


def take_standard_output() -> IO[str]:
    """Keeps standard output for our lines alone: what libraries print goes to standard error."""
    sys.stdout.flush()
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return lines


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)
