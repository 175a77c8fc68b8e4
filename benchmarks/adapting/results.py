"""What adapters.py found, and what of it was claimed; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.serving.window import Figures

GATEWAY, PLAIN, BESIDE = "gateway", "plain vLLM", "gateway, same engine"
"""BESIDE: a gateway before the engine that PLAIN is asked on, minutes later than GATEWAY's own."""
WARM_SHARE = 0.9
MOST_KIB = 64
FOLLOW_S = 1.0


@dataclass(frozen=True)
class Window:
    """One level, one way to choose, one side."""

    side: str
    adapters: int
    choice: str
    """`uniform` or `zipf:EXPONENT`."""
    figures: Figures
    engine_bytes: int
    """Of all the engine's processes, after the window."""


@dataclass(frozen=True)
class Level:
    """What so many registered adapters cost beside the load."""

    adapters: int
    registered_ms: float
    """Of the registry for each adapter that this level added: tenant, key, push, promotion."""
    followed_ms: float
    """Until the running gateway knew what was added."""
    push_ms: float
    """Of one more adapter, over the admin API."""
    gateway_bytes: int
    """Of the worker, after the load."""


@dataclass
class Results:
    """Filled in as the run goes on."""

    at: str
    command: str
    machine: dict[str, str]
    versions: dict[str, str]
    engine: dict[str, str] = field(default_factory=dict)
    """vLLM's flags."""
    settings: dict[str, Any] = field(default_factory=dict)
    levels: list[Level] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    plain_start_s: dict[int, float] = field(default_factory=dict)
    """Plain vLLM's start with so many adapters listed; 0: with none, as the gateway's engine."""
    notes: list[str] = field(default_factory=list)
    partial: bool = True

    @property
    def capacity(self) -> int:
        """Adapters that the gateway keeps on the engine: an eighth stays free (gateway/engine)."""
        most = int(self.settings["max_cpu_loras"])
        return max(1, most - max(1, most // 8))

    def as_json(self) -> dict[str, Any]:
        claimed = [{"claim": text, "held": held} for text, held in claims(self)]
        return asdict(self) | {"capacity": self.capacity, "claims": claimed}


def expected_cold_share(adapters: int, capacity: int) -> float:
    """Of uniform choice in the long run: what was kept is as likely asked as any other."""
    return max(0.0, 1 - capacity / adapters)


def find(windows: Sequence[Window], side: str, adapters: int, choice: str) -> Window | None:
    """The window, if it was measured."""
    key = (side, adapters, choice)
    return next((w for w in windows if (w.side, w.adapters, w.choice) == key), None)


def ratios(results: Results) -> list[tuple[int, str, float]]:
    """The gateway's requests a second over plain vLLM's, on one engine right after one another."""
    found = []
    for window in results.windows:
        other = find(results.windows, PLAIN, window.adapters, window.choice)
        if window.side == BESIDE and other is not None and other.figures.requests_per_s:
            share = window.figures.requests_per_s / other.figures.requests_per_s
            found.append((window.adapters, window.choice, share))
    return found


def kib_an_adapter(levels: Sequence[Level]) -> float | None:
    """Memory of the gateway for each adapter more; None with one level."""
    if len(levels) < 2 or levels[-1].adapters == levels[0].adapters:
        return None
    more = levels[-1].gateway_bytes - levels[0].gateway_bytes
    return more / 1024 / (levels[-1].adapters - levels[0].adapters)


def claims(results: Results) -> list[tuple[str, bool]]:
    """Of what was measured so far."""
    found = []
    ours = [one for one in results.windows if one.side != PLAIN]
    if ours:
        failed = sum(one.figures.failed for one in ours)
        found.append((f"no request fails at any number of adapters: {failed} did", failed == 0))
    for adapters, choice, share in ratios(results):
        fits = adapters <= results.capacity
        where = "that all fit" if fits else f"of which {results.capacity} fit"
        text = (
            f"{adapters:,} adapters {where}, {choice}: at least {WARM_SHARE} of plain vLLM's"
            f" requests a second: {share:.2f}"
        )
        found.append((text, share >= WARM_SHARE))
    if (kib := kib_an_adapter(results.levels)) is not None:
        text = f"a registered tenant with its adapter takes at most {MOST_KIB} KiB of the gateway"
        found.append((f"{text}: {kib:.1f}", kib <= MOST_KIB))
    if results.levels:
        slowest = max(one.followed_ms for one in results.levels)
        text = f"a running gateway follows its registry within {FOLLOW_S:g} s: {slowest:,.0f} ms"
        found.append((text, slowest <= FOLLOW_S * 1e3))
    return found


def choices_of(windows: Sequence[Window]) -> list[str]:
    """In the order of their first windows."""
    return list(dict.fromkeys(one.choice for one in windows))


def pairs(found: Mapping[str, object]) -> str:
    """One line of names and values."""
    return ", ".join(f"{name} {value}" for name, value in found.items())
