"""From a request for an adapter that is not loaded to its first token, cold beside warm.

Through the gateway, which loads it, and on the same real vLLM by hand: `/v1/load_lora_adapter`,
then the request. Several ranks. Timings are never a test: the report says whether each claim held;
the exit code is 0 either way.
"""

import argparse
import os
import shlex
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, not as a module: the repository is not on the path.
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402
from rich.console import Console  # noqa: E402

from benchmarks.cold_starting.report import markdown  # noqa: E402
from benchmarks.cold_starting.results import (  # noqa: E402
    GATEWAY,
    PLAIN,
    Results,
    Trial,
    claims,
)
from benchmarks.serving.fleet import ADAPTER, Fleet, Member  # noqa: E402
from benchmarks.serving.gateway import Gateway  # noqa: E402
from benchmarks.serving.interrupts import take_as_ctrl_c  # noqa: E402
from benchmarks.serving.versions import versions  # noqa: E402
from benchmarks.serving.vllm import BASE, Vllm, engine_settings  # noqa: E402
from benchmarks.serving.window import (  # noqa: E402
    WindowFailed,
    load,
    models_of,
    request_kind,
)
from benchmarks.serving.writing import write_results  # noqa: E402
from benchmarks.sides import machine  # noqa: E402
from benchmarks.sides.processes import ChildFailed  # noqa: E402
from loadtest.samples import Sample  # noqa: E402

_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256)
_PROMPT_TOKENS = 16
_ANSWER_TOKENS = 4


class Bench:
    """One engine with a gateway before it; every adapter goes both ways."""

    def __init__(
        self, options: argparse.Namespace, folder: Path, results: Results, console: Console
    ) -> None:
        self._options = options
        self._folder = folder
        self._results = results
        self._console = console
        most = 2 * len(options.ranks) * (options.adapters + 1)
        self._settings = {
            "max_lora_rank": min(rank for rank in _VLLM_RANKS if rank >= max(options.ranks)),
            # Room for all, so that nothing has to go and only first loads are measured.
            "max_cpu_loras": max(64, 2 * most),
        }

    def run(self) -> None:
        """Raises ChildFailed, WindowFailed, httpx.HTTPError and KeyboardInterrupt."""
        with ExitStack() as stack:
            fleet = stack.enter_context(Fleet(self._folder, self._folder / "data"))
            self._console.print("starting vLLM")
            engine = Vllm(self._folder / "engine", engine_settings(**self._settings))
            stack.callback(engine.stop)
            self._results.engine = engine.flags
            cores = sorted(os.sched_getaffinity(0))
            gateway = Gateway(self._folder, engine.url, BASE, cores=cores, settings=self._settings)
            stack.callback(gateway.stop)
            each = self._options.adapters + 1
            for rank in self._options.ranks:
                fleet.grow(len(fleet.members) + each, rank=rank)
            engine.wait()
            gateway.wait()
            gateway.until_key_works(fleet.members[-1].key)
            for place, rank in enumerate(self._options.ranks):
                self._rank(rank, fleet.members[place * each : (place + 1) * each], engine, gateway)

    def _rank(self, rank: int, members: list[Member], engine: Vllm, gateway: Gateway) -> None:
        # The first one's figures are not kept: code and kernels of this rank come warm.
        for number, member in enumerate(members):
            if number == 1:
                before = _loads(gateway)
            turns = [GATEWAY, PLAIN] if number % 2 else [PLAIN, GATEWAY]
            for side in turns:
                ask = self._through_gateway if side == GATEWAY else self._by_hand
                found = ask(member, number, engine, gateway)
                if number:
                    self._results.trials.append(found)
                    said = f"rank {rank} {side}: cold {found.cold_ms:,.0f} ms"
                    self._console.print(f"{said}, warm {found.warm_ms:,.0f} ms")
        after = _loads(gateway)
        count = after[0] - before[0]
        if count:
            self._results.engine_load_ms[rank] = 1e3 * (after[1] - before[1]) / count

    def _through_gateway(
        self, member: Member, number: int, engine: Vllm, gateway: Gateway
    ) -> Trial:
        named, keys = (ADAPTER, member.tenant), {member.tenant: member.key}
        cold, warm = (_ask(gateway.url, named, keys, 2 * number + again) for again in range(2))
        queue_ms = 1e3 * (cold.queue_s or 0.0)
        told = (cold.cold_start, warm.cold_start)
        return _trial(GATEWAY, member, _ttft_ms(cold), queue_ms, _ttft_ms(warm), told)

    def _by_hand(self, member: Member, number: int, engine: Vllm, gateway: Gateway) -> Trial:
        name = f"{member.tenant}.by-hand"
        began_s = time.perf_counter()
        engine.load(name, member.path)
        load_ms = 1e3 * (time.perf_counter() - began_s)
        cold, warm = (_ask(engine.url, (name, None), {}, 2 * number + again) for again in range(2))
        engine.unload(name)
        told = (cold.cold_start, warm.cold_start)
        return _trial(PLAIN, member, load_ms + _ttft_ms(cold), load_ms, _ttft_ms(warm), told)


