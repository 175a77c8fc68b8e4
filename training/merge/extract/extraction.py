"""The way back from a full fine-tune: an adapter of its base that answers nearly as it does."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_registry.base_model import load_spec
from adapters_registry.errors import ModelError
from training.errors import MergeError
from training.merge.adapter_writer import WrittenAdapter, check_free, write_modules
from training.merge.checkpoint import open_checkpoint
from training.merge.extract.files import changed_files, check_kin, lost_template, own_template
from training.merge.extract.left_out import LeftOut, Other, compare, find_left_out, refuse_lost
from training.merge.extract.module import ExtractedModule, Factored, factor
from training.merge.extract.pairs import Pair, Side, pair_up
from training.merge.job import MergeProgress, Moved, unseen
from training.merge.lora import LoraModule
from training.merge.made_lineage import made_metadata
from training.merge.names import load_names
from training.merge.reading import read_tensor

if TYPE_CHECKING:  # seconds to import
    import torch

_STAGE = "extracting"


@dataclass(frozen=True, slots=True)
class Extracted:
    """A finished extraction.

    modules: those that differ, with what the adapter holds of each. energy: of all of them
    together, in squares. unchanged: how many weights do not differ. left_out: changes that the
    adapter does not have. template: whether metadata.json carries the fine-tune's chat template.
    """

    adapter: WrittenAdapter
    modules: tuple[ExtractedModule, ...]
    energy: float
    unchanged: int
    left_out: tuple[LeftOut, ...]
    template: bool
    seconds: float


def extract(
    base: Path,
    tuned: Path,
    rank: int,
    out: Path,
    progress: MergeProgress = unseen,
    *,
    cache_dir: Path,
    base_name: str | None = None,
    allow_left_out: bool = False,
    seed: int = 0,
) -> Extracted:
    """Make in `out` an adapter of at most this rank out of a fully tuned model and its base.

    base, tuned: their folders. base_name: what the adapter calls the base; its own name by
    default. allow_left_out: whether changes that no adapter holds (norms, biases, a larger
    vocabulary, another tokenizer) may be left out, to be told in the result. seed: of the random
    projection that large weights are decomposed with. One weight of each model is in memory at a
    time, beside the adapter.
    Raises MergeError: for models that are not of one make, for such changes, for a fine-tune that
    is its base, for damaged files, and for an `out` that is there.
    """
    started = time.monotonic()
    if rank < 1:
        raise MergeError(f"rank: must be a whole number from 1, not {rank}")
    check_free(out)
    sides = _open(base, "base", cache_dir), _open(tuned, "fine-tune", cache_dir)
    check_kin(sides[0].spec, sides[1].spec)
    pairs, others = pair_up(*sides)
    left_out = _left_out(base, tuned, sides, others)
    if not allow_left_out:
        refuse_lost(left_out)
    found = _factor_all(pairs, sides[0], rank, seed, progress)
    return _write(found, sides, rank, out, base_name, tuple(left_out), started)


def _open(folder: Path, whose: str, cache_dir: Path) -> Side:
    try:
        spec = load_spec(folder, cache_dir)
    except ModelError as error:
        raise MergeError(f"the {whose} {folder}: {error.message}") from error
    tensors = open_checkpoint(folder).tensors
    side = Side(spec, tensors)
    if any(side.weight(path) is None for path in spec.modules):
        found = load_names(folder, tensors, cache_dir).names
        names = {inner: name for name, inner in found.items()}
        side = Side(spec, {names.get(name, name): tensor for name, tensor in tensors.items()})
    return side


def _left_out(
    base: Path, tuned: Path, sides: tuple[Side, Side], others: Sequence[Other]
) -> list[LeftOut]:
    specs = [side.spec for side in sides]
    return [*changed_files(base, tuned), *lost_template(*specs), *find_left_out(others)]


@dataclass(frozen=True, slots=True)
class _Found:
    """The adapter's modules, and what is told of each."""

    lora: tuple[LoraModule, ...]
    told: tuple[ExtractedModule, ...]
    unchanged: int

    @property
    def energy(self) -> float:
        total = math.fsum(one.change**2 for one in self.told)
        return math.fsum(one.energy * one.change**2 for one in self.told) / total


def _factor_all(
    pairs: Sequence[Pair], base: Side, rank: int, seed: int, progress: MergeProgress
) -> _Found:
    """Raises MergeError where nothing differs."""
    lora: list[LoraModule] = []
    told: list[ExtractedModule] = []
    unchanged, done = 0, 0
    total = sum(pair.size_bytes for pair in pairs)
    for pair in pairs:
        progress(Moved(_STAGE, done, total))
        factored = _factor(pair, rank, seed)
        done += pair.size_bytes
        if factored is None:
            unchanged += 1
            continue
        for path in pair.modules:
            lora.append(factored.as_lora(path, base.spec.modules[path]))
            told.append(factored.described(path))
    progress(Moved(_STAGE, done, total))
    if not lora:
        raise MergeError(
            "the fine-tune's weights are those of the base in every module that LoRA can adapt: "
            "there is nothing to extract; name the model that was tuned"
        )
    return _Found(tuple(lora), tuple(told), unchanged)


def _factor(pair: Pair, rank: int, seed: int) -> Factored | None:
    """None where the fine-tune's weight is the base's, or only its rounding to another type."""
    import torch

    if pair.base.dtype != pair.tuned.dtype and not compare(pair.base, pair.tuned).beyond_rounding:
        return None
    base = read_tensor(pair.base)
    difference = _difference(pair, base)
    if not difference.any():
        return None
    norm = float(torch.linalg.vector_norm(base, dtype=torch.float32))
    del base
    return factor(difference, norm, rank, seed)


def _difference(pair: Pair, base: "torch.Tensor") -> "torch.Tensor":
    """Of the two weights, in float32. Raises MergeError where it is not finite."""
    difference = read_tensor(pair.tuned).float().sub_(base)
    if not difference.isfinite().all():
        raise MergeError(
            f"{pair.modules[0]}: the base or the fine-tune holds NaN or infinity: it is damaged, "
            "or the training diverged"
        )
    return difference


def _write(
    found: _Found,
    sides: tuple[Side, Side],
    rank: int,
    out: Path,
    base_name: str | None,
    left_out: tuple[LeftOut, ...],
    started: float,
) -> Extracted:
    import torch

    base, tuned = (side.spec for side in sides)
    name = base_name or base.name
    template = own_template(base, tuned)
    recipe: dict[str, Any] = {
        "extract": {
            "fine_tune": tuned.name,
            "fine_tune_config_sha256": tuned.config_sha256,
            "rank": rank,
            "energy": round(found.energy, 6),
            "left_out": [one.name for one in left_out],
        }
    }
    profile = None if template is None else {"chat_template": template}
    metadata = made_metadata(base, name, recipe, profile=profile)
    adapter = write_modules(
        found.lora,
        out,
        name,
        base_modules=base.modules,
        metadata=metadata,
        dtype=torch.float32,
    )
    seconds = time.monotonic() - started
    told, unchanged = found.told, found.unchanged
    return Extracted(
        adapter, told, found.energy, unchanged, left_out, template is not None, seconds
    )
