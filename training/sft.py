"""Supervised fine-tuning: chat JSONL and a base model in, a LoRA adapter out."""

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters_registry.errors import ModelError
from adapters_registry.models import resolve_model
from training.adapter_files import write_adapter
from training.data import read_chats
from training.encoding import Example, encode, load_tokenizer
from training.errors import TrainingError

if TYPE_CHECKING:  # torch and what stands on it take seconds to import: only a run pays for them
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedTokenizerBase, TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

Report = Callable[[str, float | None], None]
"""Told of progress: the stage in words, and the part of it that is done (0 to 1) where known."""


class SftOptions(BaseModel):
    """How to train. Each field is also a flag of `python -m training.sft`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(8, ge=1, le=512, description="LoRA rank.")
    alpha: int = Field(16, ge=1, description="LoRA alpha; updates are scaled by alpha / rank.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Dropout in front of the adapter.")
    target_modules: str = Field(
        "all-linear", description="`all-linear`, or module names separated by commas."
    )
    learning_rate: float = Field(2e-4, gt=0, description="Peak learning rate.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Part of the steps that warm up.")
    epochs: int = Field(3, ge=1, description="Passes over the data.")
    batch_size: int = Field(16, ge=1, description="Rows a step.")
    max_tokens: int = Field(1024, ge=8, description="Longest row, in tokens; longer is refused.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of weights, order and dropout.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic of the run; `auto` asks the machine."
    )
    base_name: str | None = Field(
        None, description="The base's name in adapter_config.json; else the name of its folder."
    )


@dataclass(frozen=True, slots=True)
class SftResult:
    """A finished run."""

    adapter_dir: Path
    rows: int
    steps: int
    loss: float
    """Mean loss over the last tenth of the steps."""
    size_bytes: int
    """Of all files together."""


def train_sft(
    base: Path, data: Path, out: Path, options: SftOptions, report: Report = lambda *_: None
) -> SftResult:
    """Train an adapter of the model in `base` on the rows of `data` and write it to `out`.

    `out` must not exist, or be empty. It gets adapter_config.json, adapter_model.safetensors
    (bfloat16) and metadata.json (the options and the digest of the data): all of them or none.
    On one CPU the same inputs give the same bytes. Raises TrainingError.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TrainingError("out: the folder is not empty; name a new one")
    report("reading the data", None)
    chats = read_chats(data)
    tokenizer = load_tokenizer(base)
    examples = [encode(chat, tokenizer, options.max_tokens) for chat in chats.rows]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".sft-") as work:
        trainer = build_trainer(base, tokenizer, examples, options, Path(work) / "trainer", report)
        trainer.train()
        loss = _last_loss(trainer.state.log_history)
        ready = Path(work) / "adapter"
        write_adapter(
            ready,
            cast("PeftModel", trainer.model),
            options.base_name or base.resolve().name,
            {"data_sha256": chats.sha256, "options": options.model_dump()},
        )
        ready.replace(out)
    size_bytes = sum(file.stat().st_size for file in out.iterdir())
    return SftResult(out, len(chats.rows), trainer.state.global_step, loss, size_bytes)


def build_trainer(
    base: Path,
    tokenizer: "PreTrainedTokenizerBase",
    examples: Sequence[Example],
    options: SftOptions,
    work: Path,
    report: Report,
) -> "SFTTrainer":
    """TRL's trainer over `examples`, ready to run; `work` is a folder for its own use."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from transformers.trainer_callback import PrinterCallback
    from trl.trainer.sft_trainer import SFTTrainer

    report("loading the base model", None)
    dtype = pick_dtype(options.dtype)
    try:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, local_files_only=True)
    except (OSError, ValueError) as error:
        raise TrainingError("base: the folder holds no model that can be loaded") from error
    try:
        trainer = SFTTrainer(
            model=model,
            args=_trainer_config(options, dtype, work),
            train_dataset=Dataset.from_list(
                [{"input_ids": row.input_ids, "labels": row.labels} for row in examples]
            ),
            processing_class=tokenizer,
            peft_config=_lora_config(options),
            callbacks=[_progress(report)],
        )
    except ValueError as error:
        if "target modules" not in str(error).lower():
            raise
        raise TrainingError("target_modules: not in this base; check the names") from error
    trainer.remove_callback(PrinterCallback)
    return trainer


def _trainer_config(options: SftOptions, dtype: "torch.dtype", work: Path) -> "SFTConfig":
    import torch
    from trl.trainer.sft_config import SFTConfig

    return SFTConfig(
        output_dir=str(work),
        per_device_train_batch_size=options.batch_size,
        num_train_epochs=options.epochs,
        learning_rate=options.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=options.warmup,
        seed=options.seed,
        bf16=dtype == torch.bfloat16,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=False,
        # Rows of like length share a step: half the padding where chats are short.
        train_sampling_strategy="group_by_length",
        # The rows come with their labels, and none is too long.
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _lora_config(options: SftOptions) -> "LoraConfig":
    from peft import LoraConfig

    names = options.target_modules
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=names if names == "all-linear" else names.split(","),
    )


def pick_dtype(wanted: Literal["auto", "float32", "bfloat16"]) -> "torch.dtype":
    """bfloat16 where the machine computes in it; on other CPUs it is slower than float32."""
    import torch

    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        cpu = torch.cpu.get_capabilities()
        fast = any(cpu.get(flag) for flag in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if fast else torch.float32


def _progress(report: Report) -> "TrainerCallback":
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        """Tells of every step."""

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            logs = kwargs["logs"]
            if "loss" in logs:
                done = state.global_step / state.max_steps
                report(f"training, loss {float(logs['loss']):.3f}", done)

    return Progress()


def _last_loss(history: Sequence[dict[str, Any]]) -> float:
    losses = [float(entry["loss"]) for entry in history if "loss" in entry]
    last = losses[-max(1, len(losses) // 10) :]
    loss = sum(last) / len(last)
    if not math.isfinite(loss):
        raise TrainingError("the loss is no longer a number; lower learning_rate")
    return loss


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m training.sft`: 0 done, 1 failed, 2 wrong usage."""
    args = vars(_parser().parse_args(argv))
    base, data, out, cache_dir = (args.pop(name) for name in ("base", "data", "out", "cache_dir"))
    try:
        options = SftOptions(**{name: value for name, value in args.items() if value is not None})
    except ValidationError as error:
        for problem in error.errors():
            flag = "--" + str(problem["loc"][0]).replace("_", "-")
            print(f"error: {flag}: {problem['msg']}", file=sys.stderr)
        return 2
    try:
        folder = resolve_model(base, cache_dir, report=_print_progress)
        result = train_sft(folder, data, out, options, _print_progress)
    except (TrainingError, ModelError) as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    print(
        f"{result.adapter_dir}: {result.rows} rows, {result.steps} steps, "
        f"loss {result.loss:.3f}, {result.size_bytes / 1e6:.2f} MB"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.sft", description=__doc__)
    parser.add_argument("--base", required=True, help="`embedded`, a folder or a Hub id")
    parser.add_argument("--data", required=True, type=Path, help="chat JSONL")
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    cache_dir = platformdirs.user_cache_path("loraplex")
    parser.add_argument("--cache-dir", type=Path, default=cache_dir, help="where models are kept")
    for name, field in SftOptions.model_fields.items():
        text = f"{field.description} Default: {field.default}."
        parser.add_argument("--" + name.replace("_", "-"), help=text)
    return parser


def _print_progress(stage: str, done: float | None) -> None:
    print(stage if done is None else f"{done:4.0%} {stage}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
