"""How `loraplex merge` looks: what was made of what, how equal it is, and what comes next."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loraplex.output import note, print_fields, print_json, print_line, size
from loraplex.stages import duration

if TYPE_CHECKING:  # the training module is loaded only by the command that needs it
    from training.merge.combine_to_folder import CombinedAdapter
    from training.merge.job import AdapterInput, Merged, MergeJob
    from training.merge.verify import Verification

_GATEWAYS_RANK = 16
"""The default of the setting `max_lora_rank`."""


def show_merged(
    merged: "Merged", base: str, adapters: "Sequence[AdapterInput]", *, as_json: bool
) -> None:
    """The result for a person, or as one JSON document."""
    if as_json:
        print_json(merged_fields(merged, base, adapters))
        return
    print_line(f"Merged {_named(adapters)} into {base}.")
    print_fields(
        [
            ("modules", f"{merged.modules} changed"),
            ("weights", f"{size(merged.size_bytes)} in {merged.dtype}"),
            ("tensors", f"{merged.changed} computed, {merged.copied} as in the base"),
            ("embeddings", _embeddings(merged)),
            ("time", _time(merged)),
            *_verification(merged.verification),
        ]
    )
    for text in _notes(merged):
        note(f"Note: {text}")
    print_line(f"Folder: {merged.folder}")
    print_line(f"Next:   loraplex serve --model {shlex.quote(str(merged.folder))}")


def merged_fields(
    merged: "Merged", base: str, adapters: "Sequence[AdapterInput]"
) -> dict[str, Any]:
    """The result for programs."""
    found = merged.verification
    return {
        "path": str(merged.folder),
        "base": base,
        "adapters": [{"name": one.name, "weight": one.weight} for one in adapters],
        "modules": merged.modules,
        "tensors": {"changed": merged.changed, "copied": merged.copied},
        "size_bytes": merged.size_bytes,
        "dtype": merged.dtype,
        "tied": merged.tied,
        "seconds": round(merged.seconds, 3),
        "resumed_shards": merged.resumed,
        "notes": list(_notes(merged)),
        "verification": None if found is None else asdict(found),
    }


def show_combined(combined: "CombinedAdapter", job: "MergeJob", *, as_json: bool) -> None:
    """The same of a new adapter."""
    adapter = combined.adapter
    if as_json:
        print_json(combined_fields(combined, job))
        return
    print_line(f"Combined {_named(job.adapters)} by {job.method.name}.")
    print_fields(
        [
            ("modules", len(adapter.ranks)),
            ("adapter", f"rank {adapter.rank}, {size(adapter.size_bytes)} in {combined.dtype}"),
            ("time", duration(combined.seconds)),
        ]
    )
    next_steps(adapter.folder, adapter.rank)


def combined_fields(combined: "CombinedAdapter", job: "MergeJob") -> dict[str, Any]:
    """The result for programs."""
    adapter = combined.adapter
    return {
        "path": str(adapter.folder),
        "base": job.base_name,
        "adapters": [{"name": one.name, "weight": one.weight} for one in job.adapters],
        "method": asdict(job.method),
        "modules": len(adapter.ranks),
        "rank": adapter.rank,
        "dtype": combined.dtype,
        "size_bytes": adapter.size_bytes,
        "seconds": round(combined.seconds, 3),
    }


def next_steps(folder: Path, rank: int) -> None:
    """What to do with a new adapter."""
    print_line(f"Folder: {folder}")
    if rank > _GATEWAYS_RANK:
        note(
            f"Note: a gateway takes rank {_GATEWAYS_RANK} at most unless it is started with "
            "--max-lora-rank"
        )
    print_line(f"Next:   loraplex adapters push TENANT/ADAPTER {shlex.quote(str(folder))}")


def _named(adapters: "Sequence[AdapterInput]") -> str:
    return ", ".join(
        one.name if one.weight == 1 else f"{one.name} (weight {one.weight:g})" for one in adapters
    )


def _embeddings(merged: "Merged") -> str:
    return "one tensor for input and output" if merged.tied else "input and output apart"


def _time(merged: "Merged") -> str:
    took = duration(merged.seconds)
    if not merged.resumed:
        return took
    return f"{took}, {merged.resumed} files were whole from the run before"


def _verification(found: "Verification | None") -> list[tuple[str, object]]:
    from training.merge.card import verification_figures

    if found is None:
        return [("verified", "no (--no-verify)")]
    figures = verification_figures(found)
    return [("verified", "it answers as base and adapters do"), *figures.items()]


def _notes(merged: "Merged") -> tuple[str, ...]:
    verification = merged.verification
    return merged.notes + (verification.notes if verification else ())
