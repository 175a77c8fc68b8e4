"""The same samples in the words of `vllm bench serve`, guidellm and aiperf.

Where they differ from ours, as their sources say (vLLM 0.32, guidellm 0.8.1, aiperf's main branch).
n is an answer's output tokens; "first" and "last" are its token events.

- **counts from**: ours from the intended sending; all three from the sending.
- **TTFT**: to the first text; vLLM: to the first chunk with a choice: a chat's role chunk counts.
- **ITL**: all gaps between token events pooled; vLLM: the same, with the gap after a chat's role
  chunk; guidellm: (last - first) / (n - 1) by answer, weighted by n - 1; aiperf: the same,
  unweighted (what we pool is its inter-chunk latency).
- **TPOT**: (last - first) / (n - 1) by answer; vLLM: the same; guidellm: (last - sending) / n,
  weighted by n; aiperf: it is its ITL.
- **E2E**: to the answer's end; vLLM: to the last chunk with a choice; guidellm: to the answer's
  end; aiperf: to the last text.
- **failures**: a timeout counts in TTFT and E2E with what it waited, the rest are counted apart;
  vLLM, guidellm: counted apart; aiperf: counted apart, `adj_` figures take them for endless.
- **requests/s**: answered ones, from the first intended sending to the last end; vLLM: from the
  run's begin to the last end; guidellm: from the first sending to the last end; aiperf: from the
  first sending to the last text.
- **output tokens/s**: over the same time; the peers: over the time of their requests/s.
- **goodput**: share of all requests, and good ones a second; ITL by the answer's mean gap; an
  answer of one token keeps ITL and TPOT; vLLM: good ones a second, TPOT of one token is 0;
  guidellm: judges requests that have all figures, its `tpot` objective is its ITL; aiperf: good
  ones a second, a request without a figure is not good.
- **percentile**: between two values; vLLM, aiperf: the same; guidellm: the first value that enough
  others reach.

All stamp a chunk when they parse it, so chunks that come together have gaps of nearly 0, as here.
vLLM counts any chunk with a choice, one that only tells why the answer ended too: of a server that
sends such a chunk apart, its ITL has a gap more and its E2E ends with it.
"""

from dataclasses import dataclass

from loadtest.samples import Sample
from loadtest.statistics.group import Group, by
from loadtest.statistics.histogram import Histogram, Spread
from loadtest.statistics.latencies import tpot


@dataclass(frozen=True, slots=True)
class AsVllm:
    """Named as in the file of `vllm bench serve --save-result`, but in seconds."""

    completed: int
    ttft_s: Spread
    tpot_s: Spread
    itl_s: Spread
    e2el_s: Spread
    request_throughput: float | None
    output_throughput: float | None
    total_token_throughput: float | None


@dataclass(frozen=True, slots=True)
class AsGuidellm:
    """Named as in guidellm's `metrics`, but in seconds; of successful requests."""

    time_to_first_token_s: Spread
    time_per_output_token_s: Spread
    inter_token_latency_s: Spread
    request_latency_s: Spread
    requests_per_second: float | None
    output_tokens_per_second: float | None


@dataclass(frozen=True, slots=True)
class AsAiperf:
    """Named as aiperf's tags, but in seconds."""

    time_to_first_token_s: Spread
    inter_token_latency_s: Spread
    inter_chunk_latency_s: Spread
    request_latency_s: Spread
    request_throughput: float | None
    output_token_throughput: float | None


