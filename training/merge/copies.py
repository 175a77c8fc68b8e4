"""What PEFT saved of the base beside an adapter: embeddings under LoRA, mostly unchanged."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from adapters_registry.base_model import BaseModelSpec
from training.merge.adapter_folder import AdapterFolder
from training.merge.base_tensors import BaseTensors
from training.merge.reading import read_tensor
from training.merge.tensors import TensorInfo

_BLOCK_ELEMENTS = 2**22


def without_copies(
    adapter: AdapterFolder, tensors: Mapping[str, TensorInfo], spec: BaseModelSpec
) -> AdapterFolder:
    """The adapter without the tensors that the base has just so. tensors: the base's.

    Adapters that differ in nothing else can then be combined. Reads those tensors, on both sides.
    """
    base = BaseTensors(spec, tensors)
    own = next(filter(None, map(base.at, base.tied)), None)
    copies = set()
    for name in adapter.shared:
        found = base.at(name) or (own if name in base.tied else None)
        if found is not None and _equal(adapter.saved[name], found):
            copies.add(name)
    return replace(
        adapter,
        saved={name: info for name, info in adapter.saved.items() if name not in copies},
        shared=adapter.shared - copies,
    )


def _equal(one: TensorInfo, two: TensorInfo) -> bool:
    """Whether the values are, in whatever types."""
    if one.shape != two.shape or not one.shape:
        return False
    step = max(1, _BLOCK_ELEMENTS // max(1, prod(one.shape[1:])))
    for start in range(0, one.shape[0], step):
        rows = slice(start, min(start + step, one.shape[0]))
        if not bool((read_tensor(one, rows).float() == read_tensor(two, rows).float()).all()):
            return False
    return True
