"""What differs between two models beside their weights: configuration, tokenizer, chat template."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adapters_registry.base_model import BaseModelSpec
from training.errors import MergeError
from training.merge.extract.left_out import LeftOut
from training.merge.json_file import read_object

_TOKENIZER_FILE = "tokenizer.json"
_MOST_TEMPLATE_CHARS = 65_536
"""A serving profile takes no longer chat template."""

# Of the library that saved it, of training, or compared by the weights themselves.
_NO_CHANGE = {
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "attn_pdrop",
    "dtype",
    "embd_pdrop",
    "initializer_range",
    "pad_token_id",
    "pretraining_tp",
    "resid_pdrop",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}
# Parts of tokenizer.json that do not say which tokens a text becomes.
_NOT_TOKENS = ("padding", "truncation", "version")


def check_kin(base: BaseModelSpec, tuned: BaseModelSpec) -> None:
    """Raises MergeError for two models that are not of one make, or whose weights are codes."""
    if base.architecture != tuned.architecture:
        raise MergeError(
            f"the fine-tune is a {tuned.architecture} and the base a {base.architecture}: name the"
            " base that it was tuned from"
        )
    for whose, spec in (("base", base), ("fine-tune", tuned)):
        if spec.quantization is not None:
            raise MergeError(
                f"the {whose} is quantized ({spec.quantization}), and its weights are codes: name "
                "the model that it was quantized from"
            )


def changed_files(base: Path, tuned: Path) -> Iterator[LeftOut]:
    """What of the fine-tune's configuration and tokenizer is other than the base's.

    Raises MergeError where they cannot be read.
    """
    one, two = read_object(base / "config.json"), read_object(tuned / "config.json")
    # A field that one of them leaves out has the same default for both.
    for field in sorted((one.keys() & two.keys()) - _NO_CHANGE):
        if one[field] != two[field]:
            change = f"{json.dumps(one[field])} in the base, {json.dumps(two[field])} in it"
            yield LeftOut(f"config.json: {field}", change, None, True)
    if _tokens(base) != _tokens(tuned):
        yield LeftOut(_TOKENIZER_FILE, "texts become other tokens than in the base", None, True)


def own_template(base: BaseModelSpec, tuned: BaseModelSpec) -> str | None:
    """The fine-tune's chat template, where it is not the base's and a profile can carry it."""
    template = tuned.chat_template
    if template is None or template == base.chat_template or len(template) > _MOST_TEMPLATE_CHARS:
        return None
    return template


def lost_template(base: BaseModelSpec, tuned: BaseModelSpec) -> Iterator[LeftOut]:
    """The fine-tune's chat template, where no profile can carry it."""
    template = tuned.chat_template
    if template in (None, base.chat_template, own_template(base, tuned)):
        return
    limit = f"longer than the {_MOST_TEMPLATE_CHARS:,} characters of a serving profile"
    yield LeftOut("chat template", limit, None, True)


def _tokens(folder: Path) -> Mapping[str, Any] | None:
    file = folder / _TOKENIZER_FILE
    if not file.is_file():
        return None
    found = {name: part for name, part in read_object(file).items() if name not in _NOT_TOKENS}
    model = found.get("model")
    if isinstance(model, dict) and isinstance(model.get("merges"), list):
        # Older libraries write a merge as one text.
        merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
        found["model"] = {**model, "merges": merges}
    return found
