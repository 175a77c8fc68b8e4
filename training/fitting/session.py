"""A run as one process sees it: set up, trained, finished. Imported by a worker alone."""

import importlib.util
import math
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers
from accelerate import PartialState
from transformers.trainer_callback import PrinterCallback, TrainerCallback

from training.adapter_files import write_adapter
from training.encoding import (
    encode_all,
    encode_preferences,
    load_tokenizer,
)
from training.fitting import tensors
from training.fitting.checkpoints import Checkpoints
from training.fitting.course import Course, Plan, read_watch
from training.fitting.job import ADAPTER, CHECKPOINTS, TRAIN, VALIDATION, FitJob, Fitted, read_rows
from training.fitting.model import adapting, load_base, lora_config, pick_dtype
from training.fitting.packing import check_packing
from training.fitting.plan import (
    CPU_OVERHEAD_TOKENS,
    GPU_OVERHEAD_TOKENS,
    Cutting,
    look_steps,
    steps_per_epoch,
)
from training.fitting.selected_logits import SelectedLogits
from training.fitting.steps import Collate, Steps
from training.fitting.tensors import Encoded
from training.fitting.trainer import ChatTrainer, StepTrainer
from training.fitting.watch import Watch, kept, overfit

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MICRO_BATCH_SIZE = 4
"""Rows at once where nobody says."""


@dataclass(frozen=True, slots=True)
class Session:
    """A run, ready to train."""

    job: FitJob
    plan: Plan
    trainer: StepTrainer
    course: Course
    checkpoint: Path | None

    def train(self) -> None:
        """From the checkpoint on, if there is one, to the end or a stop."""
        watch = self.course.watch
        self.course.begin(self.trainer)
        if watch.ended == "early" or watch.last_step >= self.plan.steps:
            assert self.checkpoint is not None
            self.trainer._load_from_checkpoint(str(self.checkpoint))
            return
        at = str(self.checkpoint) if self.checkpoint else None
        self.trainer.train(resume_from_checkpoint=at)


def join_processes() -> PartialState:
    """This process among those of the run."""
    return PartialState(cpu=not torch.cuda.is_available())


def set_up(job: FitJob, stop: Event, say: Callable[..., None]) -> Session:
    """Everything of a run in this process. Raises TrainingError."""
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = load_tokenizer(job.base)
    train, validation = (_encode(job, name, tokenizer) for name in (TRAIN, VALIDATION))
    checkpoints = Checkpoints(job.folder / CHECKPOINTS)
    checkpoint = checkpoints.newest()
    watch = read_watch(checkpoint) if checkpoint else Watch()
    plan = _plan(job, train, validation)
    course = Course(job, plan, watch, stop, say)
    trainer = _trainer(job, plan, tokenizer, train, [course, *_tensorboard(job)])
    make = partial(_steps, job, trainer, _pad(tokenizer))
    steps = make(train).planned(plan.steps, job.schedule.batch_size, job.seed)
    looked_at = make(validation).all_rows() if validation.lengths else None
    trainer.set_up(steps, looked_at, checkpoints)
    if job.schedule.batching == "packed":
        check_packing(trainer, train)
    return Session(job, plan, trainer, course, checkpoint)


def finish(session: Session) -> Fitted:
    """Writes the adapter of the best step."""
    job, trainer, watch = session.job, session.trainer, session.course.watch
    if trainer.best is not None:
        trainer.put_back(trainer.best)
    folder = job.folder / ADAPTER
    if trainer.accelerator.is_main_process:
        aside = job.folder / f".{ADAPTER}.part"
        for old in (aside, folder):
            shutil.rmtree(old, ignore_errors=True)
        model = trainer.accelerator.unwrap_model(trainer.model)
        write_adapter(aside, cast("PeftModel", model), job.base_name)
        aside.rename(folder)
    trainer.accelerator.wait_for_everyone()
    seconds = sum(
        (one.tokens - before) / one.tokens_per_s
        for one, before in zip(
            watch.history, [0, *(one.tokens for one in watch.history)], strict=False
        )
    )
    return Fitted(
        adapter_dir=folder,
        steps=watch.last_step,
        tokens=watch.history[-1].tokens,
        tokens_per_s=watch.history[-1].tokens / seconds,
        history=tuple(watch.history),
        best_step=watch.best_step or watch.last_step,
        kept=kept(watch, session.plan.steps),
        stopped_early=watch.ended == "early",
        overfit=overfit(watch),
        environment=_environment(trainer),
    )


def _encode(job: FitJob, name: str, tokenizer: "PreTrainedTokenizerBase") -> Encoded:
    rows = cast("Any", read_rows(job, name))
    if job.kind == "preference":
        return tensors.of_preferences(list(encode_preferences(rows, tokenizer)))
    return tensors.of_chats(list(encode_all(rows, tokenizer, learn=job.schedule.learn)))


def _plan(job: FitJob, train: Encoded, validation: Encoded) -> Plan:
    schedule = job.schedule
    per_epoch = steps_per_epoch(len(train.lengths), schedule.batch_size)
    looks = look_steps(per_epoch, schedule.epochs, schedule.looks_per_epoch)
    return Plan(
        per_epoch * schedule.epochs, per_epoch, looks if validation.lengths else frozenset()
    )


