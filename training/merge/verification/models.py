"""Base, adapter and merged model by transformers and PEFT, in float32."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_registry.errors import ModelError
from training.merge.verification.stored import read_stored
from training.merge.verification.streamed import OnDisk, read_when_called, take_weights

if TYPE_CHECKING:  # seconds to import
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

_SHOWN_NAMES = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model computes. scratch: a folder of its own where it does not fit in memory, but is
    read layer by layer at every run."""

    device: "torch.device"
    scratch: Path | None = None


def load_base(
    folder: Path, adapter: Path, place: Place, *, quantization: str | None, weight: float
) -> "PeftModel":
    """The base with the adapter on top, its effect times `weight`. Raises ModelError.

    quantization: `nf4` or `fp4` for the base's weights as they are after bitsandbytes has put them
    in 4 bits and taken them out again, in the type they are stored in; never layer by layer.
    """
    if quantization is not None:
        return _adapted(_four_bit_base(folder, quantization, place), adapter, weight)
    base, on_disk = _load("the base", folder, place)
    model = _adapted(base, adapter, weight)
    if on_disk is not None:
        read_when_called(base, on_disk)
    return model


def load_merged(folder: Path, place: Place) -> "PreTrainedModel":
    """The merged model. Raises ModelError, also where it lacks a tensor."""
    model, on_disk = _load("the merged model", folder, place)
    if on_disk is not None:
        read_when_called(model, on_disk)
    return model


def _adapted(base: "PreTrainedModel", folder: Path, weight: float) -> "PeftModel":
    import torch
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    model: PeftModel = _telling(
        "the adapter",
        lambda: PeftModel.from_pretrained(
            base,
            str(folder.resolve()),
            low_cpu_mem_usage=True,  # nothing is computed of weights that are not there
            # Else PEFT takes the first GPU, where the base need not be.
            torch_device=str(next(base.parameters()).device),
        ),
    )
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.scaling["default"] *= weight
        for parameter in module.parameters(recurse=False):
            # Whole tensors come in the type that they were saved in.
            parameter.data = parameter.data.to(torch.float32)
    model.eval()
    return model


def _load(what: str, folder: Path, place: Place) -> "tuple[PreTrainedModel, OnDisk | None]":
    """The model in memory; or without its weights, and where they are read from."""
    if place.scratch is None:
        return _ready(_from_folder(what, folder, {}), place), None
    options = {"device_map": {"": "disk"}, "offload_folder": str(place.scratch)}
    model = _from_folder(what, folder, options)
    model.eval()  # type: ignore[no-untyped-call]
    return model, take_weights(model)


def _ready(model: "PreTrainedModel", place: Place) -> "PreTrainedModel":
    moved: PreTrainedModel = model.to(place.device)  # type: ignore[arg-type]
    moved.eval()  # type: ignore[no-untyped-call]
    return moved


def _four_bit_base(folder: Path, kind: str, place: Place) -> "PreTrainedModel":
    import torch

    options = {"quantization_config": _four_bits(kind), "device_map": {"": str(place.device)}}
    model = _from_folder("the base", folder, options)
    whole: PreTrainedModel = model.dequantize(torch.float32)  # type: ignore[no-untyped-call]
    stored = read_stored(folder)
    for name, weight in whole.named_parameters():
        weight.data = stored.rounded(name, weight.data)
    return _ready(whole, place)


def _from_folder(what: str, folder: Path, options: dict[str, Any]) -> "PreTrainedModel":
    import torch
    from transformers import AutoModelForCausalLM

    loaded: tuple[PreTrainedModel, dict[str, Any]] = _telling(
        what,
        lambda: AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        ),
    )
    model, info = loaded
    # The library fills what is not there with random numbers.
    if missing := sorted(info["missing_keys"]):
        shown = ", ".join(missing[:_SHOWN_NAMES])
        more = f" and {len(missing) - _SHOWN_NAMES} more" if len(missing) > _SHOWN_NAMES else ""
        raise ModelError(f"{what} lacks tensors that its config.json asks for: {shown}{more}")
    return model


def _telling(what: str, load: Callable[[], Any]) -> Any:
    from safetensors import SafetensorError

    try:
        return load()
    except (OSError, ValueError, RuntimeError, LookupError, ImportError, SafetensorError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{what} cannot be loaded: {first}") from error


def _four_bits(kind: str) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
