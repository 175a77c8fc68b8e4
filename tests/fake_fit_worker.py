"""Speaks as a training worker does, without training: `python -m tests.fake_fit_worker FOLDER`.

What it does stands in the job's base_name: `done`, `error`, `silent` (ends without a word) or
`long` (goes on until it is told to stop, or its parent ends).
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from training.fitting.job import RESULT, Fitted, StepMetrics, read_job, write_whole

STEP = StepMetrics(
    step=3,
    epoch=0.5,
    loss=1.25,
    validation_loss=1.5,
    learning_rate=1e-3,
    grad_norm=1.0,
    tokens=300,
    tokens_per_s=100.0,
    elapsed_s=3.0,
)


def _say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def _hear(stop: threading.Event) -> None:
    while os.read(0, 4096):
        stop.set()
    os._exit(1)


def main(folder: Path) -> int:
    """The exit code of a worker."""
    stop = threading.Event()
    threading.Thread(target=_hear, args=(stop,), daemon=True).start()
    way = read_job(folder).base_name
    _say(stage="loading the base model", fraction=None)
    if way == "error":
        _say(error="the training diverged")
        return 1
    if way == "silent":
        print("MemoryError: no room", file=sys.stderr)
        return 1
    _say(step=STEP.model_dump(), left_s=75.0, steps=6)
    if way == "long":
        (folder / "pid").write_text(str(os.getpid()))
        stop.wait()
        _say(interrupted=4, steps=6)
        return 3
    fitted = Fitted(
        adapter_dir=folder / "adapter",
        steps=6,
        tokens=300,
        tokens_per_s=100.0,
        history=(STEP,),
        best_step=3,
        kept="step 3 of 6",
        stopped_early=False,
        overfit=None,
        environment={},
    )
    write_whole(folder / RESULT, fitted.model_dump_json().encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
