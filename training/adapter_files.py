"""A trained adapter as files: the two that PEFT and vLLM read."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import TrainingError

if TYPE_CHECKING:  # seconds to import: only a run pays for it
    from peft import PeftModel

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


def write_adapter(folder: Path, model: "PeftModel", base_name: str) -> None:
    """Make `folder` with the two files. The same weights give the same bytes.

    Raises TrainingError where the weights are not finite.
    """
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: t.detach().to("cpu", torch.bfloat16).contiguous() for name, t in state.items()}
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise TrainingError("the adapter holds NaN or Inf; lower schedule.learning_rate")
    folder.mkdir()
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    # The name is the caller's: PEFT would write the folder that the base was read from.
    config = model.peft_config["default"].to_dict() | {
        "base_model_name_or_path": base_name,
        "inference_mode": True,
    }
    # PEFT keeps names in sets, whose order differs from run to run.
    text = json.dumps(config, indent=2, sort_keys=True, default=sorted)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
