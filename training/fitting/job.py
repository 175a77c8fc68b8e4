"""What a training run is told, and what it says when it is done; both as files in its folder."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from training.data.rows import Chat, Kind, Preference, Row
from training.errors import TrainingError
from training.recipe.recipe import AdapterPart, Method, SchedulePart

JOB = "job.json"
TRAIN = "train.jsonl"
VALIDATION = "validation.jsonl"
CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
ADAPTER = "adapter"
RESULT = "result.json"
LOG = "worker.log"

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class FitJob(BaseModel):
    """One run. folder: where all of it lies; the same job there is gone on with."""

    model_config = _FROZEN

    base: Path
    base_name: str
    """As adapter_config.json names it."""
    method: Method
    adapter: AdapterPart
    schedule: SchedulePart
    kind: Kind
    seed: int
    folder: Path


class StepMetrics(BaseModel):
    """One optimizer step. A line of metrics.jsonl."""

    model_config = _FROZEN

    step: int
    epoch: float
    loss: float
    """Of the step's rows before the step; nats a learned token, or DPO's loss a pair."""
    validation_loss: float | None = None
    """After the step, where it was looked at."""
    learning_rate: float
    grad_norm: float
    tokens: int
    """Seen so far, without padding."""
    tokens_per_s: float
    elapsed_s: float
    """Since the start, without the time between an end and a resume."""


class Fitted(BaseModel):
    """A finished run."""

    model_config = _FROZEN

    adapter_dir: Path
    """With adapter_config.json and adapter_model.safetensors."""
    steps: int
    tokens: int
    tokens_per_s: float
    history: tuple[StepMetrics, ...]
    best_step: int
    """The step whose weights the adapter has."""
    kept: str
    """Why that step, in words."""
    stopped_early: bool
    overfit: str | None
    """The alarm, in words."""
    environment: dict[str, Any]


def store(job: FitJob, train: Sequence[Row], validation: Sequence[Row]) -> None:
    """Puts the job and its rows into its folder, or finds them there already.

    Raises TrainingError where the folder holds another job.
    """
    contents = {
        TRAIN: _lines(train),
        VALIDATION: _lines(validation),
        JOB: job.model_dump_json(indent=2).encode() + b"\n",
    }
    if (job.folder / JOB).exists():
        if any((job.folder / name).read_bytes() != made for name, made in contents.items()):
            raise TrainingError(
                f"{job.folder}: holds another training run, or this one with other rows or"
                " settings; name another folder, or remove it"
            )
        return
    job.folder.mkdir(parents=True, exist_ok=True)
    for name, made in contents.items():  # the job last: with it the folder is whole
        write_whole(job.folder / name, made)


def read_job(folder: Path) -> FitJob:
    """The job that `store` put into `folder`."""
    return FitJob.model_validate_json((folder / JOB).read_bytes())


def read_rows(job: FitJob, name: str) -> list[Row]:
    """The rows of TRAIN or VALIDATION."""
    kind = Chat if job.kind == "chat" else Preference
    reader: TypeAdapter[Row] = TypeAdapter(kind)
    with (job.folder / name).open("rb") as file:
        return [reader.validate_json(line) for line in file]


def read_result(folder: Path) -> Fitted | None:
    """What a finished run in `folder` said; None where it has not finished."""
    try:
        return Fitted.model_validate_json((folder / RESULT).read_bytes())
    except FileNotFoundError:
        return None


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that is there whole or not at all, whatever ends the process."""
    aside = path.with_name(f".{path.name}.part")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _lines(rows: Iterable[Row]) -> bytes:
    lines = (json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
    return "".join(lines).encode()
