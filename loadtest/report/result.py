"""result.json: all of a run that is kept, so that reports and comparisons need nothing else.

Its fields are a promise: they are listed in docs/loadtest.md, and `FORMAT` rises when one of them
goes or changes its meaning. It holds no key, no prompt and no answer.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loadtest.knee import Knee, Level
from loadtest.report.machine import Machine
from loadtest.report.writing import write_whole
from loadtest.running.state import Ended
from loadtest.running.tester import Verdict
from loadtest.statistics.conditions import Verdict as ConditionVerdict
from loadtest.statistics.cost import Cost
from loadtest.statistics.fairness import Fairness
from loadtest.statistics.goodput import Goodput
from loadtest.statistics.group import GroupSummary, Requests, Throughput
from loadtest.statistics.histogram import Histogram, Spread
from loadtest.statistics.peers import AsAiperf, AsGuidellm, AsVllm
from loadtest.statistics.rows import Table, unpack
from loadtest.statistics.timeline import Cell
from loadtest.statistics.units import StatisticsError

FORMAT: Final = 1
RESULT_FILE = "result.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Schedule(_Part):
    """Which requests were planned, and when."""

    digest: str
    """Of the schedule's first requests: equal where two runs planned the same ones; empty where
    the workload's files were gone when the run ended."""
    seconds: float | None
    """Its own end; None where the answers decide it."""
    warmup_s: float
    cooldown_s: float
    warmup_requests: int
    stop_after_s: float | None


class Histograms(_Part):
    """Of all measured requests, as `loadtest.statistics.histogram.Histogram.to_json` tells them."""

    ttft_s: dict[str, Any]
    itl_s: dict[str, Any]
    tpot_s: dict[str, Any]
    e2e_s: dict[str, Any]

    def histogram(self, figure: Literal["ttft_s", "itl_s", "tpot_s", "e2e_s"]) -> Histogram:
        """One of them, ready to be asked."""
        return Histogram.from_json(getattr(self, figure))


class KneeSearch(_Part):
    """What `--find-knee` found; the figures of the result are those of `figures_of_rate`."""

    knee: Knee
    levels: list[Level]
    """The rates that were probed, lowest first."""
    target: float
    """The share of requests that must keep the objectives."""
    probe_s: float
    """How long the first probes took, warm-up besides."""
    figures_of_rate: float | None
    """The highest rate that held, else the lowest that was probed; None before any probe."""


class Peers(_Part):
    """The same requests in other testers' definitions: `loadtest.statistics.peers`."""

    vllm: AsVllm
    guidellm: AsGuidellm
    aiperf: AsAiperf


class Result(_Part):
    """A run. Times are seconds, figures those of the measured phase unless said otherwise."""

    format: Literal[1] = FORMAT
    name: str
    """What the user called the run; the time it was made at, otherwise."""
    made_at: datetime
    machine: Machine
    url: str
    ended: Ended
    problem: str | None
    """What was wrong with the target, or with the tester's processes, and the fix."""
    seconds: float
    """Of the whole run, all phases."""
    workload: dict[str, Any]
    """As it was given, paths made absolute."""
    schedule: Schedule
    requests: Requests
    outside: dict[str, int]
    """Requests of the warm-up and the cool-down, which are in no figure."""
    unsent: int
    """Turns of sessions that were not reached."""
    errors: dict[str, int]
    """How often each kind of failure came."""
    ttft_s: Spread
    itl_s: Spread
    tpot_s: Spread
    e2e_s: Spread
    queue_s: Spread
    throughput: Throughput
    slo: str | None
    """The objectives, as `--slo` takes them."""
    goodput: Goodput | None
    prompt_tokens: int
    output_tokens: int
    tokens_from: dict[str, int]
    """How output tokens were counted, by answered requests."""
    cold_starts: int
    """Answers for which the server said that it loaded an adapter first."""
    cold_ttft_s: Spread
    fairness: Fairness
    cost: Cost | None
    lag_s: Spread
    """Sending after the intended time, whoever caused it."""
    tester: Verdict
    """Whether the tester itself kept up."""
    processes: int
    tenants: dict[str, GroupSummary]
    other_tenants: GroupSummary | None
    models: dict[str, GroupSummary]
    other_models: GroupSummary | None
    peers: Peers
    conditions: list[ConditionVerdict] = Field(default_factory=list)
    """What `--fail-if` asked, and how it came out."""
    knee: KneeSearch | None = None
    timeline: list[Cell]
    """All phases."""
    histograms: Histograms
    rows: dict[str, Any]
    """A row a request, packed: `Result.table`."""

    def table(self) -> Table:
        """The rows, all phases. Raises StatisticsError where they are damaged."""
        return unpack(self.rows)

    def names(self, what: Literal["tenants", "models"]) -> list[str]:
        """The names that the rows' `tenant` and `model` are places in."""
        return list(self.rows[what])


def write_result(result: Result, folder: Path) -> Path:
    """Writes `folder`/result.json, whole or not at all. Raises OSError."""
    return write_whole(folder / RESULT_FILE, result.model_dump_json(indent=1) + "\n")


def read_result(path: Path) -> Result:
    """The result in a file, or in a folder's result.json. Raises StatisticsError."""
    file = path / RESULT_FILE if path.is_dir() else path
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StatisticsError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise StatisticsError(f"{file}: is no JSON; give a load test's result.json") from error
    made_with = told.get("format") if isinstance(told, dict) else None
    if made_with != FORMAT:
        raise StatisticsError(
            f"{file}: is no result of format {FORMAT} (it says {made_with}); give a load test's"
            " result.json, or run the load test again"
        )
    try:
        return Result.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise StatisticsError(f"{file}: is damaged ({field}: {first['msg']})") from error
