"""How answers are scored: each scorer holds what a model answered against the references."""

from training.evaluation.scorers.catalogue import available_metrics, make_scorers
from training.evaluation.scorers.scorer import Scorer

__all__ = ["Scorer", "available_metrics", "make_scorers"]
