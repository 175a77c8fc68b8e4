"""A merge from end to end: adapters become part of a base's weights, in a new folder."""

import errno
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import Interrupted, MergeError
from training.merge.adapter_writer import write_modules
from training.merge.card import model_card
from training.merge.finish import CARD_FILE, finish, travelling_bytes
from training.merge.job import Merged, MergeJob, MergeProgress, Moved, unseen
from training.merge.prepared import Prepared, prepare
from training.merge.shards import write_shards
from training.merge.tensors import Output
from training.merge.work_folder import WorkFolder, open_work

if TYPE_CHECKING:
    from training.merge.verify import Verification

READING = "reading base and adapters"
RESUMING = "checking what an earlier run left"
MERGING = "merging"
VERIFYING = "verifying"

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_ANEW = (
    "An earlier merge into this folder was stopped, of another base, adapter or option; what it "
    "had left was removed."
)


def merge(job: MergeJob, progress: MergeProgress = unseen) -> Merged:
    """Makes `job.out`, which appears when all of it is written, on the disk, and verified.

    Killed or stopped at any point, the same job goes on with the files that are whole by then.
    Raises MergeError, and Interrupted after Ctrl-C. Imports torch.
    """
    started = time.monotonic()
    with open_work(job.out) as work, _explained(job, work):
        progress(Moved(READING))
        found = prepare(job)
        _check_verifiable(job, found)
        same = work.resume(
            found.fingerprint, lambda done, total: progress(Moved(RESUMING, done, total))
        )
        resumed = len(work.kept)
        _check_space(job, found, work)
        _write(job, found, work, progress)
        finish(job.base, work.model, found.shards, found.config)
        verification = _verified(job, found, work, progress)
        _write_card(job, found, work, verification)
        found.checkpoint.check_unchanged()
        work.publish(job.out)
    changed = sum(_is_changed(output, found) for output in found.plan.outputs)
    return Merged(
        folder=job.out,
        changed=changed,
        copied=len(found.plan.outputs) - changed,
        modules=len(found.plan.matched),
        size_bytes=found.weight_bytes,
        seconds=time.monotonic() - started,
        dtype=found.dtype,
        tied=found.tied,
        notes=found.notes if same else (*found.notes, _ANEW),
        verification=verification,
        resumed=resumed,
    )


def begin_loading() -> None:
    """Loads torch in a thread, for a caller that first waits for other processes."""
    threading.Thread(target=_load_torch, name="merge-load").start()


def _load_torch() -> None:
    with suppress(ImportError):  # told by what needs it
        import torch  # noqa: F401


def _is_changed(output: Output, found: Prepared) -> bool:
    return output.update is not None or output.source.file not in found.checkpoint.files


def _check_space(job: MergeJob, found: Prepared, work: WorkFolder) -> None:
    missing = sum(shard.size_bytes for shard in found.shards if shard.name not in work.kept)
    needed = missing + travelling_bytes(job.base)
    free = shutil.disk_usage(work.path).free
    if free < needed:
        raise MergeError(
            f"the disk of {job.out} has {_size(free)} free, and {_size(needed)} will be written: "
            "free some of it, or name a folder on another disk with --out"
        )


def _write(job: MergeJob, found: Prepared, work: WorkFolder, progress: MergeProgress) -> None:
    kept = (shard.weight_bytes for shard in found.shards if shard.name in work.kept)
    done = sum(kept)

    def moved(count: int) -> None:
        nonlocal done
        done += count
        progress(Moved(MERGING, done, found.weight_bytes))

    progress(Moved(MERGING, done, found.weight_bytes))
    write_shards(
        found.shards,
        work,
        found.checkpoint,
        compute=job.compute,
        threads=_torch_threads(job, found),
        moved=moved,
    )


def _torch_threads(job: MergeJob, found: Prepared) -> int | None:
    """One for sums, which keep up with the disk: more would wait, spinning, for cores that reading
    and writing have. All for what takes long: SVD and the quantization of whole weights."""
    factored = len(job.adapters) > 1 and job.method.cuts_rank
    return None if factored or found.quantized is not None else 1


def _verified(
    job: MergeJob, found: Prepared, work: WorkFolder, progress: MergeProgress
) -> "Verification | None":
    """Raises MergeError where the merged model does not answer as base and adapters do."""
    if not job.verify:
        return None
    from training.merge.verify import verify

    progress(Moved(VERIFYING))
    adapter, weight = job.adapters[0].folder, job.adapters[0].weight
    if len(job.adapters) > 1:
        adapter, weight = _as_folder(job, found, work), 1.0
    verification = verify(
        job.base,
        adapter,
        work.model,
        quantization=None if found.quantized is None else found.quantized.kind,
        weight=weight,
        tolerance=job.tolerance,
        probes=job.probes,
        progress=lambda stage, _fraction: progress(Moved(f"{VERIFYING}, {stage}")),
    )
    if not verification.passed:
        raise MergeError(_not_equal(job, work, verification))
    return verification


def _check_verifiable(job: MergeJob, found: Prepared) -> None:
    """Before hours of work: a folder of several adapters made one has no place for the rest."""
    if job.verify and len(job.adapters) > 1 and (found.source.saved or found.source.tokens):
        raise MergeError(
            "adapters that carry whole tensors (modules_to_save, trained biases or tokens) cannot "
            "be verified together: merge one after the other, or run with --no-verify"
        )


def _as_folder(job: MergeJob, found: Prepared, work: WorkFolder) -> Path:
    """Several adapters as the one that they were merged as, for PEFT to load."""
    import torch

    modules = (found.source.load(path) for path in found.source.paths)
    return write_modules(
        modules,
        work.scratch,
        job.base_name,
        base_modules=found.spec.modules,
        metadata={},
        dtype=torch.float32,
    ).folder


def _not_equal(job: MergeJob, work: WorkFolder, verification: "Verification") -> str:
    return (
        f"the merged model does not answer as base and adapters do: {verification.problem}. "
        f"{job.out} was not made; {work.path} holds what was written, which the same command with "
        "--tolerance or --no-verify takes as it is"
    )


def _write_card(
    job: MergeJob, found: Prepared, work: WorkFolder, verification: "Verification | None"
) -> None:
    card = model_card(
        job,
        found.spec,
        found.adapters,
        dtype=found.dtype,
        notes=found.notes,
        verification=verification,
    )
    (work.model / CARD_FILE).write_text(card, encoding="utf-8")


@contextmanager
def _explained(job: MergeJob, work: WorkFolder) -> Iterator[None]:
    """What the disk or a person ended is told with the way to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"the merge was stopped: {_way_on(work)}") from error
    except OSError as error:
        if error.errno in _FULL:
            reason = f"the disk of {job.out} is full: free some of it"
        else:
            reason = f"{job.out} cannot be written ({error}): mend that"
        raise MergeError(f"{reason}, and {_way_on(work)}") from error


def _way_on(work: WorkFolder) -> str:
    count = len(work.kept)
    kept = "" if count == 0 else f", which keeps what is whole ({count} of the weights files)"
    return f"run the same command again{kept}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"
