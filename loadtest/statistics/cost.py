"""What the tokens cost, from the machine's price by the hour."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """In the price's currency; None where nothing was produced."""

    price_per_hour: float
    per_million_output_tokens: float | None
    per_million_tokens: float | None
    """Prompt and output together."""
    per_thousand_requests: float | None
    """Answered ones."""
    per_thousand_good_requests: float | None
    """Those within the objectives."""


def cost(
    price_per_hour: float,
    seconds: float,
    *,
    output_tokens: int,
    prompt_tokens: int,
    ok: int,
    good: int | None = None,
) -> Cost:
    """What `seconds` of the machine cost, by what came of them.

    It holds for the load of the run: a machine that is half idle makes dear tokens. Raises
    ValueError where the price or the time is below 0.
    """
    if price_per_hour < 0 or seconds < 0:
        raise ValueError(f"{price_per_hour} an hour for {seconds} s: neither may be below 0")
    spent = price_per_hour * seconds / 3600

    def by(amount: int | None, unit: float) -> float | None:
        return spent / amount * unit if amount else None

    return Cost(
        price_per_hour=price_per_hour,
        per_million_output_tokens=by(output_tokens, 1e6),
        per_million_tokens=by(output_tokens + prompt_tokens, 1e6),
        per_thousand_requests=by(ok, 1e3),
        per_thousand_good_requests=by(good, 1e3),
    )
