"""A model that is larger than memory: each layer's weights are read when it is called.

Transformers and accelerate find where each weight lies, also of models whose weights are stored in
another form than they are used in (those are written anew into a folder for the time being).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapters_registry.errors import ModelError

if TYPE_CHECKING:  # seconds to import
    import torch
    from torch import nn
    from transformers import PreTrainedModel

# What PEFT puts into the names of a base's weights.
_PEFTS_WORDS = (".base_layer", ".original_module")


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A model's weights by name, each read from the disk when it is asked for.

    zero: what stands in for all of them in the model, and takes no memory.
    """

    weights: "Mapping[str, torch.Tensor]"
    zero: "torch.Tensor"

    def is_missing(self, weight: "torch.Tensor") -> bool:
        """Whether a weight in the model is a mere stand-in."""
        return weight.untyped_storage().data_ptr() == self.zero.untyped_storage().data_ptr()


@dataclass(frozen=True, slots=True)
class _Missing:
    """A weight to be read: its module, its name there, what stands in for it, its whole name."""

    module: "nn.Module"
    name: str
    stand_in: "nn.Parameter"
    whole: str


def take_weights(model: "PreTrainedModel") -> OnDisk:
    """Where the weights of a model lie that was loaded onto `disk`. Zeros stand in for them, so
    that PEFT finds something to lay an adapter on. Raises ModelError.
    """
    import torch
    from accelerate.hooks import remove_hook_from_submodules
    from torch import nn

    found = next(filter(None, (_weights_of(module) for module in model.modules())), None)
    if found is None:
        raise ModelError("the model's weights cannot be read layer by layer")
    remove_hook_from_submodules(model)
    # PEFT would arrange the model for itself by it, and write the whole base anew.
    del model.hf_device_map
    on_disk = OnDisk(found, torch.zeros(()))
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if weight.is_meta:
                stand_in = nn.Parameter(on_disk.zero.expand(weight.shape), requires_grad=False)
                setattr(module, name, stand_in)
    return on_disk


def read_when_called(model: "PreTrainedModel", on_disk: OnDisk) -> None:
    """From now on a layer, and each module outside of layers, has weights while it is called.

    model: after `take_weights`; an adapter that PEFT has put into it keeps its own.
    Raises ModelError.
    """
    for path, module in _units(model, "", frozenset(model._no_split_modules or ())):
        if missing := list(_missing(module, path, on_disk)):
            module.register_forward_pre_hook(_reader(missing, on_disk), prepend=True)
            module.register_forward_hook(_remover(missing))


def _weights_of(module: "nn.Module") -> "Mapping[str, torch.Tensor] | None":
    """What accelerate reads the module's weights from."""
    found: Any = getattr(getattr(module, "_hf_hook", None), "weights_map", None)
    while hasattr(found, "dataset"):  # the same with a prefix to each name
        found = found.dataset
    return found or None


def _units(
    model: "nn.Module", path: str, layers: frozenset[str]
) -> "Iterator[tuple[str, nn.Module]]":
    """What is read at once: a layer, else a module with weights of its own."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    own = next(model.parameters(recurse=False), None) is not None
    if own or isinstance(model, BaseTunerLayer) or type(model).__name__ in layers:
        yield path, model
        return
    for name, child in model.named_children():
        yield from _units(child, f"{path}.{name}" if path else name, layers)


def _missing(unit: "nn.Module", path: str, on_disk: OnDisk) -> "Iterator[_Missing]":
    for inner, module in unit.named_modules(remove_duplicate=False):
        for name, weight in module.named_parameters(recurse=False):
            if on_disk.is_missing(weight):
                whole = ".".join(filter(None, (path, inner, name)))
                for word in _PEFTS_WORDS:
                    whole = whole.replace(word, "")
                if whole not in on_disk.weights:
                    raise ModelError(f"the model's {whole} cannot be read layer by layer")
                yield _Missing(module, name, weight, whole)


def _reader(missing: Sequence[_Missing], on_disk: OnDisk) -> Callable[[Any, Any], None]:
    def read(_module: Any, _args: Any) -> None:
        from torch import nn

        for one in missing:
            weight = nn.Parameter(on_disk.weights[one.whole], requires_grad=False)
            setattr(one.module, one.name, weight)

    return read


def _remover(missing: Sequence[_Missing]) -> Callable[[Any, Any, Any], None]:
    def remove(_module: Any, _args: Any, _output: Any) -> None:
        for one in missing:
            setattr(one.module, one.name, one.stand_in)

    return remove
