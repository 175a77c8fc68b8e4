"""One merge as the command runs it: model and adapters fetched, the work done, the result shown."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loraplex.adapter_source import Told, fetch_adapter
from loraplex.cache import cache_dir
from loraplex.errors import UsageError
from loraplex.merge_options import WeightedSource
from loraplex.merge_view import show_combined, show_merged
from loraplex.stages import Stages, stages_with_bytes
from loraplex.train import errors_of_training

if TYPE_CHECKING:  # the training module is loaded only by the command that needs it
    from training.merge.combine import CombineMethod
    from training.merge.job import (
        AdapterInput,
        BaseQuantization,
        ComputeDtype,
        MergeJob,
        MergeProgress,
        OutputDtype,
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command was called with, checked one by one."""

    base: str
    adapters: tuple[WeightedSource, ...]
    out: Path
    method: "CombineMethod"
    dtype: "OutputDtype"
    compute: "ComputeDtype"
    max_shard_bytes: int
    base_quantization: "BaseQuantization"
    verify: bool
    tolerance: float | None
    probes: tuple[str, ...] | None
    url: str | None
    key: str | None


def run_merge(asked: Asked, *, as_json: bool) -> None:
    """Makes the model. Raises CommandError."""
    from training.merge.merge import begin_loading, merge

    check_new(asked.out)
    begin_loading()
    with errors_of_training():
        with stages_with_bytes() as stages, _job(asked, stages, weights=True) as job:
            merged = merge(job, as_progress(stages))
        show_merged(merged, job.base_name, job.adapters, as_json=as_json)


def run_combine(asked: Asked, *, as_json: bool) -> None:
    """Makes one new adapter. Raises CommandError."""
    from training.merge.combine_to_folder import combine_to_folder

    check_new(asked.out)
    with errors_of_training():
        with stages_with_bytes() as stages, _job(asked, stages, weights=False) as job:
            combined = combine_to_folder(job, as_progress(stages))
        show_combined(combined, job, as_json=as_json)


def check_new(out: Path) -> None:
    """Before minutes of work: nothing will be overwritten."""
    if out.exists() or out.is_symlink():
        raise UsageError(f"--out: {out} is there already; name a new folder")


def as_progress(stages: Stages) -> "MergeProgress":
    """What a merge tells, shown."""
    return lambda moved: stages.moved(moved.stage, moved.done_bytes, moved.total_bytes)


def name_of(base: Path, told: Told) -> str:
    """What the base is called wherever the result goes: its Hub id, or its folder's last name."""
    from adapters_registry.base_model import load_spec

    told("describing the base", None)
    return load_spec(base, cache_dir()).name


@contextmanager
def _job(asked: Asked, told: Told, *, weights: bool) -> "Iterator[MergeJob]":
    """With the base and the adapters as folders, those from the registry for as long as it runs."""
    from adapters_registry.models import resolve_model
    from training.merge.job import MergeJob

    _check_connection(asked)
    cache = cache_dir()
    base = resolve_model(asked.base, cache, report=told, weights=weights)
    with tempfile.TemporaryDirectory(prefix="loraplex-merge-") as aside:
        yield MergeJob(
            base=base,
            base_name=name_of(base, told),
            adapters=tuple(_inputs(asked, Path(aside), told)),
            out=asked.out,
            cache_dir=cache,
            method=asked.method,
            dtype=asked.dtype,
            compute=asked.compute,
            max_shard_bytes=asked.max_shard_bytes,
            base_quantization=asked.base_quantization,
            verify=asked.verify,
            tolerance=asked.tolerance,
            probes=asked.probes,
        )


def _inputs(asked: Asked, aside: Path, told: Told) -> "Iterator[AdapterInput]":
    from training.merge.job import AdapterInput

    for number, one in enumerate(asked.adapters):
        # Messages and notes call an adapter by its folder.
        folder = aside / str(number) / str(one.source).replace("/", "-")
        files = fetch_adapter(one.source, folder, url=asked.url, key=asked.key, told=told)
        yield AdapterInput(files.folder, one.weight, files.name)


def _check_connection(asked: Asked) -> None:
    given = asked.url is not None or asked.key is not None
    if given and all(isinstance(one.source, Path) for one in asked.adapters):
        raise UsageError("--url and --key go with --adapter TENANT/ADAPTER")
