"""Training in real workers on a tiny base: files, methods, every end and what follows it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForCausalLM

from adapters_registry.base_model import describe
from adapters_registry.manifest import check_adapter
from training.data.rows import Chat, Kind, Preference, Row
from training.encoding import IGNORED, Example, encode_all, load_tokenizer
from training.fitting.job import FitJob, Fitted, read_result, store
from training.fitting.packing import kept_apart
from training.fitting.run import fit
from training.fitting.selected_logits import SelectedLogits
from training.fitting.tensors import packed, padded
from training.recipe.recipe import AdapterPart, Method, SchedulePart

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = "adapter_model.safetensors"


def _chat(i: int) -> Chat:
    question = f"What is {i}?" + " Please." * (i % 5)
    return Chat(
        i, ({"role": "user", "content": question},), {"role": "assistant", "content": f"It is {i}."}
    )


def _preference(i: int) -> Preference:
    row = _chat(i)
    return Preference(i, row.prompt, row.answer, {"role": "assistant", "content": "No idea!"})


TRAIN: Sequence[Row] = [_chat(i) for i in range(1, 25)]
VALIDATION: Sequence[Row] = [_chat(i) for i in range(31, 37)]
PAIRS: Sequence[Row] = [_preference(i) for i in range(1, 13)]


class Workers:
    """Real worker processes, forked from one that has imported everything."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.fitting_forks"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def run(self, job: FitJob, kill: str | None = None) -> int:
        """The exit code of a worker that runs a stored job to its end, or to where it is killed."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps({"folder": str(job.folder), "kill": kill}), file=self._server.stdin)
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def fit(
        self, job: FitJob, train: Sequence[Row] = TRAIN, validation: Sequence[Row] = VALIDATION
    ) -> Fitted:
        """A whole run."""
        store(job, train, validation)
        assert self.run(job) == 0, (job.folder / "worker.log").read_text()[-2000:]
        return _result(job)

    def stop(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.kill()
        self._server.wait()
        self._server.stdin.close()
        self._server.stdout.close()


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """One for all tests here."""
    started = Workers()
    yield started
    started.stop()


def _job(
    base: Path,
    folder: Path,
    *,
    method: Method = "lora",
    kind: Kind = "chat",
    dropout: float = 0.05,
    seed: int = 3,
    targets: str | tuple[str, ...] = "all-linear",
    **schedule: Any,
) -> FitJob:
    quick = {"epochs": 2, "batch_size": 8, "learning_rate": 5e-3, "dtype": "float32"}
    return FitJob(
        base=base,
        base_name="org/tiny-llama",
        method=method,
        adapter=AdapterPart(rank=4, alpha=8, dropout=dropout, target_modules=targets),
        schedule=SchedulePart.model_validate(quick | schedule),
        kind=kind,
        seed=seed,
        folder=folder,
    )


def _result(job: FitJob) -> Fitted:
    found = read_result(job.folder)
    assert found is not None
    return found


def _bytes(fitted: Fitted) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in fitted.adapter_dir.iterdir()}


def _losses(fitted: Fitted) -> list[tuple[float, float | None]]:
    return [(one.loss, one.validation_loss) for one in fitted.history]


@pytest.fixture(scope="module")
def whole(workers: Workers, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A run of six steps that was left alone, with dropout and a checkpoint after each step."""
    job = _job(tiny_base, tmp_path_factory.mktemp("whole"), checkpoint_every_s=0)
    return workers.fit(job)


def test_an_adapter_is_the_two_files_that_a_registry_takes(whole: Fitted, tiny_base: Path) -> None:
    assert sorted(_bytes(whole)) == ["adapter_config.json", WEIGHTS]
    manifest = check_adapter(whole.adapter_dir, describe(tiny_base), 16)
    assert (manifest.rank, manifest.modules) == (4, 2 * 7)
    text = (whole.adapter_dir / "adapter_config.json").read_text()
    assert json.loads(text)["base_model_name_or_path"] == "org/tiny-llama"
    assert str(tiny_base) not in text


def test_a_run_learns_and_says_what_it_saw(whole: Fitted) -> None:
    looks = [one.step for one in whole.history if one.validation_loss is not None]
    assert (whole.steps, looks) == (6, [2, 3, 5, 6])
    assert whole.history[-1].loss < whole.history[0].loss - 0.1
    assert [one.epoch for one in whole.history][2::3] == [1.0, 2.0]
    assert whole.history[0].learning_rate < max(one.learning_rate for one in whole.history)
    assert whole.tokens == whole.history[-1].tokens
    assert whole.overfit is None
    assert whole.kept.startswith("step 6 of 6, where the validation loss was lowest")
    assert whole.environment["threads"] == 1


