"""Bases that differ from the usual one in what a fault or its twin is about."""

import json
import shutil
from pathlib import Path

from benchmarks.planting.base import CHATML, END, OTHER_END, make_tokenizer
from benchmarks.planting.cases import BaseName

USUAL: BaseName = "usual"
_NO_END = CHATML.replace(END, "")
_NO_ANSWERS = CHATML.replace(
    "{% for m in messages %}", "{% for m in messages if m['role'] != 'assistant' %}"
)
_NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system message') }}{% endif %}"
    + CHATML
)
_TEMPLATES: dict[BaseName, str] = {
    "no end": _NO_END,
    "leaves answers out": _NO_ANSWERS,
    "no system": _NO_SYSTEM,
}


def make_variant(usual: Path, name: BaseName, bases: Path) -> Path:
    """The base called `name` in the folder `bases`, made from the usual one unless it is there."""
    folder = bases / name.replace(" ", "-")
    if folder.exists():
        return folder
    shutil.copytree(usual, folder)
    if name == "qwen2":
        _as_qwen2(folder)
    elif name == "ends with another":
        _end_with_another(folder)
    else:
        make_tokenizer(_TEMPLATES[name]).save_pretrained(folder)
    return folder


def _as_qwen2(folder: Path) -> None:
    """Its weights are chance: all that is looked at are its modules."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = json.loads((folder / "config.json").read_bytes())
    kept = (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
        *("num_attention_heads", "num_key_value_heads", "max_position_embeddings"),
        *("eos_token_id", "tie_word_embeddings"),
    )
    made = Qwen2Config(**{name: config[name] for name in kept})
    Qwen2ForCausalLM(made).save_pretrained(folder)  # type: ignore[no-untyped-call]


def _end_with_another(folder: Path) -> None:
    """As of many real models: the tokenizer's end token is not the one that ends a turn."""
    tokenizer = make_tokenizer(eos_token=OTHER_END)
    tokenizer.save_pretrained(folder)
    ends = tokenizer.convert_tokens_to_ids([OTHER_END, END])
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
