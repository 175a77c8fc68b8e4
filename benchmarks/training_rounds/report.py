"""The training benchmark's results as JSON and as a page."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

BASELINE = "trl"
MEANINGS = {
    "trl": "TRL's SFTTrainer, rows as chance has them",
    "trl grouped": "TRL's SFTTrainer, steps of rows of like length (`group_by_length`)",
    "plain": "`fit`, micro batches as chance has them",
    "grouped": "`fit`, rows of like length share a micro batch (the default)",
    "packed": "`fit`, rows behind one another in one sequence",
}


@dataclass(frozen=True)
class Window:
    """What one side did in one round."""

    round: int
    side: str
    seconds: float
    tokens: int
    first_loss: float
    last_loss: float

    @property
    def tokens_per_s(self) -> float:
        """Without padding."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Results:
    """All that one run found."""

    at: str
    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, str]
    windows: list[Window]

    def as_json(self) -> dict[str, Any]:
        """With the rates and the claims."""
        rates = {side: [one.tokens_per_s for one in self.of(side)] for side in self.sides()}
        return asdict(self) | {"tokens_per_s": rates, "claims": dict(claims(self))}

    def sides(self) -> list[str]:
        """In the order in which they were measured."""
        return list(dict.fromkeys(one.side for one in self.windows))

    def of(self, side: str) -> list[Window]:
        """The rounds of one side."""
        return [one for one in self.windows if one.side == side]

    def ratios(self, side: str) -> list[float]:
        """Against the baseline, each within its round."""
        base = {one.round: one.tokens_per_s for one in self.of(BASELINE)}
        return [one.tokens_per_s / base[one.round] for one in self.of(side) if one.round in base]


def claims(results: Results) -> list[tuple[str, bool]]:
    """What is promised, and whether it held."""
    return [
        (
            f"`fit` ({side}) trains at least as many tokens a second as a plain SFTTrainer",
            statistics.median(results.ratios(side)) >= 1,
        )
        for side in ("plain", "grouped")
        if results.of(side)
    ]


def markdown(results: Results) -> str:
    """The page."""
    held = [f"- {'held' if ok else '**not held**'}: {text}" for text, ok in claims(results)]
    head = ("side", "what", "tokens/s", "ratio", "of rounds", "first loss", "last loss")
    parts = [
        "# Tokens a second in training",
        f"{results.at}. {_pairs(results.machine)}. {_pairs(results.versions)}.",
        f"{_pairs(results.settings)}. Tokens are counted without padding; each side runs in a "
        "process of its own, and its first step does not count. Medians over the rounds; the ratio "
        "is taken within each round.",
        "## Claims",
        "\n".join(held),
        "## Sides",
        _table(head, [_row(results, side) for side in results.sides()]),
    ]
    return "\n\n".join(parts) + "\n"


def _row(results: Results, side: str) -> list[str]:
    own, ratios = results.of(side), results.ratios(side)
    rate = statistics.median(one.tokens_per_s for one in own)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}" if side != BASELINE else ""
    return [
        side,
        MEANINGS[side],
        f"{rate:,.0f}",
        f"{statistics.median(ratios):.2f}",
        spread,
        f"{own[0].first_loss:.3f}",
        f"{own[0].last_loss:.3f}",
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _pairs(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())