def test_metrics_are_a_line_a_step(whole: Fitted) -> None:
    lines = (whole.adapter_dir.parent / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [one.model_dump() for one in whole.history]


def test_one_checkpoint_is_kept(whole: Fitted) -> None:
    kept = [one.name for one in (whole.adapter_dir.parent / "checkpoints").iterdir()]
    assert [name for name in kept if name.startswith("checkpoint")] == ["checkpoint-6"]


@pytest.mark.parametrize(
    "kill", ["first step", "between steps", "checkpoint", "adapter", "SIGTERM"]
)
def test_a_run_that_was_killed_goes_on_to_the_same_adapter(
    workers: Workers, whole: Fitted, tiny_base: Path, tmp_path: Path, kill: str
) -> None:
    job = _job(tiny_base, tmp_path, checkpoint_every_s=0)
    store(job, TRAIN, VALIDATION)
    assert workers.run(job, kill) == (3 if kill == "SIGTERM" else -9)
    assert read_result(tmp_path) is None
    assert workers.run(job) == 0
    assert _bytes(_result(job)) == _bytes(whole)
    assert _losses(_result(job)) == _losses(whole)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_the_same_job_gives_the_same_bytes_and_another_seed_others(
    workers: Workers, whole: Fitted, tiny_base: Path, tmp_path: Path
) -> None:
    again = workers.fit(_job(tiny_base, tmp_path / "again"))
    other = workers.fit(_job(tiny_base, tmp_path / "other", seed=4))
    assert _bytes(again) == _bytes(whole)
    assert _bytes(other)[WEIGHTS] != _bytes(whole)[WEIGHTS]


def test_the_adapter_is_the_best_that_was_seen_and_patience_ends_the_run(
    workers: Workers, tiny_base: Path, tmp_path: Path
) -> None:
    """With a learning rate that first helps and then harms; killed once, after the best step."""
    wild: dict[str, Any] = {
        "scheduler": "constant",
        "warmup": 0.0,
        "learning_rate": 0.05,
        "patience": 2,
    }
    job = _job(tiny_base, tmp_path / "killed", epochs=8, checkpoint_every_s=0, **wild)
    store(job, TRAIN, VALIDATION)
    assert workers.run(job, "between steps") == -9
    assert workers.run(job) == 0
    fitted = _result(job)
    looks = {one.step: one.validation_loss for one in fitted.history if one.validation_loss}
    assert fitted.stopped_early
    assert fitted.steps < 24
    assert looks[fitted.best_step] == min(looks.values())
    assert fitted.best_step < fitted.steps
    best_alone = workers.fit(_job(tiny_base, tmp_path / "whole", epochs=8, **wild))
    assert _bytes(best_alone) == _bytes(fitted)
    assert best_alone.best_step == fitted.best_step


@pytest.mark.parametrize("method", ["rslora", "qlora", "dora"])
def test_every_method_learns(
    workers: Workers, tiny_base: Path, tmp_path: Path, method: Method
) -> None:
    fitted = workers.fit(_job(tiny_base, tmp_path, method=method))
    assert fitted.history[-1].loss < fitted.history[0].loss - 0.1
    config = json.loads((fitted.adapter_dir / "adapter_config.json").read_text())
    assert (config["use_rslora"], config["use_dora"]) == (method == "rslora", method == "dora")
    if method != "dora":
        assert check_adapter(fitted.adapter_dir, describe(tiny_base), 16).rank == 4


def test_dpo_learns_to_prefer(workers: Workers, tiny_base: Path, tmp_path: Path) -> None:
    job = _job(tiny_base, tmp_path, method="dpo", kind="preference")
    fitted = workers.fit(job, PAIRS, PAIRS[:4])
    assert fitted.history[0].loss == pytest.approx(0.6931, abs=1e-3), "as the base, at first"
    assert fitted.history[-1].validation_loss is not None
    assert fitted.history[-1].validation_loss < 0.68
    assert check_adapter(fitted.adapter_dir, describe(tiny_base), 16).rank == 4


@pytest.mark.parametrize("batching", ["plain", "packed"])
def test_batching_changes_nothing_but_the_speed(
    workers: Workers, tiny_base: Path, tmp_path: Path, batching: str
) -> None:
    runs = [
        workers.fit(_job(tiny_base, tmp_path / one, dropout=0, epochs=1, batching=one))
        for one in ("grouped", batching)
    ]
    curves = [[one.loss for one in run.history] for run in runs]
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)


