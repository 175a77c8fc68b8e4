"""LoRA of one module, and who can give it: an adapter's folder, or several combined."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # seconds to import
    import torch

    from training.merge.tensors import TensorInfo


@dataclass(frozen=True, slots=True)
class LoraModule:
    """What an adapter holds for one module. The update is `scaling * b @ a`.

    path: the module in the base, as `model.layers.0.self_attn.q_proj`.
    a: (rank, in_features), or (rank, rows) of an embedding. b: (out_features, rank), or
    (width, rank) of an embedding. Both on the CPU, in the type the adapter was saved in.
    fan_in_fan_out: whether the base keeps the weight as (in_features, out_features).
    magnitude: DoRA's, (out_features,), or (width,) of an embedding. bias: what B adds to the
    module's bias (`lora_bias`), unscaled, (out_features,).
    """

    path: str
    kind: Literal["linear", "embedding"]
    a: "torch.Tensor"
    b: "torch.Tensor"
    scaling: float
    fan_in_fan_out: bool = False
    magnitude: "torch.Tensor | None" = None
    bias: "torch.Tensor | None" = None


@dataclass(frozen=True, slots=True)
class LoraShape:
    """What is known of a module's part before it is read.

    out_features, in_features: of the update; an embedding has `in_features` rows of
    `out_features`. magnitude, bias: whether it has them.
    """

    kind: Literal["linear", "embedding"]
    out_features: int
    in_features: int
    magnitude: bool = False
    bias: bool = False


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Trained rows of an embedding, `trainable_token_indices`: row `indices[i]` is `rows[i]`."""

    indices: tuple[int, ...]
    rows: "TensorInfo"


class LoraSource(Protocol):
    """Modules of LoRA, each read when it is asked for, so that few are in memory at once."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The modules it adapts."""

    @property
    def shapes(self) -> Mapping[str, LoraShape]:
        """Of every module in `paths`."""

    @property
    def saved(self) -> "Mapping[str, TensorInfo]":
        """Tensors it carries whole, by their name in the base: `modules_to_save`, biases."""

    @property
    def shared(self) -> frozenset[str]:
        """Of `saved`, what takes the base's place also in the modules that are tied to it.

        The rest, of `modules_to_save`, is its module's alone.
        """

    @property
    def tokens(self) -> Mapping[str, TokenRows]:
        """Trained rows, by module."""

    def load(self, path: str) -> LoraModule:
        """The module's part. Raises MergeError where it cannot be read."""