def _trainer(
    job: FitJob,
    plan: Plan,
    tokenizer: "PreTrainedTokenizerBase",
    train: Encoded,
    callbacks: list[TrainerCallback],
) -> StepTrainer:
    dtype = pick_dtype(job.schedule.dtype)
    device = PartialState().device
    model = load_base(job.base, job.method, dtype, device)
    settings = _settings(job, plan, dtype)
    with adapting():
        make = _preference_trainer if job.kind == "preference" else _chat_trainer
        trainer = make(job, model, tokenizer, train, settings, callbacks)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _chat_trainer(
    job: FitJob,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    train: Encoded,
    settings: dict[str, Any],
    callbacks: list[TrainerCallback],
) -> StepTrainer:
    from peft import get_peft_model

    del tokenizer
    transformers.set_seed(job.seed)
    adapted = get_peft_model(model, lora_config(job.method, job.adapter))
    args = transformers.TrainingArguments(**settings)
    # Several processes are several processes: never threads over all GPUs.
    args._n_gpu = min(args.n_gpu, 1)
    trainer = ChatTrainer(
        model=adapted, args=args, train_dataset=cast("Any", train.examples), callbacks=callbacks
    )
    output_layer = cast("Any", adapted.get_base_model()).get_output_embeddings()
    trainer.selected = SelectedLogits(output_layer)
    return trainer


def _preference_trainer(
    job: FitJob,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    train: Encoded,
    settings: dict[str, Any],
    callbacks: list[TrainerCallback],
) -> StepTrainer:
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig

    from training.fitting.preference_trainer import PreferenceTrainer

    del train
    args = DPOConfig(beta=job.schedule.beta, max_length=None, disable_dropout=False, **settings)
    args._n_gpu = min(args.n_gpu, 1)
    return PreferenceTrainer(
        model=model,
        args=args,
        # Steps come from `Steps`; TRL only looks at the names of the columns.
        train_dataset=Dataset.from_list([{"prompt_ids": [], "chosen_ids": [], "rejected_ids": []}]),
        processing_class=tokenizer,
        peft_config=lora_config(job.method, job.adapter),
        callbacks=callbacks,
    )


def _settings(job: FitJob, plan: Plan, dtype: torch.dtype) -> dict[str, Any]:
    schedule = job.schedule
    constant = schedule.scheduler == "constant"
    on_cpu = not torch.cuda.is_available()
    together = PartialState().num_processes > 1
    return {
        "output_dir": str(job.folder / CHECKPOINTS),
        "per_device_train_batch_size": 1,
        "num_train_epochs": 1,
        "learning_rate": schedule.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if constant else schedule.scheduler,
        "warmup_steps": math.ceil(schedule.warmup * plan.steps),
        "weight_decay": schedule.weight_decay,
        "max_grad_norm": schedule.max_grad_norm,
        "seed": job.seed,
        "bf16": dtype == torch.bfloat16,
        "use_cpu": on_cpu,
        "ddp_backend": "gloo" if on_cpu and together else None,
        "ddp_find_unused_parameters": False,
        "gradient_checkpointing": False,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _steps(job: FitJob, trainer: StepTrainer, pad: int, encoded: Encoded) -> Steps:
    schedule, accelerator = job.schedule, trainer.accelerator
    size = min(schedule.micro_batch_size or MICRO_BATCH_SIZE, schedule.batch_size)
    on_gpu = trainer.args.device.type == "cuda"
    overhead = GPU_OVERHEAD_TOKENS if on_gpu else CPU_OVERHEAD_TOKENS
    cutting = Cutting(schedule.batching, size, accelerator.num_processes, overhead)
    collate = _collate(job, encoded.examples, pad)
    return Steps(encoded, collate, cutting=cutting, process=accelerator.process_index)


def _collate(job: FitJob, examples: Sequence[Any], pad: int) -> Collate:
    def collate(rows: Sequence[int]) -> tensors.Tensors:
        chosen = [examples[row] for row in rows]
        if job.kind == "preference":
            return tensors.pairs(chosen, pad)
        if job.schedule.batching == "packed":
            return tensors.packed(chosen)
        return tensors.padded(chosen, pad)

    return collate


def _pad(tokenizer: "PreTrainedTokenizerBase") -> int:
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next(cast("int", one) for one in ids if one is not None)


def _tensorboard(job: FitJob) -> list[TrainerCallback]:
    """Its events too, where it is installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return []
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations.integration_utils import TensorBoardCallback

    events = SummaryWriter(str(job.folder / "tensorboard"))
    return [TensorBoardCallback(tb_writer=events)]  # type: ignore[no-untyped-call]


def _environment(trainer: StepTrainer) -> dict[str, Any]:
    """What, beside the packages' versions, a run has to share to give the same bytes."""
    on_gpu = trainer.args.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else platform.machine(),
        "processes": trainer.accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "dtype": str(cast("Any", trainer.model).dtype).removeprefix("torch."),
        "mixed_precision": trainer.accelerator.mixed_precision,
    }