def test_a_learning_rate_that_is_far_too_high_is_told(
    workers: Workers, tiny_base: Path, tmp_path: Path
) -> None:
    job = _job(tiny_base, tmp_path, epochs=8, learning_rate=5, patience=None)
    store(job, TRAIN, [])
    assert workers.run(job) == 1
    said = json.loads((tmp_path / "said.jsonl").read_text().splitlines()[-1])
    assert "the training diverged" in said["error"]
    assert "lower schedule.learning_rate (now 5, try 0.5)" in said["error"]
    assert not (tmp_path / "adapter").exists()


def test_unknown_target_modules_are_named(
    workers: Workers, tiny_base: Path, tmp_path: Path
) -> None:
    job = _job(tiny_base, tmp_path, targets=("nowhere",))
    store(job, TRAIN, [])
    assert workers.run(job) == 1
    assert "adapter.target_modules: none of them" in (tmp_path / "said.jsonl").read_text()


@pytest.mark.skipif(torch.cuda.device_count() == 1, reason="each process takes a GPU of its own")
def test_two_processes_learn_as_one(workers: Workers, tiny_base: Path, tmp_path: Path) -> None:
    """The whole way, through the launcher."""
    shared: dict[str, Any] = {"dropout": 0, "epochs": 1}
    one = workers.fit(_job(tiny_base, tmp_path / "one", **shared))
    two = fit(_job(tiny_base, tmp_path / "two", **shared), TRAIN, VALIDATION, num_processes=2)
    assert (one.environment["processes"], two.environment["processes"]) == (1, 2)
    assert [a.tokens for a in one.history] == [b.tokens for b in two.history]
    for a, b in zip(_losses(one), _losses(two), strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    first, second = (load_file(run.adapter_dir / WEIGHTS) for run in (one, two))
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=0.05, atol=1e-3)


def test_the_loss_of_selected_logits_is_that_of_all_of_them(tiny_base: Path) -> None:
    """Padded and packed, against the plain way with every logit and a mask."""
    rows = [_chat(i) for i in (1, 4, 12)]
    examples = list(encode_all(rows, load_tokenizer(tiny_base)))
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    width = max(len(one.input_ids) for one in examples)
    wanted = []
    for one in examples:
        rest = width - len(one.input_ids)
        ids = torch.tensor([one.input_ids + [0] * rest])
        mask = torch.tensor([[1] * len(one.input_ids) + [0] * rest])
        labels = torch.tensor([one.labels + [-100] * rest])
        logits = model(input_ids=ids, attention_mask=mask).logits[0, :-1]
        wanted.append(functional.cross_entropy(logits, labels[0, 1:], reduction="none"))
    learned = torch.cat([one[one != 0] for one in wanted])
    selected = SelectedLogits(model.lm_head)
    for tensors in (padded(examples, 0), packed(examples)):
        assert len(tensors["targets"]) == len(learned)
        torch.testing.assert_close(selected.mean_loss(model, tensors), learned.mean())


@pytest.mark.parametrize(("leaks", "apart"), [(0.0, True), (1e-3, False)])
def test_rows_that_would_see_each_other_are_found(leaks: float, apart: bool) -> None:
    """With a loss that looks at the row in front of the learned one, or does not."""
    row = Example([5, 6, 7], [IGNORED, 6, 7])
    weights = torch.tensor([leaks, 2 * leaks, 3 * leaks, 1.0, 2.0, 3.0])
    trainer = SimpleNamespace(
        model=torch.nn.Identity(),
        batch_loss=lambda _, batch: (batch.tensors["input_ids"][0] * weights).sum(),
    )
    assert kept_apart(cast("Any", trainer), row) is apart


def test_preference_pairs_are_not_packed(workers: Workers, tiny_base: Path, tmp_path: Path) -> None:
    job = _job(tiny_base, tmp_path, method="dpo", kind="preference", batching="packed")
    store(job, PAIRS, [])
    assert workers.run(job) == 1
    assert "schedule.batching: preference pairs are not" in (tmp_path / "said.jsonl").read_text()


def test_every_row_keeps_its_end_of_turn_in_a_padded_batch(tiny_base: Path) -> None:
    """A collator that masks by token id would mask the end, since it is the padding as well."""
    tokenizer = load_tokenizer(tiny_base)
    rows = [_chat(i) for i in (1, 4)]
    made = padded(list(encode_all(rows, tokenizer)), int(tokenizer.eos_token_id))
    assert tokenizer.decode(made["targets"]) == "It is 1.<|im_end|>It is 4.<|im_end|>"


def test_a_base_that_is_no_model_is_refused(
    workers: Workers, tiny_base: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in tiny_base.iterdir():
        if file.name != "model.safetensors":
            (bare / file.name).write_bytes(file.read_bytes())
    job = _job(bare, tmp_path / "run")
    store(job, TRAIN, [])
    assert workers.run(job) == 1
    assert "base: the folder holds no model" in (tmp_path / "run" / "said.jsonl").read_text()
