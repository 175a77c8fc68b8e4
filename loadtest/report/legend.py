"""What the report's words mean, ours and those of other testers."""

from collections.abc import Iterator
from dataclasses import dataclass

from loadtest.report.formats import digits
from loadtest.report.plots.source import short
from loadtest.report.result import Result
from loadtest.statistics.histogram import Spread

Row = tuple[str, str, Spread]

LEGEND = [
    ("Counting from", "the moment a request should have been sent, not when it was. A server that"
     " makes the tester wait pays for it: no coordinated omission."),
    ("TTFT", "time to first token: from then to the first text of a streamed answer."),
    ("ITL", "inter-token latency: the gaps between token events, of all answers together."),
    ("TPOT", "time per output token: first to last token of an answer, by its tokens after the"
     " first; a value an answer."),
    ("E2E", "end to end: to the answer's end."),
    ("Queue", "what the server says that a request waited, where it says so."),
    ("Timeouts", "count in TTFT and E2E with what they had waited. Other failures have no latency,"
     " since a quick refusal is no quick answer."),
    ("Good requests", "those answered within every objective. Goodput is their share of all that"
     " were asked, failed ones too."),
    ("Tester-bound", "the tester was late or short of CPU, so that latencies may be its own."),
    ("Jain's index", "1 where all tenants got the same, 1/n where one of n got everything."),
    ("Cold start", "the server said that it had to load the adapter first."),
    ("Warm-up, cool-down", "are in plots over time, and in no figure."),
    ("p95", "95% of the values are at most so large; within 0.2% of the exact one."),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tester:
    """rates: its throughput, as one text."""

    name: str
    rates: str
    rows: list[Row]


def latencies(result: Result) -> list[Row]:
    """Ours; those without a value are left out."""
    rows = [
        ("TTFT", "to the first token", result.ttft_s),
        ("ITL", "between tokens", result.itl_s),
        ("TPOT", "by output token", result.tpot_s),
        ("E2E", "to the end", result.e2e_s),
        ("Queue", "as the server says", result.queue_s),
        ("Cold TTFT", "an adapter was loaded first", result.cold_ttft_s),
    ]
    return [row for row in rows if row[2].count]


def testers(result: Result) -> list[Tester]:
    """The same requests as three others would report them."""
    return [_vllm(result), _guidellm(result), _aiperf(result)]


def _vllm(result: Result) -> Tester:
    of = result.peers.vllm
    rows = [
        ("ttft", "sending to the first text", of.ttft_s),
        ("itl", "all gaps pooled, that after a chat's role chunk too", of.itl_s),
        ("tpot", "first to last token, by the tokens after the first", of.tpot_s),
        ("e2el", "sending to the last chunk", of.e2el_s),
    ]
    rates = _rates(of.request_throughput, of.output_throughput)
    return Tester("vllm bench serve", rates, _there(rows))


def _guidellm(result: Result) -> Tester:
    of = result.peers.guidellm
    rows = [
        ("time_to_first_token", "sending to the first text", of.time_to_first_token_s),
        ("inter_token_latency", "first to last token by tokens after the first, weighted by them",
         of.inter_token_latency_s),
        ("time_per_output_token", "sending to last token, by tokens, weighted by them",
         of.time_per_output_token_s),
        ("request_latency", "sending to the end", of.request_latency_s),
    ]  # fmt: skip
    rates = _rates(of.requests_per_second, of.output_tokens_per_second)
    return Tester("guidellm", rates, _there(rows))


def _aiperf(result: Result) -> Tester:
    of = result.peers.aiperf
    rows = [
        ("time_to_first_token", "sending to the first text", of.time_to_first_token_s),
        ("inter_token_latency", "first to last token, by tokens after the first",
         of.inter_token_latency_s),
        ("inter_chunk_latency", "all gaps pooled", of.inter_chunk_latency_s),
        ("request_latency", "sending to the last text", of.request_latency_s),
    ]  # fmt: skip
    rates = _rates(of.request_throughput, of.output_token_throughput)
    return Tester("aiperf", rates, _there(rows))


def fairness(result: Result) -> Iterator[tuple[str, str]]:
    """Names and words, of what could be told."""
    of = result.fairness
    for name, index in (("Jain, tokens", of.jain_tokens), ("Jain, good requests", of.jain_good)):
        if index is not None:
            yield name, f"{index:.3f}"
    for name, ends in (("Answered", of.answered), ("TTFT p95", of.ttft_p95), ("Tokens", of.tokens)):
        if ends is None:
            continue
        if ends.worst_over_best == 1:
            yield name, "the same for all"
            continue
        ratio = (
            "the best has none"
            if ends.worst_over_best is None
            else f"{digits(ends.worst_over_best)} times the best's"
        )
        yield name, f"{ratio} ({short(ends.worst)} beside {short(ends.best)})"


def _rates(requests: float | None, tokens: float | None) -> str:
    if requests is None:
        return ""
    return f"{digits(requests)} requests/s, {digits(tokens or 0.0)} output tokens/s"


def _there(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row[2].count]
