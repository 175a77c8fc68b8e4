"""One noisy tenant floods while others keep to their share: what do they feel of it?

Through the gateway, LiteLLM, vllm-router, and none, on a fake engine with few places. Timings are
never a test: the report says whether each claim held, and the exit code is 0 either way.
"""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, not as a module: the repository is not on the path.
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402

from benchmarks.serving.interrupts import take_as_ctrl_c  # noqa: E402
from benchmarks.serving.window import WindowFailed, load, models_of, request_kind  # noqa: E402
from benchmarks.serving.writing import write_results  # noqa: E402
from benchmarks.sharing import gateway_side  # noqa: E402
from benchmarks.sharing.report import markdown  # noqa: E402
from benchmarks.sharing.results import (  # noqa: E402
    FIFO,
    NOISY,
    OURS,
    Results,
    capacity,
    claims,
    window,
)
from benchmarks.sides import machine, peers  # noqa: E402
from benchmarks.sides.engine import Engine  # noqa: E402
from benchmarks.sides.litellm import LiteLlm  # noqa: E402
from benchmarks.sides.processes import ChildFailed  # noqa: E402
from benchmarks.sides.side import Direct, Side  # noqa: E402
from benchmarks.sides.vllm_router import VllmRouter  # noqa: E402
from loadtest.samples import Sample  # noqa: E402
from loadtest.statistics.goodput import parse_slo  # noqa: E402

_PEERS: dict[str, type[Side]] = {
    Direct.name: Direct,
    VllmRouter.name: VllmRouter,
    LiteLlm.name: LiteLlm,
}
_SIDES = [OURS, *_PEERS]
_FULL = {"seconds": 25.0, "sides": _SIDES}
_QUICK = {"seconds": 6.0, "sides": [OURS, FIFO]}


@dataclass(frozen=True)
class Opened:
    """A side that answers: where, as what, and for whom."""

    url: str
    model: str
    keys: Mapping[str, str]
    stop: Callable[[], None]


class Bench:
    """Every side in turn, quiet first, then beside the noisy tenant; one engine for all."""

    def __init__(
        self, options: argparse.Namespace, folder: Path, results: Results, console: Console
    ) -> None:
        self._options = options
        self._folder = folder
        self._results = results
        self._console = console
        self._victims = [f"tenant-{number}" for number in range(1, options.victims + 1)]

    def run(self) -> None:
        """Raises ChildFailed, WindowFailed and KeyboardInterrupt."""
        load_core, proxy_core = machine.cores()
        os.sched_setaffinity(0, {load_core})
        options = self._options
        flags = ["--max-num-seqs", str(options.places), "--max-loras", "64"]
        flags += ["--first-token-time-s", str(options.first_token_ms / 1e3)]
        engine = Engine(self._folder, load_core, flags)
        try:
            for side in options.sides:
                self._console.print(side)
                engine.set_pace(0)
                opened = self._open(side, engine, proxy_core)
                try:
                    engine.set_pace(options.token_ms / 1e3)
                    self._window(side, opened, noisy=False)
                    self._window(side, opened, noisy=True)
                finally:
                    opened.stop()
        finally:
            engine.stop()

    def _open(self, name: str, engine: Engine, core: int) -> Opened:
        folder = self._folder / name
        folder.mkdir()
        if name == OURS:
            tenants = [*self._victims, NOISY]
            gateway, keys = gateway_side.start(engine, folder, core, tenants)
            self._results.versions[name] = machine.versions()
            return Opened(gateway.url, gateway_side.ADAPTER, keys, gateway.stop)
        side = _PEERS[name]()
        side.prepare()
        self._results.versions[name] = side.versions()
        running = side.start(engine, folder, [core])
        target = running.target
        key = target.headers.get("authorization", "").removeprefix("Bearer ")
        keys = {tenant: key for tenant in [*self._victims, NOISY] if key}
        return Opened(target.url, target.model, keys, running.stop)

    def _window(self, side: str, opened: Opened, *, noisy: bool) -> None:
        samples: list[Sample] = []
        objective = parse_slo(f"ttft={self._options.objective_ms:g}ms")
        tenants = len(self._victims) + noisy
        summary, outcome = load(
            self._workload(opened.model, noisy=noisy),
            opened.url,
            opened.keys,
            apart=tenants,
            slo=objective,
            each=samples.append,
        )
        found = window(side, samples, summary, noisy=noisy, bound=outcome.tester.bound)
        self._results.windows.append(found)
        self._console.print(
            f"  {'with' if noisy else 'without'} noisy: the others' TTFT p95"
            f" {found.victims_ttft_p95_ms or float('nan'):,.0f} ms, {found.victims_failed} refused"
        )
        if found.tester_bound:
            self._results.notes.append(f"{side}: bound by the load tester")

    def _workload(self, model: str, *, noisy: bool) -> dict[str, object]:
        options = self._options
        weights = dict.fromkeys(self._victims, options.victim_rate)
        if noisy:
            weights[NOISY] = options.noisy_rate
        named: list[tuple[str, str | None]] = [(model, tenant) for tenant in weights]
        parts = models_of(named)
        for entry in parts["models"]:
            entry["weight"] = weights[entry["tenant"]]
        stage = {"rate": sum(weights.values()), "seconds": options.seconds}
        return {
            "seed": 1,
            "arrivals": {"kind": "poisson", "stages": [stage]},
            "mix": request_kind(options.prompt_tokens, options.answer_tokens),
            **parts,
        }


