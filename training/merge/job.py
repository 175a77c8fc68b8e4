"""What a merge is asked for, what it tells while it works, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from training.merge.combine.method import CombineMethod

if TYPE_CHECKING:
    from training.merge.verify import Verification

OutputDtype = Literal["base", "float32", "float16", "bfloat16"]
ComputeDtype = Literal["float32", "float64"]
BaseQuantization = Literal["auto", "none", "nf4", "fp4"]

MAX_SHARD_BYTES = 5_000_000_000


@dataclass(frozen=True, slots=True)
class AdapterInput:
    """An adapter's folder and its weight. name: what the model card calls it."""

    folder: Path
    weight: float = 1.0
    name: str = ""


@dataclass(frozen=True, slots=True)
class MergeJob:
    """One merge.

    base_name: what the model card calls the base. out: must not be there yet. method: how several
    adapters become one. dtype: of the weights that are written; `base` keeps each tensor's own.
    compute: the type the sum is made in. max_shard_bytes: of the tensors in one file; a larger
    tensor gets a file of its own. base_quantization: what the adapters saw of the base when they
    were trained. tolerance: of the check; None derives it. probes: the check's prompts; None takes
    the default ones. cache_dir: for what can be made again.
    """

    base: Path
    base_name: str
    adapters: tuple[AdapterInput, ...]
    out: Path
    cache_dir: Path
    method: CombineMethod = field(default_factory=CombineMethod)
    dtype: OutputDtype = "base"
    compute: ComputeDtype = "float32"
    max_shard_bytes: int = MAX_SHARD_BYTES
    base_quantization: BaseQuantization = "auto"
    verify: bool = True
    tolerance: float | None = None
    probes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """How far a stage has come. total_bytes: 0 where the stage does not count bytes."""

    stage: str
    done_bytes: int = 0
    total_bytes: int = 0


MergeProgress = Callable[[Moved], None]


@dataclass(frozen=True, slots=True)
class Merged:
    """A finished merge.

    changed, copied: how many tensors were computed, and how many went over as they were (or only
    in another type). modules: of the base that the adapters change. size_bytes: of all weights.
    dtype: what most of the weights are, as `bfloat16`. tied: whether input and output embeddings
    are one tensor. resumed: shards that an earlier run of the same merge had left whole.
    """

    folder: Path
    changed: int
    copied: int
    modules: int
    size_bytes: int
    seconds: float
    dtype: str
    tied: bool
    notes: tuple[str, ...] = ()
    verification: "Verification | None" = None
    resumed: int = 0


def unseen(_moved: Moved) -> None:
    """Progress that nobody watches."""