class Peers:
    """What the peers' figures need besides ours; of answered requests alone."""

    def __init__(self) -> None:
        self.streamed = 0
        self.ttft = Histogram()
        self.to_last_token = Histogram()
        self.to_end = Histogram()
        self.mean_gap = Histogram()
        self.per_token = Histogram()
        self.sent_s: float | None = None
        self.ended_s: float | None = None
        self.last_token_s: float | None = None

    def add(self, sample: Sample) -> None:
        sent = sample.sent_s
        if sent is None:
            return
        self._note(sent, sample.ended_s, sample.last_token_s)
        if sample.ended_s is not None:
            self.to_end.add(sample.ended_s - sent)
        first, last, tokens = sample.first_token_s, sample.last_token_s, sample.output_tokens
        if first is None or last is None:
            return
        self.streamed += 1
        self.ttft.add(first - sent)
        self.to_last_token.add(last - sent)
        if tokens:
            self.per_token.add((last - sent) / tokens, tokens)
        mean = tpot(sample)
        if mean is not None and tokens is not None:
            self.mean_gap.add(mean, tokens - 1)

    def merge(self, other: "Peers") -> None:
        self.streamed += other.streamed
        for name in ("ttft", "to_last_token", "to_end", "mean_gap", "per_token"):
            getattr(self, name).merge(getattr(other, name))
        self._note(other.sent_s, other.ended_s, other.last_token_s)

    def _note(self, sent: float | None, ended: float | None, last: float | None) -> None:
        self.sent_s = _least(self.sent_s, sent)
        self.ended_s = _most(self.ended_s, ended)
        self.last_token_s = _most(self.last_token_s, last)

    @property
    def seconds(self) -> float:
        return _between(self.sent_s, self.ended_s)


def as_vllm(of: Group, peers: Peers, *, role_chunks: bool = False) -> AsVllm:
    """Our samples by vLLM's definitions.

    of: the group over all. role_chunks: whether streams begin with a chunk that has a choice but
    no text, as vLLM's chat does right before the first text; vLLM counts it as a token event, so
    each answer has one more gap, of nearly 0.
    """
    itl = of.itl
    if role_chunks:
        itl = Histogram()
        itl.merge(of.itl)
        itl.add(0.0, peers.streamed)
    tokens = of.prompt_tokens + of.output_tokens
    return AsVllm(
        completed=of.ok,
        ttft_s=peers.ttft.spread(),
        tpot_s=of.tpot.spread(),
        itl_s=itl.spread(),
        e2el_s=peers.to_last_token.spread(),
        request_throughput=by(of.ok, peers.seconds),
        output_throughput=by(of.output_tokens, peers.seconds),
        total_token_throughput=by(tokens, peers.seconds),
    )


def as_guidellm(of: Group, peers: Peers) -> AsGuidellm:
    """Our samples by guidellm's definitions; its weighted figures count a value by its weight."""
    return AsGuidellm(
        time_to_first_token_s=peers.ttft.spread("inverted_cdf"),
        time_per_output_token_s=peers.per_token.spread("inverted_cdf"),
        inter_token_latency_s=peers.mean_gap.spread("inverted_cdf"),
        request_latency_s=peers.to_end.spread("inverted_cdf"),
        requests_per_second=by(of.ok, peers.seconds),
        output_tokens_per_second=by(of.output_tokens, peers.seconds),
    )


def as_aiperf(of: Group, peers: Peers) -> AsAiperf:
    """Our samples by aiperf's definitions."""
    seconds = _between(peers.sent_s, peers.last_token_s) or peers.seconds
    return AsAiperf(
        time_to_first_token_s=peers.ttft.spread(),
        inter_token_latency_s=of.tpot.spread(),
        inter_chunk_latency_s=of.itl.spread(),
        request_latency_s=peers.to_last_token.spread(),
        request_throughput=by(of.ok, seconds),
        output_token_throughput=by(of.output_tokens, seconds),
    )


def _least(a: float | None, b: float | None) -> float | None:
    return min((one for one in (a, b) if one is not None), default=None)


def _most(a: float | None, b: float | None) -> float | None:
    return max((one for one in (a, b) if one is not None), default=None)


def _between(begin: float | None, end: float | None) -> float:
    return max(end - begin, 0.0) if begin is not None and end is not None else 0.0
