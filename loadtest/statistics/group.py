"""What is counted of a group of requests: all, one tenant's, one model's."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from loadtest.samples import Outcome, Sample
from loadtest.statistics.goodput import Goodput
from loadtest.statistics.histogram import Histogram, Spread
from loadtest.statistics.latencies import Latencies

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True, slots=True)
class Requests:
    sent: int
    """All that were to be sent, those that found no connection among them."""
    ok: int
    failed: int
    cancelled: int
    """In flight when the user stopped the run: neither ok nor failed, and in no share. Requests
    that a run which ends by itself gives up on are timeouts."""
    outcomes: dict[str, int]
    """How many ended in each way."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Of answered requests, over `seconds`; None where that is 0."""

    seconds: float
    """From when the first request should have been sent to the last one's end."""
    requests_per_s: float | None
    output_tokens_per_s: float | None
    total_tokens_per_s: float | None
    """Prompt and output together."""


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """Figures of a group; `loadtest.statistics.latencies` says what each one means."""

    requests: Requests
    ttft_s: Spread
    itl_s: Spread
    """Over all gaps of all answers."""
    tpot_s: Spread
    """Over answers."""
    e2e_s: Spread
    queue_s: Spread
    """As the server says."""
    throughput: Throughput
    goodput: Goodput | None
    """None without objectives."""
    prompt_tokens: int
    output_tokens: int
    cold_starts: int
    cold_ttft_s: Spread
    """Of the requests for which an adapter had to be loaded."""


class Group:
    """Adds samples up; memory does not grow with their number."""

    def __init__(self) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self.good = 0
        self.prompt_tokens = 0
        self.output_tokens = 0
        self.cold_starts = 0
        self.ttft = Histogram()
        self.itl = Histogram()
        self.tpot = Histogram()
        self.e2e = Histogram()
        self.queue = Histogram()
        self.cold_ttft = Histogram()
        self.begin_s: float | None = None
        self.end_s: float | None = None

    def add(self, sample: Sample, of: Latencies, *, good: bool) -> None:
        self.outcomes[sample.outcome] += 1
        self.good += good
        self._note_span(sample.intended_s, sample.ended_s)
        for histogram, value in (
            (self.ttft, of.ttft_s),
            (self.tpot, of.tpot_s),
            (self.e2e, of.e2e_s),
            (self.queue, sample.queue_s),
        ):
            if value is not None:
                histogram.add(value)
        if sample.outcome == "ok":
            self.itl.extend(sample.gaps)
            self.prompt_tokens += sample.prompt_tokens or 0
            self.output_tokens += sample.output_tokens or 0
        if sample.cold_start:
            self.cold_starts += 1
            if of.ttft_s is not None:
                self.cold_ttft.add(of.ttft_s)

    def merge(self, other: "Group") -> None:
        self.outcomes.update(other.outcomes)
        for name in ("good", "prompt_tokens", "output_tokens", "cold_starts"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("ttft", "itl", "tpot", "e2e", "queue", "cold_ttft"):
            getattr(self, name).merge(getattr(other, name))
        if other.begin_s is not None:
            self._note_span(other.begin_s, other.end_s)

    @property
    def ok(self) -> int:
        return self.outcomes["ok"]

    @property
    def judged(self) -> int:
        """Requests that came to an end of their own."""
        return self.outcomes.total() - self.outcomes["cancelled"]

    @property
    def seconds(self) -> float:
        if self.begin_s is None or self.end_s is None:
            return 0.0
        return max(self.end_s - self.begin_s, 0.0)

    def summary(self, seconds: float, *, judged: bool) -> GroupSummary:
        """seconds: what the rates are counted by. judged: whether there are objectives."""
        return GroupSummary(
            requests=Requests(
                sent=self.outcomes.total(),
                ok=self.ok,
                failed=self.judged - self.ok,
                cancelled=self.outcomes["cancelled"],
                outcomes=told(self.outcomes),
            ),
            ttft_s=self.ttft.spread(),
            itl_s=self.itl.spread(),
            tpot_s=self.tpot.spread(),
            e2e_s=self.e2e.spread(),
            queue_s=self.queue.spread(),
            throughput=Throughput(
                seconds,
                requests_per_s=by(self.ok, seconds),
                output_tokens_per_s=by(self.output_tokens, seconds),
                total_tokens_per_s=by(self.prompt_tokens + self.output_tokens, seconds),
            ),
            goodput=Goodput(self.good, by(self.good, self.judged), by(self.good, seconds))
            if judged
            else None,
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.output_tokens,
            cold_starts=self.cold_starts,
            cold_ttft_s=self.cold_ttft.spread(),
        )

    def _note_span(self, begin_s: float, end_s: float | None) -> None:
        self.begin_s = begin_s if self.begin_s is None else min(self.begin_s, begin_s)
        if end_s is not None:
            self.end_s = end_s if self.end_s is None else max(self.end_s, end_s)


def told(counts: Mapping[Name, int]) -> dict[str, int]:
    """The counts that are not 0, most first."""
    return {name: n for name, n in sorted(counts.items(), key=lambda one: -one[1]) if n}


def by(amount: float, divisor: float) -> float | None:
    """The quotient; None where there is nothing to divide by."""
    return amount / divisor if divisor else None
