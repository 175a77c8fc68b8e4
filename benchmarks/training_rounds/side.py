"""One side in a process of its own: `python -m benchmarks.training_rounds.side FOLDER NAME`.

It trains on the rows of the job in FOLDER and prints {"seconds", "tokens", "losses"}: the time of
the steps behind the first, which warms up, and the tokens in them without padding.
"""

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from transformers import TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from training.encoding import encode_all, load_tokenizer
from training.fitting.job import TRAIN, FitJob, read_job, read_rows
from training.fitting.model import load_base, lora_config, pick_dtype
from training.fitting.plan import steps_per_epoch

TRL = ("trl", "trl grouped")
_CHOSEN = {"trl": "random", "trl grouped": "group_by_length"}


@dataclass
class Clock(TrainerCallback):
    """The time at the end of each step, and its loss."""

    ends: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Notes the time."""
        del args, state, control, kwargs
        self.ends.append(time.perf_counter())

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Notes the loss."""
        del args, state, control
        if "loss" in kwargs["logs"]:
            self.losses.append(float(kwargs["logs"]["loss"]))


def train_with_trl(job: FitJob, name: str) -> dict[str, Any]:
    """TRL's own trainer, with the effective settings of the job."""
    tokenizer = load_tokenizer(job.base)
    examples = list(encode_all(_rows(job), tokenizer))
    dtype = pick_dtype(job.schedule.dtype)
    clock, seen = Clock(), list[int]()
    trainer = SFTTrainer(
        model=load_base(job.base, job.method, dtype, torch.device("cpu")),
        args=_config(job, dtype, name),
        train_dataset=Dataset.from_list(
            [{"input_ids": one.input_ids, "labels": one.labels} for one in examples]
        ),
        processing_class=tokenizer,
        peft_config=lora_config(job.method, job.adapter),
        callbacks=[clock],
    )
    collate = trainer.data_collator

    def counted(rows: list[dict[str, Any]]) -> Any:
        seen.append(sum(len(row["input_ids"]) for row in rows))
        return collate(rows)

    trainer.data_collator = counted
    trainer.train()
    micro = job.schedule.batch_size // (job.schedule.micro_batch_size or 1)
    tokens = sum(seen[micro:])
    return {"seconds": clock.ends[-1] - clock.ends[0], "tokens": tokens, "losses": clock.losses}


def train_with_fit(job: FitJob) -> dict[str, Any]:
    """What `fit` runs in its worker."""
    from threading import Event

    from training.fitting.session import join_processes, set_up

    join_processes()
    session = set_up(job, Event(), lambda **_: None)
    clock = Clock()
    session.trainer.add_callback(clock)
    session.train()
    history = session.course.watch.history
    tokens = history[-1].tokens - history[0].tokens
    losses = [one.loss for one in history]
    return {"seconds": clock.ends[-1] - clock.ends[0], "tokens": tokens, "losses": losses}


def _rows(job: FitJob) -> Any:
    return read_rows(job, TRAIN)


def _config(job: FitJob, dtype: torch.dtype, name: str) -> SFTConfig:
    schedule = job.schedule
    micro = schedule.micro_batch_size or schedule.batch_size
    steps = steps_per_epoch(len(_rows(job)), schedule.batch_size) * schedule.epochs
    return SFTConfig(
        output_dir=str(job.folder / "trl"),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=schedule.batch_size // micro,
        num_train_epochs=schedule.epochs,
        learning_rate=schedule.learning_rate,
        lr_scheduler_type=schedule.scheduler,
        warmup_steps=round(schedule.warmup * steps),
        max_grad_norm=schedule.max_grad_norm,
        weight_decay=schedule.weight_decay,
        seed=job.seed,
        bf16=dtype == torch.bfloat16,
        use_cpu=True,
        gradient_checkpointing=False,
        train_sampling_strategy=_CHOSEN[name],
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        dataloader_pin_memory=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def main(folder: Path, name: str) -> int:
    """Runs the side."""
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    job = read_job(folder)
    found = train_with_trl(job, name) if name in TRL else train_with_fit(job)
    print("\n" + json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
