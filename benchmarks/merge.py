"""`loraplex merge` beside PEFT and mergekit: time, peak of memory, disk, and the error of each.

Makes a base and an adapter of each size, merges them with every side in fresh processes, compares
the results with a sum in float64, and removes them. mergekit comes from PyPI into a virtual
environment in the user's cache folder. Timings are never a test: the report says what was measured
and whether each claim held, and the exit code is 0 either way.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, not as a module: the repository is not on the path.
sys.path.insert(0, str(ROOT))

import platformdirs  # noqa: E402
from rich.console import Console  # noqa: E402

from benchmarks.merging import sides  # noqa: E402
from benchmarks.merging.bench import Bench  # noqa: E402
from benchmarks.merging.report import markdown  # noqa: E402
from benchmarks.merging.results import Results, claims  # noqa: E402
from benchmarks.merging.shapes import shape_of  # noqa: E402
from benchmarks.merging.watched import CommandFailed  # noqa: E402
from benchmarks.sides import machine, peers  # noqa: E402

_SIZES, _COMPARED, _ROUNDS = [2.0, 4.0, 8.0], 4.0, 3
_QUICK_SIZES, _QUICK_COMPARED = [0.4, 0.8], 0.4
_SPARE_BYTES = 2_000_000_000


def main() -> int:
    """The exit code: 0 measured, 1 something is missing or failed, 130 ended by Ctrl-C."""
    options = _arguments()
    console = Console(stderr=True, highlight=False)
    options.work_dir.mkdir(parents=True, exist_ok=True)
    if problems := [*_problems(options)]:
        for problem in problems:
            console.print(problem, markup=False)
        return 1
    results = _results(options)
    for side in [*options.sides]:
        try:
            sides.prepare(side)
        except peers.PeerMissing as missing:
            results.notes.append(str(missing))
            options.sides.remove(side)
    results.versions = sides.versions(options.sides) | results.versions
    code = _measure(options, results, console)
    _write(results, options.out, console)
    return code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of 0.4 and 0.8 GB")
    parser.add_argument("--sizes", type=float, nargs="+", metavar="GB", help="[2 4 8]")
    parser.add_argument(
        "--compared", type=float, metavar="GB", help="where the peers merge too [4, or the least]"
    )
    parser.add_argument("--rounds", type=int, help=f"[{_ROUNDS}]")
    parser.add_argument(
        "--sides",
        nargs="+",
        choices=sides.SIDES,
        default=[*sides.SIDES],
        metavar="SIDE",
        help=f"{', '.join(sides.SIDES)}; {sides.OURS} is always measured",
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=platformdirs.user_cache_path("loraplex") / "benchmarks" / "merging",
        metavar="DIR",
        help="where bases and results lie meanwhile [the user's cache folder]",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    options = parser.parse_args()
    options.sides = list(dict.fromkeys([sides.OURS, *options.sides]))
    options.sizes = options.sizes or (_QUICK_SIZES if options.quick else _SIZES)
    options.rounds = options.rounds or (1 if options.quick else _ROUNDS)
    usual = _QUICK_COMPARED if options.quick else _COMPARED
    options.compared = options.compared or (usual if usual in options.sizes else options.sizes[0])
    if options.compared not in options.sizes:
        parser.error("--compared must be one of --sizes")
    return options


def _problems(options: argparse.Namespace) -> Iterator[str]:
    if sys.platform != "linux":
        yield "the benchmark reads /proc: it needs Linux"
    # The base, its copy, and the one that mergekit makes on the way.
    needed = max(2 * max(options.sizes), 3 * options.compared) * 1e9 + _SPARE_BYTES
    free = shutil.disk_usage(options.work_dir).free
    if free < needed:
        yield f"{options.work_dir} has {free / 1e9:.0f} GB free and {needed / 1e9:.0f} are needed"


def _results(options: argparse.Namespace) -> Results:
    shape = shape_of(options.compared * 1e9)
    return Results(
        command=shlex.join(["python", "benchmarks/merge.py", *sys.argv[1:]]),
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=machine.describe() | {"load before": f"{os.getloadavg()[0]:.1f}"},
        versions={name: machine.versions()[name] for name in ("Python", "loraplex", "commit")},
        sizes=options.sizes,
        compared=options.compared,
        shape={
            "layers": shape.layers,
            "hidden": shape.hidden,
            "intermediate": shape.intermediate,
            "vocabulary": shape.vocab,
        },
        largest_bytes=shape.largest_bytes(),
    )


def _measure(options: argparse.Namespace, results: Results, console: Console) -> int:
    # SIGTERM as Ctrl-C: what was started is ended, what was made removed, what was measured kept.
    for number in signal.SIGINT, signal.SIGTERM:
        signal.signal(number, signal.default_int_handler)

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    try:
        with tempfile.TemporaryDirectory(prefix="run-", dir=options.work_dir) as folder:
            Bench(results, Path(folder), options.sides, options.rounds, say).run()
    except CommandFailed as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        say("ended early: what was measured is kept")
        return 130
    results.partial = False
    return 0


def _write(results: Results, out: Path, console: Console) -> None:
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{results.at[:10]}-merge"
    file.with_suffix(".json").write_text(json.dumps(results.as_json(), indent=1) + "\n")
    file.with_suffix(".md").write_text(markdown(results))
    for one in claims(results):
        console.print(str(one).replace("**", ""), markup=False, soft_wrap=True)
    console.print(f"written: {file}.md, {file}.json", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
