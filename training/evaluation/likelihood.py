"""Metrics of how likely a model finds given texts."""

from collections.abc import Sequence

import numpy as np

from training.evaluation.engines import Likelihood
from training.evaluation.metrics import Floats, Metric, mean_of


def loss_metric(name: str, found: Sequence[Likelihood]) -> Metric:
    """Nats a token: every token counts the same, in a long text as in a short one."""
    return Metric(name, "lower", _stats(found))


def perplexity_metric(name: str, found: Sequence[Likelihood]) -> Metric:
    """The exponential of the loss: of how many tokens, at each step, the model seems unsure."""
    return Metric(name, "lower", _stats(found), value_of=_perplexity)


def _stats(found: Sequence[Likelihood]) -> Floats:
    return np.array([[-one.log_prob, one.tokens] for one in found], dtype=np.float64).reshape(-1, 2)


def _perplexity(sums: Floats) -> Floats:
    with np.errstate(over="ignore"):  # a model that gives no chance at all: infinite
        return np.exp(mean_of(sums))
