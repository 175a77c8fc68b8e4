"""A soak of the gateway: requests with cancellations, engine resets and slow readers mixed in.

Looks for leaks of sockets, tasks and memory, and whether every request was counted once. The exit
code is 0 where all held, 1 where something did not or could not be started, 130 after Ctrl-C.
"""

import argparse
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, not as a module: the repository is not on the path.
sys.path.insert(0, str(ROOT))

import uvloop  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import (  # noqa: E402
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from benchmarks.sides import machine  # noqa: E402
from benchmarks.sides.engine import Engine  # noqa: E402
from benchmarks.sides.processes import ChildFailed  # noqa: E402
from benchmarks.sides.verdicts import Verdict  # noqa: E402
from benchmarks.soaking import gateway as gateways  # noqa: E402
from benchmarks.soaking.report import markdown  # noqa: E402
from benchmarks.soaking.results import Results  # noqa: E402
from benchmarks.soaking.run import Options, Soak  # noqa: E402
from benchmarks.soaking.verdicts import verdicts  # noqa: E402

_SETTLE_S = 75.0
"""Some of the gateway's own work comes by the minute; the SQL for it is compiled once."""
_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
)


def main() -> int:
    """The exit code."""
    options = _arguments()
    console = Console(stderr=True, highlight=False)
    if problem := machine.problem():
        console.print(problem)
        return 1
    machine.raise_file_limit()
    results = Results(
        command=shlex.join(["python", "benchmarks/soak.py", *sys.argv[1:]]),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        options={name: str(value) for name, value in vars(options).items() if name != "out"},
        machine=machine.describe(),
        versions=machine.versions(),
    )
    # A shell that runs this in the background has Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = 0
    try:
        with tempfile.TemporaryDirectory(prefix="loraplex-soak-") as folder:
            _soak(options, Path(folder), results, console)
    except ChildFailed as failure:
        console.print(str(failure), markup=False)
        status = 1
    except KeyboardInterrupt:
        status = 130
    found = verdicts(results)
    if results.books is not None:
        _write(results, found, options.out, console)
    return status or exit_code(found, partial=results.partial)


def exit_code(found: list[Verdict], *, partial: bool) -> int:
    """0 where the run came to its end and no claim failed."""
    return 1 if partial or any(verdict.held is False for verdict in found) else 0


def _soak(options: argparse.Namespace, folder: Path, results: Results, console: Console) -> None:
    client_core, gateway_core = machine.cores()
    os.sched_setaffinity(0, {client_core})
    with Progress(*_COLUMNS, console=console) as bar:
        shown = bar.add_task("tenants and adapters", total=options.requests)
        engine = Engine(folder, client_core)
        try:
            place = gateways.make_place(folder)
            bar.update(shown, description="gateway")
            gateway = gateways.start(place, engine, folder, [gateway_core])
            try:
                asked = Options(
                    options.requests, options.concurrency, options.seed, settle_s=_SETTLE_S
                )
                soak = Soak(asked, gateway, place, engine, results, _reporter(bar, shown))
                uvloop.run(soak.run())
            finally:
                gateway.child.stop()
        finally:
            engine.stop()


def _reporter(bar: Progress, shown: object) -> Callable[[int, str], None]:
    def report(done: int, what: str) -> None:
        bar.update(shown, completed=done, description=what)  # type: ignore[arg-type]

    return report


def _write(results: Results, found: list[Verdict], out: Path, console: Console) -> None:
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{results.started_at[:10]}-soak"
    file.with_suffix(".json").write_text(results.to_json([asdict(each) for each in found]))
    file.with_suffix(".md").write_text(markdown(results))
    if results.partial:
        console.print("ended early; this was found until the last checkpoint:")
    words = {True: "held", False: "NOT HELD", None: "not known"}
    for each in found:
        said = f"{words[each.held]}: {each.claim}: {each.measured}"
        console.print(said, markup=False, soft_wrap=True)
    console.print(f"written: {file}.md, {file}.json", soft_wrap=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=_positive, default=100_000, metavar="N")
    parser.add_argument("--concurrency", type=_positive, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="decides the plan")
    parser.add_argument("--quick", action="store_true", help="10,000 requests")
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "benchmarks" / "results",
        metavar="DIR",
        help="where DATE-soak.json and .md are written [default: benchmarks/results]",
    )
    options = parser.parse_args()
    if options.quick:
        options.requests = 10_000
    return options


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
