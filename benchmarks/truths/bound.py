"""A run that is too fast for the tester, and one that is not: does it say so?"""

from dataclasses import dataclass

from benchmarks.truths.cases import asked
from loadtest.client.target import Target
from loadtest.running.options import Options
from loadtest.running.run import run

RATES = (100.0, 50_000.0)
"""A second: what the tester keeps easily, and many times what it can send."""


@dataclass(frozen=True)
class Verdict:
    """What the tester said of itself at a rate."""

    rate: float
    sent_per_s: float
    bound: bool
    reasons: tuple[str, ...]
    lag_p99_s: float | None
    cpu_share: float | None


def verdict(url: str, rate: float, seconds: float) -> Verdict:
    """Runs evenly spaced requests at the rate against a fast engine."""
    load = asked({"kind": "constant", "stages": [{"rate": rate, "seconds": seconds}]})
    load = load.model_copy(update={"requests": min(int(rate * seconds), 100_000)})
    outcome = run(load, Target(url), Options(), lambda sample: None)
    if outcome.ended == "interrupted":
        raise KeyboardInterrupt
    own = outcome.tester
    return Verdict(
        rate, outcome.sent / outcome.seconds, own.bound, own.reasons, own.lag_p99_s, own.cpu_share
    )
