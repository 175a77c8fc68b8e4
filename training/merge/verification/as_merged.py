"""A model with an adapter on top that computes as if the adapter were merged into its weights."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:  # seconds to import
    import torch
    from peft import PeftModel
    from torch import nn

Rounded = Callable[[str, "torch.Tensor"], "torch.Tensor"]
"""A weight of the given name as the output would hold it, in float32."""

# What PEFT puts into the path of a module that it keeps twice.
_KEPT_TWICE = re.compile(r"\.(original_module|modules_to_save\.[^.]+)$")


def unrounded(_name: str, weight: "torch.Tensor") -> "torch.Tensor":
    """The weight as it was computed."""
    return weight


@contextmanager
def as_merged(model: "PeftModel", rounded: Rounded) -> Iterator[None]:
    """Within it every module computes with its merged and rounded weights, made when it is called.

    One module's weights are in memory twice at a time. Tied ones are merged one by one: an
    embedding does not change the output layer that shares its weights.
    """
    handles = []
    for path, module in _with_weights(model.get_base_model(), ""):
        swap = _Swap(_KEPT_TWICE.sub("", path), rounded)
        # After the hooks that bring a module's weights, and before those that take them away.
        handles.append(module.register_forward_pre_hook(swap.enter))
        handles.append(module.register_forward_hook(swap.leave, prepend=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _with_weights(module: "nn.Module", path: str) -> "Iterator[tuple[str, nn.Module]]":
    """Modules that have weights of their own; an adapted one counts as one."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if isinstance(module, BaseTunerLayer):
        yield path, cast("nn.Module", module)
        if isinstance(module.base_layer, BaseTunerLayer):
            yield from _with_weights(cast("nn.Module", module.base_layer), path)
        return
    if next(module.parameters(recurse=False), None) is not None:
        yield path, module
    for name, child in module.named_children():
        yield from _with_weights(child, f"{path}.{name}" if path else name)


class _Swap:
    """Puts other weights into a module while it is called."""

    def __init__(self, path: str, rounded: Rounded) -> None:
        self._path = path
        self._rounded = rounded
        self._own: dict[str, nn.Parameter] = {}

    def enter(self, module: "nn.Module", _args: Any) -> None:
        from torch import nn

        layer = _layer(module)
        self._own = dict(layer.named_parameters(recurse=False))
        for name, weight in self._own.items():
            setattr(layer, name, nn.Parameter(weight.detach().clone(), requires_grad=False))
        if layer is not module:
            module.merge()  # type: ignore[operator]
        for name, weight in layer.named_parameters(recurse=False):
            weight.data = self._rounded(f"{self._path}.{name}", weight.data)

    def leave(self, module: "nn.Module", _args: Any, _output: Any) -> None:
        layer = _layer(module)
        for name, weight in self._own.items():
            setattr(layer, name, weight)
        self._own = {}
        if layer is not module:
            module.merged_adapters.clear()  # type: ignore[operator, union-attr]


def _layer(module: "nn.Module") -> "nn.Module":
    """The module that holds the weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
