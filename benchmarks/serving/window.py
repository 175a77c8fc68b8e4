"""One window of load through our own load tester, and its figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from benchmarks.serving.interrupts import handlers_kept
from loadtest.client.target import Target
from loadtest.running.options import Options
from loadtest.running.run import run
from loadtest.running.state import RunOutcome
from loadtest.samples import Sample
from loadtest.statistics.figures import Summary
from loadtest.statistics.goodput import Slo
from loadtest.statistics.measured import Measured
from loadtest.workload.spec import Workload


class WindowFailed(Exception):
    """A window in which nothing was measured: the message says why."""


@dataclass(frozen=True)
class Figures:
    """Of one window's measured phase; latencies in milliseconds, None where none came."""

    sent: int
    ok: int
    failed: int
    requests_per_s: float
    tokens_per_s: float
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    itl_p50_ms: float | None
    itl_p95_ms: float | None
    queue_p95_ms: float | None
    cold_starts: int
    cold_ttft_p50_ms: float | None
    errors: dict[str, int]
    tester_bound: bool


def load(
    workload: Mapping[str, Any],
    url: str,
    keys: Mapping[str, str],
    *,
    warmup_s: float = 0.0,
    apart: int = 1,
    slo: Slo | None = None,
    each: Callable[[Sample], object] = lambda _: None,
) -> tuple[Summary, RunOutcome]:
    """Runs it. keys: by tenant. apart: how many tenants have figures of their own.

    Raises KeyboardInterrupt where Ctrl-C ended it, and WindowFailed.
    """
    measured = Measured(slo, apart=apart, rows=1)

    def take(sample: Sample) -> None:
        measured.add(sample)
        each(sample)

    target = Target(url, keys={name: SecretStr(key) for name, key in keys.items()})
    with handlers_kept():
        outcome = run(Workload.model_validate(workload), target, Options(warmup_s=warmup_s), take)
    if outcome.ended == "interrupted":
        raise KeyboardInterrupt
    if outcome.ended == "target":
        raise WindowFailed(outcome.problem or "the target does not answer")
    return measured.figures.summary(), outcome


def figures(summary: Summary, outcome: RunOutcome) -> Figures:
    """What is kept of a window."""
    of = summary.all
    return Figures(
        sent=of.requests.sent,
        ok=of.requests.ok,
        failed=of.requests.failed,
        requests_per_s=of.throughput.requests_per_s or 0.0,
        tokens_per_s=of.throughput.output_tokens_per_s or 0.0,
        ttft_p50_ms=ms(of.ttft_s.p50),
        ttft_p95_ms=ms(of.ttft_s.p95),
        itl_p50_ms=ms(of.itl_s.p50),
        itl_p95_ms=ms(of.itl_s.p95),
        queue_p95_ms=ms(of.queue_s.p95),
        cold_starts=of.cold_starts,
        cold_ttft_p50_ms=ms(of.cold_ttft_s.p50),
        errors=summary.errors,
        tester_bound=outcome.tester.bound,
    )


def ms(seconds: float | None) -> float | None:
    """None stays None."""
    return None if seconds is None else seconds * 1e3


def shown(value: float | None, form: str = "{:,.0f}") -> str:
    """A figure for a table; a dash where there is none."""
    return "-" if value is None else form.format(value)


def request_kind(prompt_tokens: int, answer_tokens: int) -> list[dict[str, Any]]:
    """A workload's mix: streamed chats of one size, greedy, as long as asked."""
    return [
        {
            "prompts": {"kind": "synthetic", "tokens": {"kind": "fixed", "value": prompt_tokens}},
            "max_tokens": {"kind": "fixed", "value": answer_tokens},
            "extra": {"ignore_eos": True, "temperature": 0},
        }
    ]


def models_of(named: Sequence[tuple[str, str | None]]) -> dict[str, Any]:
    """A workload's models and tenants: (model, its tenant or None)."""
    tenants = dict.fromkeys(tenant for _, tenant in named if tenant is not None)
    return {
        "models": [{"name": model, "tenant": tenant} for model, tenant in named],
        "tenants": [{"name": tenant} for tenant in tenants],
    }
