"""Loraplex beside its peers: streams and plain answers, latency, CPU, memory; in one run.

Takes what it needs from PyPI into virtual environments in the user's cache folder; wrk and nginx
are Debian's packages. Timings are never a test: the report says what was measured and whether each
claim held, and the exit code is 0 either way.
"""

import argparse
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, not as a module: the repository is not on the path.
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.progress import (  # noqa: E402
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from benchmarks.sides import machine, peers  # noqa: E402
from benchmarks.sides.bench import Bench, Plan  # noqa: E402
from benchmarks.sides.engine import Engine  # noqa: E402
from benchmarks.sides.litellm import LiteLlm  # noqa: E402
from benchmarks.sides.loraplex_side import Loraplex  # noqa: E402
from benchmarks.sides.nginx import Nginx  # noqa: E402
from benchmarks.sides.processes import ChildFailed  # noqa: E402
from benchmarks.sides.report import markdown  # noqa: E402
from benchmarks.sides.results import Results  # noqa: E402
from benchmarks.sides.side import Side  # noqa: E402
from benchmarks.sides.vllm_router import VllmRouter  # noqa: E402
from benchmarks.sides.window import SCENARIOS  # noqa: E402

_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
)
_WRK = [scenario.name for scenario in SCENARIOS]
_ALL = [*_WRK, "paced", "many"]
_PEERS: dict[str, type[Side]] = {
    VllmRouter.name: VllmRouter,
    LiteLlm.name: LiteLlm,
    Nginx.name: Nginx,
}
_FULL = {"rounds": 5, "seconds": 8, "paced_seconds": 30, "many_seconds": 30, "profile_seconds": 8}
_QUICK = {"rounds": 1, "seconds": 2, "paced_seconds": 5, "many_seconds": 5, "profile_seconds": 4}
_LEAST_FILES = 8192


class Shown:
    """The run's progress on the terminal."""

    def __init__(self, progress: Progress, steps: int) -> None:
        self._progress = progress
        self._task = progress.add_task("starting the engine", total=steps)

    def say(self, text: str) -> None:
        self._progress.update(self._task, description=text)

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False)

    def step(self, text: str) -> None:
        self._progress.update(self._task, description=text, advance=1)


def main() -> int:
    """The exit code: 0 measured, 1 something is missing, 130 ended by Ctrl-C."""
    options = _arguments()
    console = Console(stderr=True, highlight=False)
    sides: list[Side] = [Loraplex(), *(_PEERS[name]() for name in options.peers)]
    with console.status("Looking for what is needed; peers are installed at the first run"):
        problems = list(_problems(options, sides))
    for problem in problems:
        console.print(problem, markup=False)
    if problems:
        return 1
    results = _results(options, sides)
    # The proxy's core is for the proxy; this process only waits, and reads /proc once a second.
    load_core, proxy_core = machine.cores()
    os.sched_setaffinity(0, [load_core])
    code = _measure(options, sides, results, console, (load_core, proxy_core))
    for file in _write(results, options.out):
        console.print(f"written: {file}", markup=False)
    return code


def _measure(
    options: argparse.Namespace,
    sides: list[Side],
    results: Results,
    console: Console,
    cores: tuple[int, int],
) -> int:
    plan = _plan(options)
    # SIGTERM as Ctrl-C, and Ctrl-C even in the background of a script: children are ended, and what
    # was measured is written.
    for number in signal.SIGINT, signal.SIGTERM:
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="loraplex-benchmark-") as name:
        folder = Path(name)
        try:
            engine = Engine(folder, cores[0])
            with Progress(*_COLUMNS, console=console) as bar:
                shown = Shown(bar, plan.steps(len(sides) + 1))
                try:
                    Bench(plan, sides, engine, folder, cores, results, shown).run()
                finally:
                    engine.stop()
        except ChildFailed as failure:
            console.print(str(failure), markup=False)
            return 1
        except KeyboardInterrupt:
            console.print("ended early: what was measured is kept")
            return 130
    results.partial = False
    return 0


def _problems(options: argparse.Namespace, sides: list[Side]) -> Iterator[str]:
    """What is missing, each with the way to get it."""
    if problem := machine.problem():
        yield problem
    needed: list[Callable[[], object]] = [side.prepare for side in sides]
    if set(options.only) & set(_WRK):
        needed.append(partial(peers.system_tool, "wrk"))
    if options.profiles:
        needed.append(partial(peers.install, peers.PROFILER))
    for prepare in needed:
        try:
            prepare()
        except peers.PeerMissing as missing:
            yield str(missing)
    files = machine.raise_file_limit()
    if files < _LEAST_FILES:
        yield f"only {files} files may be open at once: raise `ulimit -Hn` to {_LEAST_FILES}"


def _plan(options: argparse.Namespace) -> Plan:
    return Plan(
        rounds=options.rounds,
        seconds=options.seconds,
        scenarios=tuple(s for s in SCENARIOS if s.name in options.only),
        paced="paced" in options.only,
        paced_seconds=options.paced_seconds,
        paced_streams=options.paced_streams,
        token_time_s=options.token_ms / 1e3,
        many="many" in options.only,
        many_seconds=options.many_seconds,
        many_streams=options.many_streams,
        many_token_time_s=options.many_token_ms / 1e3,
        profiles=options.profiles,
        profile_seconds=options.profile_seconds,
    )


def _results(options: argparse.Namespace, sides: list[Side]) -> Results:
    shown = {name: str(value) for name, value in vars(options).items() if name != "out"}
    versions = {side.name: side.versions() for side in sides}
    if set(options.only) & set(_WRK):
        versions["load generator"] = {"wrk": peers.tool_version("wrk", "--version").split()[1]}
    return Results(
        command=shlex.join(["python", "benchmarks/relay.py", *sys.argv[1:]]),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        options=shown,
        machine=machine.describe(),
        versions=versions,
    )


def _write(results: Results, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{results.started_at[:10]}-relay"
    contents = {".json": results.to_json(), ".md": markdown(results)}
    files = []
    for suffix, content in contents.items():
        files.append(folder / f"{stem}{suffix}")
        files[-1].write_text(content)
    return files


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure Loraplex beside its peers.")
    parser.add_argument(
        "--only", nargs="+", choices=_ALL, default=_ALL, metavar="SCENARIO", help=", ".join(_ALL)
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=_PEERS,
        default=[*_PEERS],
        metavar="PEER",
        help=f"{', '.join(_PEERS)}; Loraplex and the engine itself are always measured",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "benchmarks" / "results",
        metavar="DIR",
        help="where DATE-relay.json and .md are written [default: benchmarks/results]",
    )
    parser.add_argument("--quick", action="store_true", help="one short round, to see it work")
    for name, value in _FULL.items():
        flag = f"--{name.replace('_', '-')}"
        text = f"[default: {value}; {_QUICK[name]} with --quick]"
        parser.add_argument(flag, type=int, metavar="N", help=text)
    parser.add_argument("--paced-streams", type=int, default=500, metavar="N", help="[500]")
    parser.add_argument("--token-ms", type=float, default=20.0, metavar="MS", help="paced [20]")
    parser.add_argument("--many-streams", type=int, default=2000, metavar="N", help="[2000]")
    parser.add_argument(
        "--many-token-ms", type=float, default=100.0, metavar="MS", help="many [100]"
    )
    parser.add_argument("--no-profiles", dest="profiles", action="store_false")
    options = parser.parse_args()
    for name, value in (_QUICK if options.quick else _FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


if __name__ == "__main__":
    sys.exit(main())