def _trial(
    side: str,
    member: Member,
    cold_ms: float,
    load_ms: float,
    warm_ms: float,
    told: tuple[bool, bool],
) -> Trial:
    size = (member.path / "adapter_model.safetensors").stat().st_size
    return Trial(side, member.rank, size, cold_ms, load_ms, warm_ms, told)


def _ask(url: str, named: tuple[str, str | None], keys: dict[str, str], seed: int) -> Sample:
    """One request. Raises WindowFailed where it is not answered."""
    workload = {
        "seed": seed,
        "requests": 1,
        "arrivals": {"kind": "closed", "stages": [{"users": 1}]},
        "mix": request_kind(_PROMPT_TOKENS, _ANSWER_TOKENS),
        **models_of([named]),
    }
    samples: list[Sample] = []
    load(workload, url, keys, each=samples.append)
    (sample,) = samples
    if sample.outcome != "ok":
        raise WindowFailed(f"{named[0]} was not answered: {sample.error}")
    return sample


def _ttft_ms(sample: Sample) -> float:
    if sample.first_token_s is None:
        raise WindowFailed("an answer came without a token")
    return 1e3 * (sample.first_token_s - sample.intended_s)


def _loads(gateway: Gateway) -> tuple[float, float]:
    """How often the gateway has loaded an adapter, and the seconds that took."""
    text = httpx.get(gateway.metrics_url, timeout=30, trust_env=False).raise_for_status().text
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("loraplex_adapter_load_duration_seconds_")
    }
    prefix = "loraplex_adapter_load_duration_seconds"
    return found.get(f"{prefix}_count", 0.0), found.get(f"{prefix}_sum", 0.0)


def main() -> int:
    """The exit code: 0 measured, 1 something failed, 130 ended by Ctrl-C."""
    options = _arguments()
    console = Console(stderr=True, highlight=False)
    if problem := machine.problem():
        console.print(problem)
        return 1
    results = Results(
        at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=shlex.join(["python", "benchmarks/cold_start.py", *sys.argv[1:]]),
        machine=machine.describe(),
        versions=versions(),
    )
    take_as_ctrl_c()
    code = 0
    with tempfile.TemporaryDirectory(prefix="loraplex-benchmark-") as name:
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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two ranks, three adapters each")
    parser.add_argument("--ranks", type=int, nargs="+", help="[8 16 64]")
    parser.add_argument("--adapters", type=int, help="of each rank [10]")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    options.ranks = sorted(options.ranks or ([8, 64] if options.quick else [8, 16, 64]))
    options.adapters = options.adapters or (3 if options.quick else 10)
    if options.ranks[-1] > _VLLM_RANKS[-1]:
        parser.error(f"--ranks: at most {_VLLM_RANKS[-1]}")
    return options


def _write(results: Results, out: Path, console: Console) -> None:
    if not results.trials:
        return
    file = out / f"{results.at[:10]}-cold-start"
    write_results(file, results.as_json(), markdown(results), claims(results), console)


if __name__ == "__main__":
    sys.exit(main())
