"""The base model as it is trained on, and the adapter's shape in PEFT's words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from training.bfloat16 import cpu_has_bfloat16
from training.errors import RecipeError, TrainingError
from training.recipe.recipe import AdapterPart, Method

if TYPE_CHECKING:  # seconds to import: only a worker pays for it
    import torch
    from peft import LoraConfig
    from transformers import PreTrainedModel


def pick_dtype(wanted: Literal["auto", "float32", "bfloat16"]) -> "torch.dtype":
    """bfloat16 where the machine computes in it; on other CPUs it is slower than float32."""
    import torch

    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = cpu_has_bfloat16()
    return torch.bfloat16 if fast else torch.float32


def load_base(
    base: Path, method: Method, dtype: "torch.dtype", device: "torch.device"
) -> "PreTrainedModel":
    """The base; for QLoRA with its linear layers in 4 bits (NF4). Raises TrainingError."""
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True}
    if method == "qlora":
        options |= {"quantization_config": _nf4(dtype), "device_map": {"": str(device)}}
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base, **options)
    except (OSError, ValueError) as error:
        raise TrainingError("base: the folder holds no model that can be loaded") from error
    model.config.use_cache = False
    return model


def lora_config(method: Method, adapter: AdapterPart) -> "LoraConfig":
    """The adapter as PEFT makes it."""
    from peft import LoraConfig

    names = adapter.target_modules
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=names if isinstance(names, str) else list(names),
        use_rslora=method == "rslora",
        use_dora=method == "dora",
    )


@contextmanager
def adapting() -> Iterator[None]:
    """Around the making of an adapter: PEFT's refusal in our words. Raises RecipeError."""
    try:
        yield
    except ValueError as error:
        if "target modules" not in str(error).lower():
            raise
        raise RecipeError(
            "adapter.target_modules: none of them is in this base; check the names"
        ) from error


def _nf4(dtype: "torch.dtype") -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
