"""A result in Prometheus's text format. Every figure is a gauge or a summary of one run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from loadtest.report.result import Result
from loadtest.statistics.group import GroupSummary
from loadtest.statistics.histogram import Spread

PREFIX = "loraplex_loadtest"
MOST_NAMES = 100
"""Tenants, and models, that have series; those with most requests."""

_QUANTILES = {"0.5": "p50", "0.9": "p90", "0.95": "p95", "0.99": "p99"}
_SPREADS = {
    "ttft": "Intended sending to first token.",
    "itl": "Gaps between token events.",
    "tpot": "First to last token, by the tokens after the first.",
    "e2e": "Intended sending to the answer's end.",
    "queue": "What the server says that requests waited.",
    "lag": "Sending after the intended time.",
}
LABELS = ("tenant", "model", "outcome", "kind", "condition", "quantile")
"""Names of labels that series have."""


@dataclass(slots=True)
class _Family:
    kind: str
    help: str
    samples: list[str] = field(default_factory=list)


class _Text:
    """Series by family, each family's lines together, as the format asks."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}

    def gauge(self, name: str, told: str, value: float | None, **labels: str) -> None:
        """Nothing where there is no value."""
        if value is not None:
            family = self._families.setdefault(f"{PREFIX}_{name}", _Family("gauge", told))
            family.samples.append(f"{PREFIX}_{name}{_labels(labels)} {_number(value)}")

    def summary(self, name: str, told: str, spread: Spread, **labels: str) -> None:
        """`name`_seconds with its quantiles, and the greatest as `name`_max_seconds."""
        if not spread.count or spread.mean is None:
            return
        full = f"{PREFIX}_{name}_seconds"
        family = self._families.setdefault(full, _Family("summary", told))
        for quantile, one in _QUANTILES.items():
            shown = _labels(labels | {"quantile": quantile})
            family.samples.append(f"{full}{shown} {_number(getattr(spread, one))}")
        family.samples.append(f"{full}_sum{_labels(labels)} {_number(spread.mean * spread.count)}")
        family.samples.append(f"{full}_count{_labels(labels)} {spread.count}")
        self.gauge(f"{name}_max_seconds", f"The greatest. {told}", spread.max, **labels)

    def __str__(self) -> str:
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for name, family in self._families.items():
            yield f"# HELP {name} {family.help}"
            yield f"# TYPE {name} {family.kind}"
            yield from family.samples


def exposition(result: Result) -> str:
    """The text. Tenants and models have families of their own, so that sums count nothing twice."""
    text = _Text()
    _add_run(text, result)
    for name, told in _SPREADS.items():
        text.summary(name, told, getattr(result, f"{name}_s"))
    for kind, many in result.errors.items():
        text.gauge("errors", "Failed requests by kind.", many, kind=kind)
    for one in result.conditions:
        told = "1 where the run fails by this condition."
        text.gauge("condition_failed", told, one.failed, condition=one.condition.text)
    _add_groups(text, "tenant", result.tenants)
    _add_groups(text, "model", result.models)
    return str(text)


def _add_run(text: _Text, result: Result) -> None:
    for outcome, many in result.requests.outcomes.items():
        text.gauge("requests", "Measured requests by how they ended.", many, outcome=outcome)
    judged = result.requests.ok + result.requests.failed
    failed = result.requests.failed / judged if judged else None
    text.gauge("failed_ratio", "Failed requests by all but those cancelled.", failed)
    _add_rates(text, "", result.throughput.requests_per_s, result.throughput.output_tokens_per_s)
    if result.goodput is not None:
        text.gauge("good_ratio", "Requests within the objectives, by all.", result.goodput.share)
        told = "Requests within the objectives a second."
        text.gauge("good_requests_per_second", told, result.goodput.per_s)
    told = "Answers for which an adapter was loaded first."
    text.gauge("cold_starts", told, result.cold_starts)
    jain = result.fairness.jain_tokens
    text.gauge("jain_tokens_ratio", "Jain's index of output tokens by tenant.", jain)
    if result.knee is not None:
        told = "The highest rate that holds the objectives."
        text.gauge("knee_requests_per_second", told, result.knee.knee.rate)
    if result.cost is not None:
        told = "Price by million output tokens, in its currency."
        value = result.cost.per_million_output_tokens
        text.gauge("cost_per_million_output_tokens", told, value)
    text.gauge("tester_bound", "1 where the tester itself was the limit.", result.tester.bound)
    text.gauge("completed", "1 where the run came to its end.", result.ended == "completed")
    text.gauge("duration_seconds", "The whole run, all phases.", result.seconds)
    made = result.made_at.timestamp()
    text.gauge("made_timestamp_seconds", "When the result was made.", made)


def _add_groups(text: _Text, what: str, groups: Mapping[str, GroupSummary]) -> None:
    named = {name: of for name, of in groups.items() if name}
    busiest = sorted(named, key=lambda name: (-named[name].requests.sent, name))
    for name in busiest[:MOST_NAMES]:
        of, label = named[name], {what: name}
        for outcome, many in of.requests.outcomes.items():
            told = f"Measured requests by {what} and how they ended."
            text.gauge(f"{what}_requests", told, many, outcome=outcome, **label)
        _add_rates(
            text, f"{what}_", of.throughput.requests_per_s, of.throughput.output_tokens_per_s,
            **label,
        )  # fmt: skip
        if of.goodput is not None:
            told = f"Requests within the objectives, by all of the {what}."
            text.gauge(f"{what}_good_ratio", told, of.goodput.share, **label)
        for spread in ("ttft", "e2e"):
            found: Spread = getattr(of, f"{spread}_s")
            text.summary(f"{what}_{spread}", f"By {what}. {_SPREADS[spread]}", found, **label)
    if busiest:
        told = f"Those beyond the {MOST_NAMES} busiest, which have no series."
        text.gauge(f"{what}s_left_out", told, len(busiest[MOST_NAMES:]))


def _add_rates(
    text: _Text, of: str, requests: float | None, tokens: float | None, **labels: str
) -> None:
    text.gauge(f"{of}requests_per_second", "Answered requests a second.", requests, **labels)
    text.gauge(f"{of}output_tokens_per_second", "Output tokens a second.", tokens, **labels)


def _labels(labels: Mapping[str, str]) -> str:
    shown = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{shown}}}" if shown else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return f"{float(value):.17g}" if not float(value).is_integer() else f"{value:.0f}"
