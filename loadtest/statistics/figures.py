"""The run's figures over all requests and apart by tenant and model, in memory that stays flat."""

from collections import Counter
from dataclasses import dataclass

from loadtest.samples import Phase, Sample, TokensFrom
from loadtest.statistics.fairness import Fairness, Served, fairness
from loadtest.statistics.goodput import Slo
from loadtest.statistics.group import Group, GroupSummary, told
from loadtest.statistics.histogram import Histogram, Spread
from loadtest.statistics.latencies import latencies
from loadtest.statistics.peers import Peers

APART = 256
"""Tenants, and models, that are kept apart unless told otherwise; one takes about 100 KiB."""
_KINDS_OF_ERRORS = 50
OTHER_ERRORS = "other"


@dataclass(frozen=True, slots=True)
class Summary:
    """All figures of a run's measured phase."""

    all: GroupSummary
    tenants: dict[str, GroupSummary]
    models: dict[str, GroupSummary]
    other_tenants: GroupSummary | None
    """Those that came after the first `apart`, together; None where all are kept apart."""
    other_models: GroupSummary | None
    apart: int
    fairness: Fairness
    """Between the tenants that are kept apart."""
    errors: dict[str, int]
    """How often each kind of failure came; rare kinds beyond the first 50 as `other`."""
    outside: dict[str, int]
    """Requests of the warm-up and the cool-down, which are in no other figure."""
    tokens_from: dict[str, int]
    """How output tokens were counted, by answered requests."""
    lag_s: Spread
    """Sending after the intended time: the tester's own, or that of a server or a user it waits
    for."""


class Apart:
    """Groups by name: the first `most` names each have their own, the rest one together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.groups: dict[str, Group] = {}
        self.other: Group | None = None

    def of(self, name: str) -> Group:
        group = self.groups.get(name)
        if group is None and len(self.groups) < self.most:
            group = self.groups[name] = Group()
        if group is None:
            group = self.other = self.other or Group()
        return group

    def merge(self, other: "Apart") -> None:
        for name, group in other.groups.items():
            self.of(name).merge(group)
        if other.other is not None:
            self.other = self.other or Group()
            self.other.merge(other.other)


class Figures:
    """Adds samples of any phase; only those of the measured one are in the figures.

    slo: judges each request, None for no goodput. apart: how many tenants, and how many models,
    are kept apart. Several processes' figures go together with `merge`.
    """

    def __init__(self, slo: Slo | None = None, *, apart: int = APART) -> None:
        self.slo = slo
        self.all = Group()
        self.tenants = Apart(apart)
        self.models = Apart(apart)
        self.peers = Peers()
        self.errors: Counter[str] = Counter()
        self.outside: Counter[Phase] = Counter()
        self.tokens_from: Counter[TokensFrom] = Counter()
        self.lag = Histogram()

    def add(self, sample: Sample) -> None:
        if sample.phase != "measured":
            self.outside[sample.phase] += 1
            return
        of = latencies(sample)
        good = self.slo is not None and self.slo.holds(sample, of)
        for group in (self.all, self.tenants.of(sample.tenant), self.models.of(sample.model)):
            group.add(sample, of, good=good)
        if sample.sent_s is not None:
            self.lag.add(max(sample.sent_s - sample.intended_s, 0.0))
        if sample.outcome == "ok":
            self.tokens_from[sample.tokens_from] += 1
            self.peers.add(sample)
        elif sample.outcome != "cancelled":
            self._count_error(sample.error or sample.outcome, 1)

    def merge(self, other: "Figures") -> None:
        """Adds another process's figures of the same run."""
        self.all.merge(other.all)
        self.tenants.merge(other.tenants)
        self.models.merge(other.models)
        self.peers.merge(other.peers)
        for kind, times in other.errors.items():
            self._count_error(kind, times)
        self.outside.update(other.outside)
        self.tokens_from.update(other.tokens_from)
        self.lag.merge(other.lag)

    def summary(self) -> Summary:
        seconds, judged = self.all.seconds, self.slo is not None
        every = self.all.summary(seconds, judged=judged)
        tenants = _summaries(self.tenants, seconds, judged=judged)
        return Summary(
            all=every,
            tenants=tenants,
            models=_summaries(self.models, seconds, judged=judged),
            other_tenants=_summary(self.tenants.other, seconds, judged=judged),
            other_models=_summary(self.models.other, seconds, judged=judged),
            apart=self.tenants.most,
            fairness=fairness({name: _served(one) for name, one in tenants.items()}),
            errors=told(self.errors),
            outside=told(self.outside),
            tokens_from=told(self.tokens_from),
            lag_s=self.lag.spread(),
        )

    def _count_error(self, kind: str, times: int) -> None:
        known = kind in self.errors or len(self.errors) < _KINDS_OF_ERRORS
        self.errors[kind if known else OTHER_ERRORS] += times


def _summaries(groups: Apart, seconds: float, *, judged: bool) -> dict[str, GroupSummary]:
    return {
        name: group.summary(seconds, judged=judged) for name, group in sorted(groups.groups.items())
    }


def _summary(group: Group | None, seconds: float, *, judged: bool) -> GroupSummary | None:
    return None if group is None else group.summary(seconds, judged=judged)


def _served(of: GroupSummary) -> Served:
    return Served(
        requests=of.requests.ok + of.requests.failed,
        ok=of.requests.ok,
        good_share=of.goodput.share if of.goodput else None,
        output_tokens=of.output_tokens,
        ttft_p95_s=of.ttft_s.p95,
    )
