"""Copies, contradictions and leaks among many rows: how long, how much memory, how many found.

Every size is measured in a process of its own. Timings are never a test: the report says of each
claim whether it held, and the exit code is 0 either way.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, not as a module: the repository is not on the path.
sys.path.insert(0, str(ROOT))

from benchmarks.deduping.planted import TWINS, Made, make, write  # noqa: E402
from benchmarks.sides import machine  # noqa: E402
from training.data.check import Checked, check  # noqa: E402
from training.data.readers import read_rows  # noqa: E402

_CLAIM_ROWS, _CLAIM_S = 100_000, 60.0


def main() -> int:
    """The exit code: 0 measured, 130 ended by Ctrl-C."""
    options = _arguments()
    try:
        sizes = [_in_child(size) for size in options.sizes]
    except KeyboardInterrupt:
        return 130
    results = {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "sizes": sizes,
    }
    _write(results, options.out)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 rows alone")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    if options.quick:
        options.sizes = options.sizes[:1]
    return options


def _in_child(rows: int) -> dict[str, Any]:
    """Measured in a new process, so that its peak of memory is its own."""
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:  # the rows are made in another process than they are read in
            pool.apply(_make, (rows, folder))
        with context.Pool(1) as pool:
            measured, groups = pool.apply(_measure, (folder,))
    made = make(rows)
    found = {"rows": rows, **measured, **_judge(made, groups)}
    print(json.dumps(found))
    return found


def _make(rows: int, folder: str) -> None:
    write(make(rows), Path(folder))


def _measure(folder: str) -> tuple[dict[str, Any], list[int]]:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, cpu_started = time.monotonic(), time.process_time()
    files = {name: read_rows(Path(folder) / f"{name}.jsonl") for name in ("train", "test")}
    read_s = time.monotonic() - started
    checked: Checked = check(files)
    measured = {
        "read_s": round(read_s, 2),
        "total_s": round(time.monotonic() - started, 2),
        "cpu_s": round(time.process_time() - cpu_started, 2),
        "file_mib": round(sum(f.stat().st_size for f in Path(folder).iterdir()) / 2**20, 1),
        "imported_mib": round(before_kib / 1024, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "leaks": [leak.model_dump() for leak in checked.report.leaks],
        "repeats": checked.report.repeats.model_dump(),
    }
    return measured, checked.similar.groups.tolist()


def _judge(made: Made, groups: list[int]) -> dict[str, Any]:
    """Recall of each kind; precision: of rows that were found, those that were planted."""
    found, planted = Counter[str](), Counter[str]()
    true_rows: set[int] = set()
    for one in made.planted:
        planted[one.kind] += 1
        found[one.kind] += groups[one.row] == groups[one.origin]
        if one.kind not in TWINS:
            true_rows |= {one.row, one.origin}
    sizes = Counter(groups)
    flagged = [row for row, group in enumerate(groups) if sizes[group] > 1]
    right = sum(row in true_rows for row in flagged)
    kinds = {kind: found[kind] / planted[kind] for kind in planted}
    copies = [kind for kind in planted if kind not in TWINS]
    return {
        "kinds": kinds,
        "recall": sum(found[k] for k in copies) / sum(planted[k] for k in copies),
        "precision": right / max(1, len(flagged)),
        "flagged": len(flagged),
    }


def _claims(sizes: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    claims = []
    for one in sizes:
        if one["rows"] == _CLAIM_ROWS:
            claims.append(
                (
                    f"100,000 rows take {one['total_s']:.0f} s: under a minute",
                    one["total_s"] < _CLAIM_S,
                )
            )
    if len(sizes) > 1:
        first, last = sizes[0], sizes[-1]
        added = last["peak_mib"] - first["peak_mib"]
        rows = last["rows"] - first["rows"]
        each = added * 1024 / rows
        claims.append((f"memory grows by {each:.2f} KiB a row: at most 2", each <= 2))
    worst = min(one["recall"] for one in sizes)
    claims.append((f"recall {worst:.3f}: at least 0.98", worst >= 0.98))
    worst = min(one["precision"] for one in sizes)
    claims.append((f"precision {worst:.3f}: at least 0.98", worst >= 0.98))
    return claims


def _write(results: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{results['at'][:10]}-dedupe"
    claims = _claims(results["sizes"])
    file.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    file.with_suffix(".md").write_text(_markdown(results, claims))
    for text, held in claims:
        print(f"{'held' if held else 'NOT HELD'}: {text}")
    print(f"written: {file}.md, {file}.json")


def _markdown(results: dict[str, Any], claims: list[tuple[str, bool]]) -> str:
    sizes = results["sizes"]
    kinds = [*sizes[0]["kinds"]]
    lines = [
        "# Copies and leaks among many rows",
        "",
        f"{results['at']}, {results['machine']['processor']}, {results['machine']['cores']} cores,"
        f" commit {results['versions']['commit']}.",
        "",
        *(f"- {'held' if held else '**NOT HELD**'}: {text}" for text, held in claims),
        "",
        "| rows | file MiB | read s | in all s | CPU s | peak MiB | of it imports | recall"
        " | precision |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {one['rows']:,} | {one['file_mib']} | {one['read_s']} | {one['total_s']} |"
            f" {one['cpu_s']} | {one['peak_mib']} | {one['imported_mib']} | {one['recall']:.4f} |"
            f" {one['precision']:.4f} |"
            for one in sizes
        ),
        "",
        "The part of the planted rows that was put together with the row that it was made from;"
        " of twins, which are other questions, none should be:",
        "",
        "| planted | " + " | ".join(f"{one['rows']:,} rows" for one in sizes) + " |",
        "|---|" + "---:|" * len(sizes),
        *(
            f"| {kind} | " + " | ".join(f"{one['kinds'][kind]:.4f}" for one in sizes) + " |"
            for kind in kinds
        ),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
