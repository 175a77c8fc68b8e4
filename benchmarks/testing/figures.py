"""A tester's figures under common names, in seconds, from what it wrote; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtest.statistics.histogram import Spread
from loadtest.statistics.peers import AsGuidellm, AsVllm

OURS, VLLM, GUIDELLM = "loraplex", "vllm bench serve", "guidellm"
CLAIMED = (
    "TTFT mean", "TTFT p50", "ITL mean", "ITL p50", "TPOT mean", "E2E mean",
    "requests/s", "output tokens/s",
)  # fmt: skip
SHOWN = ("TTFT p99", "ITL p99", "E2E p99")
"""Not claimed: a p99 of some hundred requests is one request's chance."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Told:
    """What a side says of one run."""

    ok: int
    figures: Figures
    as_peer: dict[str, Figures] = field(default_factory=dict)
    """Of ours: the same run by a peer's definitions."""
    bound: tuple[str, ...] = ()
    """Of ours: why its own verdict is that it was too slow itself."""
    cpu_share: float | None = None
    """Of ours: the median second's share of its core."""

    def by(self, peer: str) -> Figures:
        """By the peer's definitions where it knows them, else by its own."""
        return self.as_peer.get(peer, self.figures)


def named(
    *, requests_per_s: float | None, tokens_per_s: float | None, **spreads: Spread
) -> Figures:
    """ttft, itl, tpot, e2e: in seconds."""
    found: dict[str, float | None] = {}
    for name, spread in spreads.items():
        label = name.upper()
        found |= {f"{label} mean": spread.mean, f"{label} p50": spread.p50}
        found[f"{label} p99"] = spread.p99
    found |= {"requests/s": requests_per_s, "output tokens/s": tokens_per_s}
    return {name: value for name, value in found.items() if value is not None}


def as_vllm_says(of: AsVllm) -> Figures:
    """Ours, by vLLM's definitions."""
    return named(
        ttft=of.ttft_s, itl=of.itl_s, tpot=of.tpot_s, e2e=of.e2el_s,
        requests_per_s=of.request_throughput, tokens_per_s=of.output_throughput,
    )  # fmt: skip


def as_guidellm_says(of: AsGuidellm) -> Figures:
    """Ours, by guidellm's definitions."""
    return named(
        ttft=of.time_to_first_token_s, itl=of.inter_token_latency_s,
        tpot=of.time_per_output_token_s, e2e=of.request_latency_s,
        requests_per_s=of.requests_per_second, tokens_per_s=of.output_tokens_per_second,
    )  # fmt: skip


def from_vllm(saved: Mapping[str, Any]) -> Told:
    """saved: the file of `--save-result`."""
    figures = {
        "requests/s": saved["request_throughput"], "output tokens/s": saved["output_throughput"]
    }  # fmt: skip
    for label, name in (("TTFT", "ttft"), ("ITL", "itl"), ("TPOT", "tpot"), ("E2E", "e2el")):
        for ours, theirs in (("mean", "mean"), ("p50", "median"), ("p99", "p99")):
            if (value := saved.get(f"{theirs}_{name}_ms")) is not None:
                figures[f"{label} {ours}"] = value / 1e3
    return Told(saved["completed"], figures)


def from_guidellm(report: Mapping[str, Any]) -> Told:
    """report: the JSON output of a run of one load."""
    metrics = report["benchmarks"][0]["metrics"]

    def of(name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = metrics[name]["successful"]
        return found

    figures = {
        "requests/s": of("requests_per_second")["mean"],
        "output tokens/s": of("output_tokens_per_second")["mean"],
    }
    for label, name, unit_s in (
        ("TTFT", "time_to_first_token_ms", 1e-3),
        ("ITL", "inter_token_latency_ms", 1e-3),
        ("TPOT", "time_per_output_token_ms", 1e-3),
        ("E2E", "request_latency", 1.0),
    ):
        spread = of(name)
        figures |= {f"{label} mean": spread["mean"] * unit_s}
        figures |= {f"{label} p50": spread["median"] * unit_s}
        figures |= {f"{label} p99": spread["percentiles"]["p99"] * unit_s}
    return Told(of("request_latency")["count"], figures)


def from_ours(saved: Mapping[str, Any]) -> Told:
    """saved: what `benchmarks.testing.ours` wrote."""
    return Told(
        saved["ok"], dict(saved["figures"]),
        {name: dict(figures) for name, figures in saved["as_peer"].items()},
        tuple(saved["bound"]), saved["cpu_share"],
    )  # fmt: skip
