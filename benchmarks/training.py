"""Tokens a second of `fit` beside a plain TRL SFTTrainer, with the same effective settings.

Timings are never a test: the report says what was measured and whether each claim held, and the
exit code is 0 either way.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, not as a module: the repository is not on the path.
sys.path.insert(0, str(ROOT))

import platformdirs  # noqa: E402
from rich.console import Console  # noqa: E402

from adapters_registry.models import resolve_model  # noqa: E402
from benchmarks.sides import machine  # noqa: E402
from benchmarks.training_rounds.report import (  # noqa: E402
    BASELINE,
    MEANINGS,
    Results,
    Window,
    claims,
    markdown,
)
from benchmarks.training_rounds.rows import mixed_rows  # noqa: E402
from training.fitting.job import FitJob, store  # noqa: E402
from training.recipe.recipe import AdapterPart, SchedulePart  # noqa: E402

_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate")
_STEP_ROWS = 16


class SideFailed(Exception):
    """A side that did not come to its end."""


def main() -> int:
    """The exit code: 0 measured, 1 a side failed, 130 ended by Ctrl-C."""
    options = _arguments()
    console = Console(stderr=True, highlight=False)
    base = resolve_model(
        options.base, platformdirs.user_cache_path("loraplex"), report=lambda *_: None
    )
    try:
        with tempfile.TemporaryDirectory(prefix="loraplex-benchmark-") as folder:
            windows = _measure(options, base, Path(folder), console)
    except SideFailed as error:
        console.print(str(error), markup=False)
        return 1
    except KeyboardInterrupt:
        return 130
    results = Results(
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=machine.describe(),
        versions={name: version(name) for name in _PACKAGES},
        settings=_settings(options),
        windows=windows,
    )
    _write(results, options.out, console)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="embedded", help="`embedded`, a folder or a Hub id")
    parser.add_argument(
        "--sides",
        nargs="+",
        choices=MEANINGS,
        default=[*MEANINGS],
        metavar="SIDE",
        help=f"{', '.join(MEANINGS)}; {BASELINE} is always measured",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6, help="of 16 rows; the first is not counted")
    parser.add_argument("--micro-batch-size", type=int, default=4, metavar="ROWS")
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--quick", action="store_true", help="one round of three steps")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    options.sides = list(dict.fromkeys([BASELINE, *options.sides]))
    if options.quick:
        options.rounds, options.steps = 1, 3
    return options


def _settings(options: argparse.Namespace) -> dict[str, str]:
    return {
        "base": Path(options.base).name,
        "rows a step": str(_STEP_ROWS),
        "rows a micro batch": str(options.micro_batch_size),
        "steps": str(options.steps),
        "adapter": "rank 16 on all linear layers",
        "dropout": str(options.dropout),
        "dtype": options.dtype,
    }


def _measure(
    options: argparse.Namespace, base: Path, folder: Path, console: Console
) -> list[Window]:
    windows = []
    for number in range(options.rounds):
        # In another order each time, so that nobody is always the first.
        turn = number % len(options.sides)
        for side in [*options.sides[turn:], *options.sides[:turn]]:
            job = _job(options, base, folder / f"{number}-{side}", side, seed=number)
            found = _run(job, side)
            made = Window(
                round=number,
                side=side,
                seconds=found["seconds"],
                tokens=found["tokens"],
                first_loss=found["losses"][0],
                last_loss=found["losses"][-1],
            )
            windows.append(made)
            console.print(f"round {number} {side}: {made.tokens_per_s:,.0f} tokens/s", markup=False)
    return windows


def _job(options: argparse.Namespace, base: Path, folder: Path, side: str, *, seed: int) -> FitJob:
    schedule = {
        "epochs": 1,
        "batch_size": _STEP_ROWS,
        "micro_batch_size": options.micro_batch_size,
        "batching": side if side in ("plain", "packed") else "grouped",
        "checkpoint_every_s": 1e6,
        "dtype": options.dtype,
    }
    job = FitJob(
        base=base,
        base_name="base",
        method="lora",
        adapter=AdapterPart(dropout=options.dropout),
        schedule=SchedulePart.model_validate(schedule),
        kind="chat",
        seed=seed,
        folder=folder,
    )
    store(job, mixed_rows(_STEP_ROWS * options.steps, seed), [])
    return job


def _run(job: FitJob, side: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.training_rounds.side", str(job.folder), side]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SideFailed(f"{side} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _write(results: Results, out: Path, console: Console) -> None:
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{results.at[:10]}-training"
    file.with_suffix(".json").write_text(json.dumps(results.as_json(), indent=1) + "\n")
    file.with_suffix(".md").write_text(markdown(results))
    for text, held in claims(results):
        console.print(f"{'held' if held else 'NOT HELD'}: {text}")
    console.print(f"written: {file}.md, {file}.json", markup=False)


if __name__ == "__main__":
    sys.exit(main())