def main() -> int:
    """The exit code: 0 measured, 1 something failed, 130 ended by Ctrl-C."""
    options = _arguments()
    console = Console(stderr=True, highlight=False)
    if problem := machine.problem():
        console.print(problem)
        return 1
    machine.raise_file_limit()
    results = _results(options)
    take_as_ctrl_c()
    code = 0
    with tempfile.TemporaryDirectory(prefix="loraplex-benchmark-") as name:
        try:
            Bench(options, Path(name), results, console).run()
            results.partial = False
        except (ChildFailed, WindowFailed, peers.PeerMissing) as error:
            console.print(str(error), markup=False)
            results.notes.append(f"ended early: {str(error).splitlines()[0]}")
            code = 1
        except KeyboardInterrupt:
            console.print("ended early: what was measured is kept")
            code = 130
    _write(results, options.out, console)
    return code


def _results(options: argparse.Namespace) -> Results:
    names = ["victims", "victim_rate", "noisy_rate", "seconds", "places"]
    names += ["first_token_ms", "token_ms", "prompt_tokens", "answer_tokens", "objective_ms"]
    return Results(
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=shlex.join(["python", "benchmarks/fairness.py", *sys.argv[1:]]),
        machine=machine.describe(),
        settings={name: getattr(options, name) for name in names},
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the gateway and none, short windows")
    parser.add_argument(
        "--sides", nargs="+", choices=_SIDES, metavar="SIDE", help=f"{', '.join(_SIDES)}"
    )
    parser.add_argument("--seconds", type=float, help="of sending, in each window [25]")
    parser.add_argument("--victims", type=int, default=4, help="tenants that keep to their share")
    parser.add_argument("--victim-rate", type=float, default=0.5, help="of each, a second [0.5]")
    parser.add_argument("--noisy-times", type=float, default=2.0, help="the engine's capacity [2]")
    parser.add_argument("--places", type=int, default=8, help="calls in one batch [8]")
    parser.add_argument("--first-token-ms", type=float, default=100.0)
    parser.add_argument("--token-ms", type=float, default=20.0)
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--answer-tokens", type=int, default=32)
    parser.add_argument("--objective-ms", type=float, default=1000.0, help="TTFT, for Jain [1000]")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    for name, value in (_QUICK if options.quick else _FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.noisy_rate = options.noisy_times * capacity(vars(options))
    return options


def _write(results: Results, out: Path, console: Console) -> None:
    if not results.windows:
        return
    file = out / f"{results.at[:10]}-fairness"
    write_results(file, results.as_json(), markdown(results), claims(results), console)


if __name__ == "__main__":
    sys.exit(main())
