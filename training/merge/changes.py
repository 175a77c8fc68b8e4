"""What an adapter does to each tensor of the model, by the model's own names. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from adapters_registry.base_model import BaseModelSpec
from training.errors import MergeError
from training.merge.base_tensors import BaseTensors
from training.merge.loaded import Loaded
from training.merge.lora import LoraShape, LoraSource, TokenRows
from training.merge.reading import read_tensor
from training.merge.tensors import TensorInfo, Update
from training.merge.updates.bias import AddBias
from training.merge.updates.dora import ColumnDora, RowDora
from training.merge.updates.low_rank import LowRank
from training.merge.updates.token_rows import ReplaceRows

_NARROW = frozenset({"BF16", "F16"})


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a tensor.

    saved: what the adapter carries in its place. shape: of the update, as LoRA's A and B have it,
    None where there is none. path: of the module whose LoRA is applied. tokens: rows replaced.
    """

    saved: TensorInfo | None = None
    path: str | None = None
    shape: LoraShape | None = None
    tokens: TokenRows | None = None


def changes(source: LoraSource) -> dict[str, Change]:
    """By the tensor's name in the model. Raises MergeError where two would be on one tensor."""
    found = {name: Change(saved=info) for name, info in source.saved.items()}
    for path in source.paths:
        shape = source.shapes[path]
        for name in [f"{path}.weight", *([f"{path}.bias"] if shape.bias else [])]:
            found[name] = Change(found.get(name, Change()).saved, path, shape)
    for path, tokens in source.tokens.items():
        name = f"{path}.weight"
        if name in found:
            raise MergeError(
                f"{path}: the adapter has LoRA, or the whole module, and trained tokens too, which"
                " PEFT does not define together: train it again with one of them"
            )
        found[name] = Change(tokens=tokens)
    return found


def update_of(
    name: str, change: Change, at: TensorInfo, base: BaseTensors, loaded: Loaded
) -> Update | None:
    """The update of the tensor `name`, which begins as `at`, if there is one.

    Raises MergeError where the shapes do not fit.
    """
    spec, narrow = base.spec, base.kept_type(name) in _NARROW
    if change.tokens is not None:
        return _rows(name, change.tokens, at)
    if change.path is None or change.shape is None:
        return None
    path, shape = change.path, change.shape
    if name == f"{path}.bias":
        _check_shape(name, at, [(shape.out_features,)], spec)
        return AddBias(partial(loaded.bias, path), narrow)
    turned = _is_turned(name, path, shape, at, spec)
    factors = partial(loaded.factors, path, turned)
    if not shape.magnitude:
        return LowRank(factors, narrow)
    kind = ColumnDora if turned else RowDora
    return kind(lambda: (factors(), loaded.magnitude(path)), narrow)


def _is_turned(name: str, path: str, shape: LoraShape, at: TensorInfo, spec: BaseModelSpec) -> bool:
    """Whether the weight lies as (in_features, out_features): embeddings, GPT-2's layers."""
    straight = (shape.out_features, shape.in_features)
    module = spec.modules.get(path)
    if shape.kind == "embedding" or (module is not None and module.fan_in_fan_out):
        _check_shape(name, at, [straight[::-1]], spec)
        return True
    if module is not None:
        _check_shape(name, at, [straight], spec)
        return False
    _check_shape(name, at, [straight, straight[::-1]], spec)
    return at.shape != straight


def _check_shape(
    name: str, at: TensorInfo, fitting: Iterable[tuple[int, ...]], spec: BaseModelSpec
) -> None:
    fitting = list(fitting)
    if at.shape not in fitting:
        raise MergeError(
            f"{name} is {_shown(at.shape)} in the base and {_shown(fitting[0])} in the adapter,"
            f" which was made for another base than {spec.name}"
        )


def _shown(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _rows(name: str, tokens: TokenRows, at: TensorInfo) -> ReplaceRows:
    if tokens.rows.shape[1:] != at.shape[1:] or max(tokens.indices, default=0) >= at.shape[0]:
        raise MergeError(
            f"{name} is {_shown(at.shape)} in the base, and the adapter's trained tokens are"
            f" {_shown(tokens.rows.shape)}, the highest number {max(tokens.indices, default=0)}:"
            " it was made for another base, or one with more tokens"
        )
    return ReplaceRows(tokens.indices, partial(read_tensor, tokens.rows))
