"""Several adapters as one source of LoRA, each module combined when it is asked for."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.merge.combine.arithmetic import mix
from training.merge.combine.checks import check_module, check_weights, check_whole
from training.merge.combine.method import CombineMethod
from training.merge.combine.sparsity import generator_of
from training.merge.combine.svd import decompose, decompose_product
from training.merge.lora import LoraModule, LoraShape, LoraSource, TokenRows

if TYPE_CHECKING:  # seconds to import
    import torch

    from training.merge.tensors import TensorInfo


@dataclass(frozen=True, slots=True)
class Combined:
    """Adapters with their weights as one LoraSource. Nothing of it is kept in memory.

    holders: each module's adapters, by their place in `sources`. dtype: of all their matrices;
    float32 where they differ.
    """

    sources: tuple[tuple[LoraSource, float], ...]
    method: CombineMethod
    holders: Mapping[str, tuple[int, ...]]
    dtype: "torch.dtype"

    @property
    def paths(self) -> tuple[str, ...]:
        """The modules that any of the adapters has."""
        return tuple(self.holders)

    @property
    def shapes(self) -> Mapping[str, LoraShape]:
        """Of every module: all that have one are alike."""
        return {path: self.sources[p[0]][0].shapes[path] for path, p in self.holders.items()}

    @property
    def saved(self) -> "Mapping[str, TensorInfo]":
        """What any of the adapters carries whole, as it is."""
        return {name: tensor for one, _ in self.sources for name, tensor in one.saved.items()}

    @property
    def shared(self) -> frozenset[str]:
        """Of `saved`, what is for the tied modules too."""
        return frozenset[str]().union(*(one.shared for one, _ in self.sources))

    @property
    def tokens(self) -> Mapping[str, TokenRows]:
        """Trained rows of any of the adapters, as they are."""
        return {path: rows for one, _ in self.sources for path, rows in one.tokens.items()}

    def load(self, path: str) -> LoraModule:
        """The module combined from those that have it, in float32, its scaling 1.

        Raises MergeError where a part cannot be read.
        """
        parts = [_read(*self.sources[place], path) for place in self.holders[path]]
        b, a = _factors(parts, self.method, path)
        first = parts[0].module
        return LoraModule(path, first.kind, a, b, 1.0, fan_in_fan_out=first.fan_in_fan_out)


def combine(sources: Sequence[tuple[LoraSource, float]], method: CombineMethod) -> Combined:
    """The adapters, each with its weight, as one: what PEFT's `add_weighted_adapter` makes.

    A module that some have and others have not is made from those that have it. `dare` draws for
    each module from (seed, path), so that modules can be made one at a time in any order; PEFT
    draws for all from one source, and so drops other elements by the same chances. One adapter
    alone goes through the method too, where PEFT would quietly take `linear`. Where the first is an
    rsLoRA, PEFT makes the result one too, and so too strong by the root of its rank; not so here.
    Reads every adapter once, to check it. Raises MergeError.
    """
    check_weights([weight for _, weight in sources])
    check_whole(sources)
    holders: dict[str, tuple[int, ...]] = {}
    for place, (source, _) in enumerate(sources):
        for path in source.paths:
            holders[path] = (*holders.get(path, ()), place)
    dtypes: set[torch.dtype] = set()
    for path, places in holders.items():
        parts = [(place + 1, sources[place][0].load(path)) for place in places]
        check_module(path, parts, method)
        dtypes |= {matrix.dtype for _, part in parts for matrix in (part.a, part.b)}
    return Combined(tuple(sources), method, holders, _shared(dtypes))


def _shared(dtypes: "set[torch.dtype]") -> "torch.dtype":
    import torch

    return dtypes.pop() if len(dtypes) == 1 else torch.float32


@dataclass(frozen=True, slots=True)
class _Part:
    """One adapter's part of a module, and the adapter's weight. a, b: its matrices in float32."""

    module: LoraModule
    a: "torch.Tensor"
    b: "torch.Tensor"
    weight: float

    @property
    def strength(self) -> float:
        """What `b @ a` is multiplied with in the sum."""
        return self.weight * self.module.scaling


def _read(source: LoraSource, weight: float, path: str) -> _Part:
    module = source.load(path)
    return _Part(module, module.a.float(), module.b.float(), weight)


def _factors(
    parts: Sequence[_Part], method: CombineMethod, path: str
) -> "tuple[torch.Tensor, torch.Tensor]":
    """B and A of the combined module."""
    if method.keeps_rank:
        return _mixed_factors(parts, method, path)
    if method.name == "cat":
        return _side_by_side(parts)
    assert method.rank is not None  # checked with the method
    if method.name == "svd":
        thin = decompose_product(*_side_by_side(parts), method.rank)
    else:
        thin = decompose(_mixed_updates(parts, method, path), method.rank, method.seed)
    return thin.b, thin.a


def _side_by_side(parts: Sequence[_Part]) -> "tuple[torch.Tensor, torch.Tensor]":
    """The exact weighted sum, of a rank that is the sum of theirs."""
    import torch

    a = torch.cat([part.a * part.strength for part in parts])
    return torch.cat([part.b for part in parts], dim=1), a


def _mixed_factors(
    parts: Sequence[_Part], method: CombineMethod, path: str
) -> "tuple[torch.Tensor, torch.Tensor]":
    """A from all A and B from all B. Each takes a root of the strength, and A its sign."""
    generator = generator_of(method.seed, path)
    roots = [math.sqrt(abs(part.strength)) for part in parts]
    signed = [math.copysign(r, p.strength) for r, p in zip(roots, parts, strict=True)]
    a = mix([part.a for part in parts], signed, method, generator)
    return mix([part.b for part in parts], roots, method, generator), a


def _mixed_updates(parts: Sequence[_Part], method: CombineMethod, path: str) -> "torch.Tensor":
    """The updates made whole and mixed, (out_features, in_features)."""
    first = parts[0].module
    turned = first.kind == "embedding" or first.fan_in_fan_out
    updates = (_update(part, turned) for part in parts)
    # The weight comes after the pruning, which looks at the scaled update.
    weights = [part.weight for part in parts]
    mixed = mix(updates, weights, method, generator_of(method.seed, path))
    return mixed.T if turned else mixed


def _update(part: _Part, turned: bool) -> "torch.Tensor":
    """As the base keeps the weight: the draws then fall on the same elements as PEFT's."""
    update = (part.b @ part.a).mul_(part.module.scaling)
    return update.T.contiguous() if turned else update
