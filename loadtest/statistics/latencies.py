"""One request's figures, as this project defines them."""

from dataclasses import dataclass

from loadtest.samples import Sample


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds; None where the request has no such figure.

    Counted from when the request should have been sent, so that a server that makes the tester
    wait pays for it (no coordinated omission). A timeout counts with what it had waited, which is
    less than the truth, where the first token, or the end, had not come; other failures have no
    figures, since a quick refusal is no quick answer.
    """

    ttft_s: float | None
    """Intended sending to first token; of streamed requests."""
    itl_s: float | None
    """The mean gap between token events; of streamed answers with two events or more."""
    tpot_s: float | None
    """First to last token, by the tokens after the first."""
    e2e_s: float | None
    """Intended sending to the answer's end."""


NONE = Latencies(None, None, None, None)


def latencies(sample: Sample) -> Latencies:
    if sample.outcome == "timeout":
        waited = None if sample.ended_s is None else max(sample.ended_s - sample.intended_s, 0.0)
        first = sample.first_token_s
        return Latencies(waited if first is None else first - sample.intended_s, None, None, waited)
    if sample.outcome != "ok":
        return NONE
    first, ended = sample.first_token_s, sample.ended_s
    return Latencies(
        ttft_s=None if first is None else first - sample.intended_s,
        itl_s=float(sample.gaps.sum()) / len(sample.gaps) if len(sample.gaps) else None,
        tpot_s=tpot(sample),
        e2e_s=None if ended is None else ended - sample.intended_s,
    )


def tpot(sample: Sample) -> float | None:
    """Seconds from the first to the last token, by the tokens after the first."""
    first, last, tokens = sample.first_token_s, sample.last_token_s, sample.output_tokens
    if first is None or last is None or tokens is None or tokens < 2:
        return None
    return (last - first) / (tokens - 1)
