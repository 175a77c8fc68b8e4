"""What figures of each metric mean to a gate: which loss matters, how many items tell.

docs/gates.md gives the reasons.
"""

import math

MINIMUM_ITEMS = 10
"""Fewer decide nothing."""

AGAINST_BASE_ALREADY = frozenset({"forgetting"})
WITHOUT_DIRECTION = frozenset({"length", "length.characters", "length.ratio"})

_OF_100 = frozenset({"bleu", "chrf"})
_OPEN = frozenset({"perplexity", "general.loss", "forgetting"}) | WITHOUT_DIRECTION

_SHARE_MARGIN = 0.05
_OF_100_MARGIN = 2.0
_NATS_MARGIN = 0.05
_PERPLEXITY_MARGIN = 0.05


def plain_name(metric: str) -> str:
    """The metric's name without the suite in front of it."""
    return metric.removeprefix("regression.")


def default_margin(metric: str, other_value: float | None) -> float:
    """The loss that `no worse` tolerates where the recipe names none, in the metric's unit."""
    name = plain_name(metric)
    if name == "perplexity":
        return _PERPLEXITY_MARGIN * (other_value or 0)
    if name in ("general.loss", "forgetting"):
        return _NATS_MARGIN
    return _OF_100_MARGIN if name in _OF_100 else _SHARE_MARGIN


def items_for_limit(metric: str, limit: float, *, at_least: bool) -> int:
    """How many items a threshold needs before its value alone decides.

    A set on which a single wrong item already breaks the limit tells good from perfect no more
    than a coin does: a share of 0.98 needs 50 items, one in which a single item is 0.02.
    """
    name = plain_name(metric)
    if name in _OPEN:
        return MINIMUM_ITEMS
    share = limit / (100 if name in _OF_100 else 1)
    room = 1 - share if at_least else share
    if not 0 < room < 1:
        return MINIMUM_ITEMS
    return max(MINIMUM_ITEMS, math.ceil(round(1 / room, 6)))
