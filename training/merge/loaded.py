"""Modules of LoRA as updates need them: read once for all the blocks of a tensor."""

import threading
from typing import TYPE_CHECKING

from training.merge.lora import LoraModule, LoraSource
from training.merge.updates.low_rank import Factors

if TYPE_CHECKING:  # seconds to import
    import torch


class Loaded:
    """Keeps the module that was asked for last. Safe from several threads."""

    def __init__(self, source: LoraSource) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._last: LoraModule | None = None
        self._factors: tuple[str, bool, Factors] | None = None

    def factors(self, path: str, turned: bool) -> Factors:
        """The module's product. turned: laid out as (in_features, out_features).

        Raises MergeError.
        """
        with self._lock:
            if self._factors is None or self._factors[:2] != (path, turned):
                self._factors = (path, turned, _factors(self._module(path), turned))
            return self._factors[2]

    def magnitude(self, path: str) -> "torch.Tensor":
        """DoRA's, (out_features,). Raises MergeError."""
        with self._lock:
            found = self._module(path).magnitude
        assert found is not None, path  # the shape said so
        return found

    def bias(self, path: str) -> "torch.Tensor":
        """What the module adds to its bias, (out_features,), in float64. Raises MergeError."""
        with self._lock:
            module = self._module(path)
        assert module.bias is not None, path  # the shape said so
        return module.bias.double() * module.scaling

    def _module(self, path: str) -> LoraModule:
        if self._last is None or self._last.path != path:
            self._last = self._source.load(path)
        return self._last


def _factors(module: LoraModule, turned: bool) -> Factors:
    if turned:
        return Factors(module.a.T, module.b.T.double().contiguous(), module.scaling)
    return Factors(module.b, module.a.double().contiguous(), module.scaling)
