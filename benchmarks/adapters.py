"""One to a thousand adapters behind one gateway on a real vLLM: latency, cold starts, memory.

The embedded model on the CPU; a tenant, a key and a small adapter each; asked evenly and by Zipf's
law through our own load tester. Beside it plain vLLM with the same adapters in `--lora-modules`.
Timings are never a test: the report says whether each claim held; the exit code is 0 either way.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, not as a module: the repository is not on the path.
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
from rich.console import Console  # noqa: E402

from benchmarks.adapting.report import markdown  # noqa: E402
from benchmarks.adapting.results import (  # noqa: E402
    BESIDE,
    GATEWAY,
    PLAIN,
    Level,
    Results,
    Window,
    claims,
)
from benchmarks.serving.fleet import ADAPTER, Fleet, Member  # noqa: E402
from benchmarks.serving.gateway import Gateway  # noqa: E402
from benchmarks.serving.interrupts import take_as_ctrl_c  # noqa: E402
from benchmarks.serving.made import make_adapter  # noqa: E402
from benchmarks.serving.versions import versions  # noqa: E402
from benchmarks.serving.vllm import BASE, Vllm, engine_settings  # noqa: E402
from benchmarks.serving.window import (  # noqa: E402
    WindowFailed,
    figures,
    load,
    models_of,
    request_kind,
)
from benchmarks.serving.writing import write_results  # noqa: E402
from benchmarks.sides import machine  # noqa: E402
from benchmarks.sides.processes import ChildFailed  # noqa: E402

_CHOICES = ("zipf:1.0", "uniform")
_FILES = ("adapter_config.json", "adapter_model.safetensors")
_FULL = {"levels": [1, 4, 16, 64, 256, 1000], "plain": [16, 1000], "seconds": 12.0}
_QUICK = {"levels": [1, 16, 80], "plain": [16], "seconds": 5.0}


Named = list[tuple[str, str | None]]
"""Models to ask, each with its tenant."""


class Bench:
    """One run: the gateway's levels on one engine, then plain vLLM, started for each of its own."""

    def __init__(
        self, options: argparse.Namespace, folder: Path, results: Results, console: Console
    ) -> None:
        self._options = options
        self._folder = folder
        self._results = results
        self._console = console
        self._settings = engine_settings(
            data_dir=folder / "data",
            max_loras=options.max_loras,
            max_cpu_loras=options.max_cpu_loras,
            max_lora_rank=options.rank,
        )

    def run(self) -> None:
        """Raises ChildFailed, WindowFailed, httpx.HTTPError and KeyboardInterrupt."""
        with Fleet(self._folder, self._folder / "data") as fleet:
            self._gateway(fleet)
            for count in self._options.plain:
                fleet.grow(count, rank=self._options.rank)
                self._plain(fleet.members[:count])

    def _gateway(self, fleet: Fleet) -> None:
        with ExitStack() as stack:
            began_s = time.perf_counter()
            self._console.print("starting vLLM")
            engine = Vllm(self._folder / "engine", self._settings)
            stack.callback(engine.stop)
            self._results.engine = engine.flags
            engine.wait()
            self._results.plain_start_s[0] = time.perf_counter() - began_s
            gateway = self._attached(engine)
            stack.callback(gateway.stop)
            gateway.wait()
            for count in self._options.levels:
                self._level(count, fleet, engine, gateway)

    def _attached(self, engine: Vllm) -> Gateway:
        cores = sorted(os.sched_getaffinity(0))
        names = ("max_loras", "max_cpu_loras", "max_lora_rank")
        settings = {name: getattr(self._settings, name) for name in names}
        return Gateway(self._folder, engine.url, BASE, cores=cores, settings=settings)

    def _level(self, count: int, fleet: Fleet, engine: Vllm, gateway: Gateway) -> None:
        self._console.print(f"{count:,} adapters")
        before = len(fleet.members)
        seconds = fleet.grow(count, rank=self._options.rank)
        followed_s = gateway.until_key_works(fleet.members[-1].key)
        push_s = self._push(gateway, fleet, count)
        members = fleet.members[:count]
        named, keys = _asked(members)
        if count <= self._results.capacity:
            self._touch(gateway, named, keys)
        for choice in _CHOICES if count > 1 else _CHOICES[-1:]:
            self._window(GATEWAY, engine, gateway.url, named, keys, choice)
        self._results.levels.append(
            Level(
                adapters=count,
                registered_ms=1e3 * seconds / max(1, count - before),
                followed_ms=1e3 * followed_s,
                push_ms=1e3 * push_s,
                gateway_bytes=gateway.worker_bytes(),
            )
        )

    def _touch(self, gateway: Gateway, named: Named, keys: dict[str, str]) -> None:
        """Asks each once: where all fit, no first load is to be in the figures."""
        load(
            {
                "requests": len(named),
                "arrivals": {"kind": "closed", "stages": [{"users": self._options.users}]},
                "mix": request_kind(self._options.prompt_tokens, 1),
                "model_choice": "round_robin",
                **models_of(named),
            },
            gateway.url,
            keys,
        )

    def _push(self, gateway: Gateway, fleet: Fleet, count: int) -> float:
        """Seconds of a push over HTTP. Its verdict keeps the engine from proving it meanwhile."""
        made = make_adapter(
            self._folder / f"pushed-{count}",
            fleet.base,
            rank=self._options.rank,
            seed=10**6 + count,
        )
        files = {name: (name, (made / name).read_bytes()) for name in _FILES}
        verdict = json.dumps({"evaluation": {"verdict": "rejected"}}).encode()
        files["metadata.json"] = ("metadata.json", verdict)
        with gateway.admin() as admin:
            began_s = time.perf_counter()
            path = f"/tenants/{fleet.members[0].tenant}/adapters/pushed/versions"
            admin.post(path, files=files).raise_for_status()
            return time.perf_counter() - began_s

    def _plain(self, members: Sequence[Member]) -> None:
        self._console.print(f"plain vLLM with {len(members):,} adapters listed")
        listed = [(f"{one.tenant}.{ADAPTER}", one.path) for one in members]
        with ExitStack() as stack:
            began_s = time.perf_counter()
            folder = self._folder / f"plain-{len(members)}"
            engine = Vllm(folder, self._settings, listed=listed)
            stack.callback(engine.stop)
            engine.wait()
            self._results.plain_start_s[len(members)] = time.perf_counter() - began_s
            gateway = self._attached(engine)
            stack.callback(gateway.stop)
            gateway.wait()
            self._in_turn(members, [(name, None) for name, _ in listed], engine, gateway)

    def _in_turn(
        self, members: Sequence[Member], listed: Named, engine: Vllm, gateway: Gateway
    ) -> None:
        """Both sides on one engine, so that what the machine does to one it does to the other."""
        named, keys = _asked(members)
        if len(members) <= self._results.capacity:
            self._touch(gateway, named, keys)
        for number, choice in enumerate(_CHOICES if len(members) > 1 else _CHOICES[-1:]):
            for side in (PLAIN, BESIDE) if number % 2 else (BESIDE, PLAIN):
                if side == PLAIN:
                    self._window(side, engine, engine.url, listed, {}, choice)
                else:
                    self._window(side, engine, gateway.url, named, keys, choice)

    def _window(
        self,
        side: str,
        engine: Vllm,
        url: str,
        named: Named,
        keys: dict[str, str],
        choice: str,
    ) -> None:
        options = self._options
        seconds = options.warmup_s + options.seconds
        workload = {
            "seed": 1,
            "arrivals": {
                "kind": "closed",
                "stages": [{"users": options.users, "seconds": seconds}],
            },
            "mix": request_kind(options.prompt_tokens, options.answer_tokens),
            "model_choice": choice,
            **models_of(named),
        }
        found = figures(*load(workload, url, keys, warmup_s=options.warmup_s))
        window = Window(side, len(named), choice, found, engine.memory_bytes())
        self._results.windows.append(window)
        said = f"  {side} {choice}: {found.requests_per_s:.2f} requests/s"
        self._console.print(f"{said}, {found.cold_starts} cold, {found.failed} failed")
        if found.tester_bound:
            note = f"{side}, {len(named):,} adapters, {choice}: bound by the load tester"
            self._results.notes.append(note)


