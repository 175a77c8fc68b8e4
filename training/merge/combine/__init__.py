"""Several adapters made one, by the methods and under the names of PEFT."""

from training.merge.combine.combined import Combined, combine
from training.merge.combine.method import CombineMethod

__all__ = ["CombineMethod", "Combined", "combine"]
