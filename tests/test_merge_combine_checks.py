"""What cannot be combined, and what the refusal says."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from training.errors import MergeError
from training.merge.combine import CombineMethod, combine
from training.merge.lora import LoraModule, LoraShape, TokenRows
from training.merge.tensors import TensorInfo


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "slerp"}, "method: there is no 'slerp'; take one of cat, linear, svd"),
        ({"name": "svd"}, "rank: svd needs one"),
        ({"name": "svd", "rank": 0}, "rank: must be a whole number from 1"),
        ({"name": "cat", "rank": 4}, "rank: cat takes the adapters' own"),
        ({"name": "ties"}, "density: ties needs one"),
        ({"name": "ties", "density": 0.0}, "density: must be above 0 and at most 1"),
        ({"name": "dare_linear", "density": 1.5}, "density: must be above 0 and at most 1"),
        ({"name": "linear", "density": 0.5}, "density: linear drops nothing"),
        ({"name": "ties", "density": 0.5, "sign": "most"}, "sign: must be total or frequency"),
        ({"name": "cat", "sign": "frequency"}, "sign: cat elects none"),
    ],
)
def test_a_method_that_cannot_be_meant_names_the_option(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(MergeError, match=message):
        CombineMethod(**options)


@dataclass(frozen=True)
class Held:
    """A source of modules in memory."""

    modules: Mapping[str, LoraModule]
    saved: Mapping[str, TensorInfo] = field(default_factory=dict)
    tokens: Mapping[str, TokenRows] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self.modules)

    @property
    def shapes(self) -> Mapping[str, LoraShape]:
        return {
            path: LoraShape(one.kind, one.b.shape[0], one.a.shape[1])
            for path, one in self.modules.items()
        }

    def load(self, path: str) -> LoraModule:
        return self.modules[path]


def module(rank: int = 2, rows: int = 8, columns: int = 6, **changes: Any) -> LoraModule:
    import torch

    plain = LoraModule("m.q", "linear", torch.ones(rank, columns), torch.ones(rows, rank), 2.0)
    return replace(plain, **changes)


def held(rank: int = 2, rows: int = 8, columns: int = 6, **changes: Any) -> Held:
    return Held({"m.q": module(rank, rows, columns, **changes)})


def whole(name: str, **more: Any) -> Held:
    return Held(more, saved={name: TensorInfo(name, "F32", (2,), Path("f"), 0, 8)})


def test_equal_ranks_are_asked_for_where_the_method_needs_them() -> None:
    sources = [(held(rank=2), 1.0), (held(rank=3), 1.0)]
    with pytest.raises(MergeError, match="ranks are 2 and 3, and ties needs them equal: use cat"):
        combine(sources, CombineMethod("ties", density=0.5))
    assert combine(sources, CombineMethod()).load("m.q").a.shape == (5, 6)


def test_a_rank_above_what_a_matrix_has_is_refused() -> None:
    with pytest.raises(MergeError, match=r"rank: m.q has a side of 6.* give at most 6"):
        combine([(held(), 1.0)], CombineMethod("svd", rank=7))


def test_a_product_of_low_rank_is_not_blown_up() -> None:
    import torch

    mixed = combine([(held(rank=2), 1.0)], CombineMethod("svd", rank=5))
    found = mixed.load("m.q")
    assert found.a.shape == (2, 6)
    torch.testing.assert_close(found.scaling * found.b @ found.a, 4 * torch.ones(8, 6))


def test_what_no_method_adds_is_refused() -> None:
    import torch

    for other, message in (
        (held(magnitude=torch.ones(8)), "adapter 2 is a DoRA"),
        (held(bias=torch.ones(8)), "adapter 2 has a bias of LoRA at m.q"),
        (held(kind="embedding"), "take it for linear and embedding"),
        (held(fan_in_fan_out=True), "differ in fan_in_fan_out"),
        (held(rows=9), "are made for 8x6 and 9x6 weights: their bases differ"),
    ):
        with pytest.raises(MergeError, match=message):
            combine([(held(), 1.0), (other, 1.0)], CombineMethod())
    for weight in (float("nan"), float("inf")):
        with pytest.raises(MergeError, match="the weight of adapter 1 must be a number"):
            combine([(held(), weight)], CombineMethod())
    with pytest.raises(MergeError, match="none is named"):
        combine([], CombineMethod())


def test_whole_tensors_are_carried_by_one_adapter_alone() -> None:
    head = whole("lm_head.weight")
    mixed = combine([(held(), 0.5), (head, 1.0)], CombineMethod())
    assert list(mixed.saved) == ["lm_head.weight"]
    with pytest.raises(MergeError, match=r"adapters 1 and 2 both carry lm_head.weight whole"):
        combine([(head, 1.0), (head, 1.0)], CombineMethod())
    with pytest.raises(MergeError, match=r"adapter 1 carries lm_head.weight whole.*the weight 1"):
        combine([(head, 0.5)], CombineMethod())
    with pytest.raises(MergeError, match=r"adapter 1 carries m.q whole, and adapter 2 has LoRA"):
        combine([(whole("m.q.weight"), 1.0), (held(), 1.0)], CombineMethod())
