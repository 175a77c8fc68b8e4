"""The parent's side of a training run: what it stores, tells, stops and leaves behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fake_fit_worker import STEP
from training.data.rows import Chat
from training.errors import Interrupted, TrainingError
from training.fitting import run
from training.fitting.job import FitJob, StepMetrics, read_rows, store
from training.fitting.run import fit
from training.recipe.recipe import AdapterPart, SchedulePart

ROOT = Path(__file__).resolve().parent.parent
ROWS = [Chat(1, ({"role": "user", "content": "Hi ü"},), {"role": "assistant", "content": "Hello."})]
_PATIENCE_S = 60


@pytest.fixture(autouse=True)
def _fake_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "WORKER", "tests.fake_fit_worker")


def _job(folder: Path, way: str) -> FitJob:
    return FitJob(
        base=Path("/nowhere"),
        base_name=way,
        method="lora",
        adapter=AdapterPart(),
        schedule=SchedulePart(),
        kind="chat",
        seed=0,
        folder=folder,
    )


def test_a_run_tells_its_stages_and_steps_and_gives_back_the_result(tmp_path: Path) -> None:
    told: list[tuple[str, float | None]] = []
    steps: list[StepMetrics] = []
    fitted = fit(
        _job(tmp_path, "done"),
        ROWS,
        [],
        progress=lambda *one: told.append(one),
        on_step=steps.append,
    )
    assert fitted.best_step == 3
    assert steps == [STEP]
    assert told == [
        ("starting the trainer", None),
        ("loading the base model", None),
        (
            "training: step 3 of 6, loss 1.250, validation 1.500, 100 tokens/s, 1 min 15 s left",
            0.5,
        ),
    ]


def test_a_run_that_is_done_is_not_repeated(tmp_path: Path) -> None:
    job = _job(tmp_path, "done")
    first = fit(job, ROWS, [])
    told: list[str] = []
    assert fit(job, ROWS, [], progress=lambda stage, _: told.append(stage)) == first
    assert told == []


@pytest.mark.parametrize(
    ("way", "message"),
    [("error", r"^the training diverged$"), ("silent", r"^training failed: MemoryError: no room")],
)
def test_a_failure_is_told_in_its_own_words(tmp_path: Path, way: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        fit(_job(tmp_path, way), ROWS, [])


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    job = _job(tmp_path, "done")
    store(job, ROWS, [])
    assert read_rows(job, "train.jsonl") == ROWS
    assert read_rows(job, "validation.jsonl") == []


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    job = _job(tmp_path, "done")
    store(job, ROWS, [])
    store(job, ROWS, [])
    with pytest.raises(TrainingError, match="holds another training run"):
        store(job, ROWS, ROWS)
    with pytest.raises(TrainingError, match="holds another training run"):
        store(job.model_copy(update={"seed": 1}), ROWS, [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_it_with_a_checkpoint_and_say_how_to_go_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    def interrupt(stage: str, _: float | None) -> None:
        if stage.startswith("training"):
            os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="after step 4 of 6, with a checkpoint; the same command"):
        fit(_job(tmp_path, "long"), ROWS, [], progress=interrupt)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_killed_parent_leaves_no_process(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.test_fitting_run import ROWS, _job\n"
        "from training.fitting import run\n"
        "run.WORKER = 'tests.fake_fit_worker'\n"
        "run.fit(_job(Path(sys.argv[1]), 'long'), ROWS, [])\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT)
    pid_file = tmp_path / "pid"
    _until(lambda: pid_file.exists() and pid_file.read_text() != "")
    worker = int(pid_file.read_text())
    assert _runs(worker)
    parent.kill()
    parent.wait()
    _until(lambda: not _runs(worker))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)
