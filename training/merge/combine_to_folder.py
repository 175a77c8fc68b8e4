"""Adapters combined into one new adapter, which can be served and pushed as any other."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapters_registry.base_model import BaseModelSpec, load_spec
from adapters_registry.errors import ModelError
from training.errors import MergeError
from training.merge.adapter_folder import AdapterFolder, open_adapter
from training.merge.adapter_writer import WrittenAdapter, check_free, write_modules
from training.merge.base_match import check_base
from training.merge.combine import Combined, CombineMethod, combine
from training.merge.job import MergeJob, MergeProgress, Moved, unseen
from training.merge.lora import LoraModule
from training.merge.made_lineage import made_metadata

if TYPE_CHECKING:  # seconds to import
    import torch

_STAGE = "combining"


@dataclass(frozen=True, slots=True)
class CombinedAdapter:
    """A finished combination. dtype: of its weights, as `bfloat16`."""

    adapter: WrittenAdapter
    dtype: str
    seconds: float


def combine_to_folder(job: MergeJob, progress: MergeProgress = unseen) -> CombinedAdapter:
    """Make in `job.out` one adapter out of the job's, by its method.

    Of the base only the description is needed, no weights. The new weights have the type that all
    adapters share, float32 where they differ, or the one that the job names; they are computed in
    float32. metadata.json tells the method, and each adapter's digest and lineage.
    Raises MergeError for adapters that are of another base or that the method has no meaning for,
    and for an `out` that is there.
    """
    started = time.monotonic()
    check_free(job.out)
    base = _describe(job)
    folders = [open_adapter(one.folder) for one in job.adapters]
    for folder in folders:
        check_base(folder, base)
    weights = [one.weight for one in job.adapters]
    combined = combine(list(zip(folders, weights, strict=True)), job.method)
    _check_fit(combined, base)
    dtype = _dtype(job, combined)
    adapter = write_modules(
        _loaded(combined, progress),
        job.out,
        job.base_name,
        base_modules=base.modules,
        metadata=_metadata(job, base, folders),
        dtype=dtype,
    )
    return CombinedAdapter(adapter, str(dtype).removeprefix("torch."), time.monotonic() - started)


def _describe(job: MergeJob) -> BaseModelSpec:
    try:
        return load_spec(job.base, job.cache_dir)
    except ModelError as error:
        raise MergeError(f"the base model {job.base}: {error.message}") from error


def _check_fit(combined: Combined, base: BaseModelSpec) -> None:
    """Raises MergeError for what an adapter cannot carry, and for another base's modules."""
    for name in (*combined.saved, *combined.tokens):
        raise MergeError(
            f"{name} is carried whole (modules_to_save, a trained bias, or trained tokens), which "
            "no adapter that is served can hold: merge into a model, without --as-adapter"
        )
    for path, shape in combined.shapes.items():
        spec = base.modules.get(path)
        if spec is None:
            raise MergeError(f"{path}: the base has no such module: name the adapters' own base")
        found = shape.kind, shape.out_features, shape.in_features
        if found != (spec.kind, spec.out_features, spec.in_features):
            raise MergeError(
                f"{path}: the adapters are made for {shape.out_features} by {shape.in_features} "
                f"({shape.kind}), and the base has {spec.out_features} by {spec.in_features} "
                f"({spec.kind}): name the adapters' own base"
            )


def _dtype(job: MergeJob, combined: Combined) -> "torch.dtype":
    import torch

    named = {
        "base": combined.dtype,
        "float32": torch.float32,
        "float16": torch.float16,
        "bfloat16": torch.bfloat16,
    }
    return named[job.dtype]


def _loaded(combined: Combined, progress: MergeProgress) -> Iterator[LoraModule]:
    """The modules one by one. What is told are the bytes of their updates made whole."""
    sizes = {path: 4 * s.out_features * s.in_features for path, s in combined.shapes.items()}
    done, total = 0, sum(sizes.values())
    for path in combined.paths:
        progress(Moved(_STAGE, done, total))
        yield combined.load(path)
        done += sizes[path]
    progress(Moved(_STAGE, done, total))


def _metadata(
    job: MergeJob, base: BaseModelSpec, folders: Sequence[AdapterFolder]
) -> dict[str, Any]:
    made_of = [
        {
            "name": asked.name or asked.folder.name,
            "weight": asked.weight,
            "sha256": folder.sha256,
            "lineage": folder.lineage.model_dump(mode="json", exclude_defaults=True),
        }
        for asked, folder in zip(job.adapters, folders, strict=True)
    ]
    recipe = {"combine": {"method": _stated(job.method), "adapters": made_of}}
    lineages = [folder.lineage for folder in folders]
    return made_metadata(base, job.base_name, recipe, made_of=lineages)


def _stated(method: CombineMethod) -> dict[str, Any]:
    """The options that the method takes."""
    said: dict[str, Any] = {"name": method.name}
    if method.rank is not None:
        said["rank"] = method.rank
    if method.density is not None:
        said["density"] = method.density
    if "ties" in method.name:
        said["sign"] = method.sign
    if method.draws or method.cuts_rank:
        said["seed"] = method.seed
    return said
