"""The load test as a user runs it, for a benchmark: a JSON load a line, run one after the other."""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.testing.figures import GUIDELLM, VLLM, as_guidellm_says, as_vllm_says, named
from benchmarks.testing.lines import ENDED, READY
from benchmarks.testing.loads import PROMPT_TOKENS, Load
from loadtest.client.target import Target
from loadtest.running.options import Options
from loadtest.running.run import run
from loadtest.running.state import RunOutcome
from loadtest.statistics.measured import Measured
from loadtest.statistics.peers import as_guidellm, as_vllm
from loadtest.workload.loading import make_workload
from loadtest.workload.spec import Workload


def main() -> None:
    """Until its input ends."""
    print(READY, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        measured = Measured()
        outcome = run(
            workload(Load(**asked["load"]), asked["model"]),
            Target(asked["url"]),
            Options(),
            measured.add,
        )
        Path(asked["out"]).write_text(json.dumps(told(measured, outcome)))
        print(ENDED, flush=True)


def workload(load: Load, model: str) -> Workload:
    """The load in the load test's own words."""
    if load.rate is None:
        arrivals: dict[str, Any] = {"kind": "closed", "stages": [{"users": load.users}]}
    else:
        arrivals = {"kind": "constant", "stages": [{"rate": load.rate}]}
    asked = {
        "prompts": {"kind": "synthetic", "tokens": {"kind": "fixed", "value": PROMPT_TOKENS}},
        "max_tokens": {"kind": "fixed", "value": load.tokens},
        "extra": {"ignore_eos": True},
    }
    told = {"arrivals": arrivals, "requests": load.requests, "models": [model], "mix": [asked]}
    return make_workload(told, Path())


def told(measured: Measured, outcome: RunOutcome) -> dict[str, Any]:
    """As `figures.from_ours` reads it."""
    figures = measured.figures
    of = figures.summary().all
    vllm = as_vllm(figures.all, figures.peers, role_chunks=True)
    guidellm = as_guidellm(figures.all, figures.peers)
    own = named(
        ttft=of.ttft_s, itl=of.itl_s, tpot=of.tpot_s, e2e=of.e2e_s,
        requests_per_s=of.throughput.requests_per_s,
        tokens_per_s=of.throughput.output_tokens_per_s,
    )  # fmt: skip
    return {
        "ok": of.requests.ok,
        "figures": own,
        "as_peer": {VLLM: as_vllm_says(vllm), GUIDELLM: as_guidellm_says(guidellm)},
        "bound": outcome.tester.reasons,
        "cpu_share": outcome.tester.cpu_share,
    }


if __name__ == "__main__":
    main()
