"""What a tester is to send; the same for every side."""

from dataclasses import dataclass

PROMPT_TOKENS = 16
_STEP, _FINE = 1.25, 1.08


@dataclass(frozen=True)
class Load:
    """Streamed chats of so many tokens each, at a steady rate or by so many users at once."""

    requests: int
    tokens: int
    rate: float | None = None
    """Requests a second, evenly spaced; None: closed loop."""
    users: int | None = None

    @property
    def offered(self) -> float:
        """Tokens a second that the engine sends once as many streams end as begin; 0 in a closed
        loop."""
        return (self.rate or 0.0) * self.tokens


@dataclass(frozen=True)
class Pace:
    """How the engine answers."""

    first_s: float
    token_s: float
    at_once: int = 1
    """Tokens in one write."""

    def as_behaviour(self) -> dict[str, float | int]:
        """For the fake engine."""
        return {
            "first_token_time_s": self.first_s,
            "token_time_s": self.token_s,
            "tokens_at_once": self.at_once,
        }


def next_rate(first: float, tried: list[tuple[float, bool]]) -> float | None:
    """The next rate to try, from `first` up by a quarter until one does not hold, then between;
    None where the highest that holds is known within 8 %. tried: the rates and whether they held.
    """
    held = [rate for rate, good in tried if good]
    missed = [rate for rate, good in tried if not good]
    if not tried:
        return first
    if not missed:
        return max(held) * _STEP
    least = min(missed)
    best = max((rate for rate in held if rate < least), default=None)
    if best is None:
        return least / 2 if least > first / 8 else None
    return (best * least) ** 0.5 if least / best > _FINE else None
