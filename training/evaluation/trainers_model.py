"""The trainer's model over given tokens: `python -m training.evaluation.trainers_model`.

Its arguments are the base's folder, the adapter's, and a folder with `rows.json`, where it leaves
`found.json`.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_registry.child import CHILD_FLAG, Report, serve_parent
from adapters_registry.errors import ModelError
from training.encoding import load_tokenizer

if TYPE_CHECKING:  # seconds to import
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase


def over_rows(base: Path, adapter: Path, folder: Path, report: Report) -> None:
    """For each row: the prompt's tokens, and what the model says at each token of the answer."""
    report("loading the trainer's model", None)
    rows = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    tokenizer = load_tokenizer(base)
    model = _load(base, adapter)
    found = []
    for number, row in enumerate(rows):
        report("comparing trainer and engine", number / len(rows))
        found.append(_over(row, tokenizer, model))
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


def _load(base: Path, adapter: Path) -> "PeftModel":
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    try:
        whole = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, local_files_only=True
        )
        return PeftModel.from_pretrained(whole, str(adapter)).eval()
    except (OSError, ValueError, RuntimeError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"cannot be loaded: {first}") from error


def _over(
    row: dict[str, Any], tokenizer: "PreTrainedTokenizerBase", model: "PeftModel"
) -> dict[str, object]:
    import torch

    text = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    # The template has written the special tokens already.
    prompt: list[int] = tokenizer.encode(str(text), add_special_tokens=False)
    tokens = row["tokens"]
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0]
    # What is said at a place is about the next one.
    said = logits[len(prompt) - 1 : len(prompt) - 1 + len(tokens)].log_softmax(-1)
    chosen = said.gather(1, torch.tensor(tokens, dtype=torch.long).reshape(-1, 1))
    return {
        "prompt_ids": prompt,
        "greedy": said.argmax(-1).tolist(),
        "log_probs": chosen.flatten().tolist(),
    }


def main() -> int:
    """Runs for the parent."""
    words = [Path(word) for word in sys.argv[1:] if word != CHILD_FLAG]
    if len(words) != 3:
        sys.stderr.write(
            "usage: python -m training.evaluation.trainers_model BASE ADAPTER FOLDER\n"
        )
        return 2
    # Before torch is loaded: threads that spin stand still where something else takes a core.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    return serve_parent(lambda report: over_rows(words[0], words[1], words[2], report))


if __name__ == "__main__":
    sys.exit(main())
