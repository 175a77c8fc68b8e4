"""Bases in fewer bits: what an adapter was trained on, and what can be merged into."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from training.errors import MergeError
from training.merge.adapter_folder import AdapterFolder
from training.merge.base_tensors import BaseTensors
from training.merge.job import BaseQuantization
from training.merge.tensors import TensorInfo, Update
from training.merge.updates.requantized import Requantized

_BNB_4BIT = re.compile(r"bnb-4-?bit", re.IGNORECASE)
_LINEAGE = re.compile(r"bitsandbytes (nf4|fp4)")


@dataclass(frozen=True, slots=True)
class Quantized:
    """The base as the adapters saw it: by bitsandbytes in 4 bits, its scales quantized too.

    why: how that is known, in words.
    """

    kind: Literal["nf4", "fp4"]
    why: str


def check_full_precision(config: Mapping[str, Any]) -> None:
    """Raises MergeError where the base's own weights are in fewer bits.

    config: the base's `config.json`.
    """
    found = config.get("quantization_config")
    if not found:
        return
    method = found.get("quant_method") if isinstance(found, dict) else None
    fix = "merge into the model in 16 bits that it was made from"
    if method == "bitsandbytes":
        fix += ", with --base-quantization nf4 (or fp4), which gives the very weights of this one"
    raise MergeError(
        f"the base is quantized ({method or 'quantization_config in config.json'}), and a sum with"
        f" such weights would be rounded back into their few bits: {fix}"
    )


def find_quantized(adapters: Sequence[AdapterFolder], wanted: BaseQuantization) -> Quantized | None:
    """What the base must be rounded to before the adapters fit. wanted: the user's word.

    Raises MergeError for adapters that were trained on different ones.
    """
    if wanted == "none":
        return None
    if wanted != "auto":
        return Quantized(wanted, "as asked for")
    found = [_trained_on(adapter) for adapter in adapters]
    kinds = [None if one is None else one.kind for one in found]
    for adapter, kind in zip(adapters, kinds, strict=True):
        if kind != kinds[0]:
            raise MergeError(
                f"{adapters[0].folder} was trained on a base in {kinds[0] or '16 or 32 bits'}, and"
                f" {adapter.folder} on one in {kind or '16 or 32 bits'}: say which one to merge"
                " into with --base-quantization"
            )
    return found[0] if found else None


def _trained_on(adapter: AdapterFolder) -> Quantized | None:
    said = adapter.lineage.base.quantization
    if said is not None:
        match = _LINEAGE.fullmatch(said)
        return _quantized(match[1], "its lineage says so") if match else None
    name = adapter.lineage.base.name or adapter.config.base_name or ""
    if _BNB_4BIT.search(name.rstrip("/").rpartition("/")[2]):
        return _quantized("nf4", f"its base is named {name}")
    return None


def _quantized(kind: str, why: str) -> Quantized:
    return Quantized("nf4" if kind == "nf4" else "fp4", why)


def rounded_to_4_bits(
    quantized: Quantized,
    base: BaseTensors,
    starts: Mapping[str, TensorInfo],
    updates: Mapping[str, Update],
) -> dict[str, Update]:
    """Updates of all that bitsandbytes quantizes: linear weights but the output head's.

    starts, updates: what the adapter does, by the names in the model; it comes after the rounding.
    Raises MergeError.
    """
    _check_bitsandbytes()
    found: dict[str, Update] = {}
    for path, module in base.spec.modules.items():
        name, at = f"{path}.weight", base.at(f"{path}.weight")
        if at is None or starts.get(name, at) != at:  # what is saved whole was never rounded
            continue
        if module.kind == "linear" and path != base.spec.head:
            found[name] = Requantized(
                kind=quantized.kind,
                dtype=at.dtype,
                fan_in_fan_out=module.fan_in_fan_out,
                then=updates.get(name),
            )
    return found


def _check_bitsandbytes() -> None:
    if find_spec("bitsandbytes") is None:
        raise MergeError(
            "the adapter belongs on a base in 4 bits, which takes bitsandbytes, and that is not"
            " installed: pip install 'loraplex[train]'"
        )
