"""Logits only where a label is. Imported by a worker alone: it loads torch.

The output layer of a small model is a fifth of its arithmetic, and most tokens of a chat are of
the prompt. The hidden states are picked in front of that layer, so that whatever a model does to
its logits afterwards (scaling, capping) is still its own doing.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from training.fitting.tensors import Tensors


class SelectedLogits:
    """Computes the loss of micro batches made by `padded` and `packed`."""

    def __init__(self, output_layer: nn.Module) -> None:
        self._positions: torch.Tensor | None = None
        output_layer.register_forward_pre_hook(self._select)

    def mean_loss(self, model: nn.Module, tensors: Tensors) -> torch.Tensor:
        """The mean over the learned tokens, in nats."""
        inputs = dict(tensors)
        self._positions, targets = inputs.pop("positions"), inputs.pop("targets")
        try:
            logits = model(**inputs, use_cache=False).logits
        finally:
            self._positions = None
        return functional.cross_entropy(logits[0].float(), targets)

    def _select(self, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        del layer
        if self._positions is None:
            return None
        hidden = args[0].reshape(-1, args[0].shape[-1])
        return (hidden.index_select(0, self._positions)[None], *args[1:])