def _asked(members: Sequence[Member]) -> tuple[Named, dict[str, str]]:
    """The members' adapters as the gateway's clients name them, and the keys by tenant."""
    return [(ADAPTER, one.tenant) for one in members], {one.tenant: one.key for one in members}


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
    with tempfile.TemporaryDirectory(prefix="loraplex-benchmark-", dir=options.work_dir) as name:
        try:
            Bench(options, Path(name), results, console).run()
            results.partial = False
        except (ChildFailed, WindowFailed, httpx.HTTPError) as error:
            console.print(str(error), markup=False)
            results.notes.append(f"ended early: {str(error).splitlines()[0]}")
            code = 1
        except KeyboardInterrupt:
            console.print("ended early: what was measured is kept")
            code = 130
    _write(results, options.out, console)
    return code


def _results(options: argparse.Namespace) -> Results:
    names = ["users", "prompt_tokens", "answer_tokens", "seconds", "warmup_s", "rank"]
    names += ["max_loras", "max_cpu_loras"]
    return Results(
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=shlex.join(["python", "benchmarks/adapters.py", *sys.argv[1:]]),
        machine=machine.describe(),
        versions=versions(),
        settings={name: getattr(options, name) for name in names},
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few adapters, short windows")
    parser.add_argument("--levels", type=int, nargs="+", metavar="N", help="[1 4 16 64 256 1000]")
    parser.add_argument("--plain", type=int, nargs="*", metavar="N", help="plain vLLM's [16 1000]")
    parser.add_argument("--seconds", type=float, help="length of one window [12]")
    parser.add_argument("--warmup-s", type=float, default=2.0)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--prompt-tokens", type=int, default=16)
    parser.add_argument("--answer-tokens", type=int, default=8)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--max-loras", type=int, default=8)
    parser.add_argument("--max-cpu-loras", type=int, default=64)
    parser.add_argument("--work-dir", type=Path, help="2 GB for 1,000 adapters [the system's]")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    for name, value in (_QUICK if options.quick else _FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.levels, options.plain = sorted(options.levels), sorted(options.plain)
    return options


def _write(results: Results, out: Path, console: Console) -> None:
    if not results.windows:
        return
    file = out / f"{results.at[:10]}-adapters"
    write_results(file, results.as_json(), markdown(results), claims(results), console)


if __name__ == "__main__":
    sys.exit(main())
