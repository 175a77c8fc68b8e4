"""What the names of an adapter's tensors say. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from adapters_registry.safetensors_header import shown
from training.errors import MergeError
from training.merge.tensors import TensorInfo

Role = Literal["a", "b", "embedding_a", "embedding_b", "magnitude", "bias"]

_At = TypeVar("_At", bound=str)

_PREFIX = "base_model.model."
# An adapter's own name, mostly `default`, stood in the tensors' names until PEFT 0.3.
_NAMED = r"(?:\.[^.]+)?"
_ROLES: Mapping[Role, re.Pattern[str]] = {
    "a": re.compile(rf"(.+)\.lora_A{_NAMED}\.weight"),
    "b": re.compile(rf"(.+)\.lora_B{_NAMED}\.weight"),
    "embedding_a": re.compile(rf"(.+)\.lora_embedding_A{_NAMED}"),
    "embedding_b": re.compile(rf"(.+)\.lora_embedding_B{_NAMED}"),
    "magnitude": re.compile(rf"(.+)\.lora_magnitude_vector{_NAMED}(?<!\.weight)(?:\.weight)?"),
    "bias": re.compile(rf"(.+)\.lora_B{_NAMED}\.bias"),
}
_TOKENS = re.compile(rf"(.+)\.token_adapter\.trainable_tokens_delta{_NAMED}")
_WHOLE = re.compile(rf"(.+)\.modules_to_save{_NAMED}\.(weight|bias)")
_BENEATH = re.compile(r"(.+)\.base_layer\.(weight|bias)")
_TRAINING_ONLY = re.compile(r".+\.lora_(velora_embed|monteclora_sampler)\..+")


@dataclass(slots=True)
class Sorted:
    """An adapter's tensors by what they are.

    modules: the LoRA of each module. tokens: trained rows, by module. saved: whole tensors by
    their name in the base. beneath: those of them that PEFT loads over the base's own.
    """

    modules: dict[str, dict[Role, TensorInfo]] = field(default_factory=dict)
    tokens: dict[str, TensorInfo] = field(default_factory=dict)
    saved: dict[str, TensorInfo] = field(default_factory=dict)
    beneath: set[str] = field(default_factory=set)


def sort_tensors(tensors: Mapping[str, TensorInfo]) -> Sorted:
    """Raises MergeError for tensors that are no LoRA's, or two that say the same."""
    found = Sorted()
    for key, info in tensors.items():
        _sort(key, info, found)
    return found


def _sort(key: str, info: TensorInfo, found: Sorted) -> None:
    name = key.removeprefix(_PREFIX)
    if _TRAINING_ONLY.fullmatch(name):
        return
    for role, pattern in _ROLES.items():
        if match := pattern.fullmatch(name):
            _put(found.modules.setdefault(match[1], {}), role, info, key)
            return
    if match := _TOKENS.fullmatch(name):
        _put(found.tokens, match[1], info, key)
    elif match := _WHOLE.fullmatch(name):
        _put(found.saved, f"{match[1]}.{match[2]}", info, key)
    elif match := _BENEATH.fullmatch(name):
        _put(found.saved, f"{match[1]}.{match[2]}", info, key)
        found.beneath.add(f"{match[1]}.{match[2]}")
    elif ".lora_" in name:
        raise MergeError(f"the adapter holds {shown(key)}, which is of no kind of LoRA known here")
    else:
        _put(found.saved, name, info, key)


def _put(place: dict[_At, TensorInfo], at: _At, info: TensorInfo, key: str) -> None:
    if at in place:
        raise MergeError(
            f"the adapter holds {shown(key)} under another spelling too: save it again with PEFT"
        )
    place[at] = info
