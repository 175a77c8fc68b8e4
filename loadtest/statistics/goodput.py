"""Goodput: the requests that were answered within all of the service level objectives."""

from dataclasses import dataclass, fields

from loadtest.samples import Sample
from loadtest.statistics.latencies import Latencies
from loadtest.statistics.units import StatisticsError, nearest, seconds


@dataclass(frozen=True, slots=True)
class Slo:
    """The most seconds that a request may take; None: no objective. At least one is set."""

    ttft_s: float | None = None
    itl_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    def holds(self, sample: Sample, of: Latencies) -> bool:
        """Whether the request was answered and within every objective.

        An answer that was not streamed shows its first token with its last: its TTFT is its E2E.
        An answer of one token has no gap that could be too long. ITL is judged by the request's
        mean gap.
        """
        if sample.outcome != "ok":
            return False
        ttft_s = of.e2e_s if of.ttft_s is None else of.ttft_s
        return (
            _within(ttft_s, self.ttft_s, absent=False)
            and _within(of.itl_s, self.itl_s, absent=True)
            and _within(of.tpot_s, self.tpot_s, absent=True)
            and _within(of.e2e_s, self.e2e_s, absent=False)
        )

    def __str__(self) -> str:
        """As `parse_slo` reads it."""
        return ",".join(
            f"{one.name.removesuffix('_s')}={most * 1000:.12g}ms"
            for one in fields(self)
            if (most := getattr(self, one.name)) is not None
        )


@dataclass(frozen=True, slots=True)
class Goodput:
    """Requests within the objectives."""

    good: int
    share: float | None
    """Of all requests, failed ones too, but not those cancelled; None where there was none."""
    per_s: float | None


def parse_slo(text: str) -> Slo:
    """Objectives as `ttft=500ms,itl=50ms,tpot=40ms,e2e=5s`. Raises StatisticsError."""
    known = [one.name.removesuffix("_s") for one in fields(Slo)]
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise StatisticsError(f"--slo: `{part.strip()}` is not NAME=TIME, as ttft=500ms")
        if name not in known:
            hint = nearest(name, known) or f"; known are {', '.join(known)}"
            raise StatisticsError(f"--slo: `{name}` is no objective{hint}")
        if f"{name}_s" in found:
            raise StatisticsError(f"--slo: `{name}` is given twice")
        most = seconds(value, f"--slo {name}")
        if not most > 0:
            raise StatisticsError(f"--slo {name}: must be more than 0")
        found[f"{name}_s"] = most
    return Slo(**found)


def _within(value: float | None, most: float | None, *, absent: bool) -> bool:
    if most is None:
        return True
    return absent if value is None else value <= most
