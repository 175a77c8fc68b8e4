"""Does the load tester tell the truth? Asked of engines whose truth is known by their rule.

An engine that freezes, beside closed-loop testers; the knee of engines whose capacity is known;
memory over a million requests; and whether a run that is too fast for the tester says so. It is no
test: the report says of each claim whether it held, and the exit code is 0 either way.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, not as a module: the repository is not on the path.
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402

from benchmarks.sides import machine  # noqa: E402
from benchmarks.sides.peers import PeerMissing  # noqa: E402
from benchmarks.sides.processes import ChildFailed  # noqa: E402
from benchmarks.truths import freeze, knees  # noqa: E402
from benchmarks.truths.bound import RATES, verdict  # noqa: E402
from benchmarks.truths.cases import knee_cases  # noqa: E402
from benchmarks.truths.engines import served, start, wait  # noqa: E402
from benchmarks.truths.report import Results, claims, markdown  # noqa: E402

PARTS = ("freeze", "knee", "bound", "memory")


def main() -> int:
    """The exit code: 0 all was run, 130 ended by Ctrl-C; what was found until then is written."""
    options = _arguments()
    console = Console(stderr=True, highlight=False)
    machine.raise_file_limit()
    told = {name: value for name, value in vars(options).items() if name != "out"}
    results = Results(
        started_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        options=told,
        machine=machine.describe() | {"priority": machine.priority()},
        versions=machine.versions(),
    )
    parts: dict[str, Callable[[Path], None]] = {
        "freeze": lambda folder: _freeze(results, options, folder),
        "knee": lambda folder: _knee(results, options, folder, console),
        "bound": lambda folder: _bound(results, options, folder),
        "memory": lambda folder: _memory(results, options, folder),
    }
    try:
        with tempfile.TemporaryDirectory(prefix="loraplex-truth-") as folder:
            for name, part in parts.items():
                if name in options.only:
                    console.print(f"{name} ...")
                    part(Path(folder))
        results.partial = False
    except KeyboardInterrupt:
        console.print("ended by Ctrl-C")
    except ChildFailed as error:
        results.notes.append(str(error))
    _write(results, options.out, console)
    return 130 if results.partial else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART",
                        help=", ".join(PARTS))  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="about five minutes, less exact")
    parser.add_argument("--repeats", type=int, default=3, help="searches of each engine's knee")
    parser.add_argument("--probe-seconds", type=float, default=10.0)
    parser.add_argument("--freeze-seconds", type=float, default=60.0)
    parser.add_argument("--http-seconds", type=float, default=120.0)
    parser.add_argument("--requests", type=int, default=1_000_000, help="made-up ones")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.probe_seconds = 1, 4.0
        options.freeze_seconds, options.http_seconds, options.requests = 20.0, 20.0, 200_000
    return options


def _take_usual_priority() -> None:
    """For what takes all of the processor: at real time it would stop the machine's other work."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _freeze(results: Results, options: argparse.Namespace, folder: Path) -> None:
    seconds = options.freeze_seconds
    results.truth = freeze.truth_of(freeze.open_load(seconds))
    results.freeze.append(freeze.open_loop(folder, seconds))
    results.freeze += freeze.closed_loops(folder, seconds / 2)
    try:
        results.freeze.append(freeze.wrk(folder, seconds / 2))
    except PeerMissing as error:
        results.notes.append(f"{error}; it was left out")


def _bound(results: Results, options: argparse.Namespace, folder: Path) -> None:
    _take_usual_priority()
    for rate in RATES:
        with served(folder, "loadtest.fake_vllm", "--fast", "--port", "0") as url:
            results.bound.append(verdict(url, rate, 4.0 if options.quick else 10.0))


def _memory(results: Results, options: argparse.Namespace, folder: Path) -> None:
    _take_usual_priority()
    with served(folder, "loadtest.fake_vllm", "--fast", "--port", "0") as url:
        asked = {"http": (url, str(options.http_seconds)), "statistics": (str(options.requests),)}
        for name, arguments in asked.items():
            file = folder / f"{name}.json"
            module = "benchmarks.truths.memory"
            child = start(module, [name, *arguments, str(file)], folder / f"{name}.log")
            try:
                results.memory[name] = json.loads(wait(child, file, 1200.0))
            finally:
                child.stop()


def _knee(results: Results, options: argparse.Namespace, folder: Path, console: Console) -> None:
    results.cases = knee_cases()
    for one in knees.searches(folder, options.probe_seconds, options.repeats):
        results.knees.append(one)
        console.print(f"{one.case} {one.repeat + 1}: {one.rate}", markup=False)


def _write(results: Results, out: Path, console: Console) -> None:
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{results.started_at[:10]}-truth"
    file.with_suffix(".json").write_text(json.dumps(results.as_json(), indent=1) + "\n")
    file.with_suffix(".md").write_text(markdown(results) + "\n")
    for text, held in claims(results):
        console.print(f"{'held' if held else 'NOT HELD'}: {text}", markup=False)
    console.print(f"written: {file}.md, {file}.json", markup=False)


if __name__ == "__main__":
    sys.exit(main())
