"""Input and output embeddings that share one weight: whether an adapter leaves them one.

PEFT's model with the adapter is what a merge reproduces, not PEFT's merge, which adds the update
of one to both (peft#2018). There LoRA, and a copy to save, are of their module alone; what PEFT
loads over the base's own weight, and trained tokens, are of both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from training.errors import MergeError
from training.merge.base_tensors import BaseTensors
from training.merge.changes import Change
from training.merge.lora import LoraSource
from training.merge.reading import read_tensor
from training.merge.tensors import TensorInfo


@dataclass(frozen=True, slots=True)
class Placed:
    """What changes, with the tensor that each begins as, by their names in the model.

    untied: whether embeddings that were one weight no longer are.
    """

    starts: Mapping[str, TensorInfo]
    changes: Mapping[str, Change]
    untied: bool = False


def place(changes: Mapping[str, Change], source: LoraSource, base: BaseTensors) -> Placed:
    """changes: all of them in the base, or tied. Raises MergeError.

    Where both embeddings change, it may read what the adapter holds of them, to compare it.
    """
    if not any(name in changes for name in base.tied):
        return Placed({name: _begin(name, c, base) for name, c in changes.items()}, changes)
    embedding, head = base.embeddings
    own = {name: changes.get(name, Change()) for name in base.embeddings}
    if own[head] == Change() and own[embedding].tokens is not None:
        own[head] = own[embedding]
    first = {name: _begin_tied(name, own, source.shared, base) for name in own}
    equal = _same_start(first[embedding], first[head], base) and _same_change(
        own[embedding], own[head], source
    )
    kept = [name for name in own if not equal or base.at(name) is not None]
    rest = {name: change for name, change in changes.items() if name not in own}
    starts = {name: _begin(name, change, base) for name, change in rest.items()}
    return Placed(
        starts={**{name: first[name] for name in kept}, **starts},
        changes={**{name: replace(own[name], saved=None) for name in kept}, **rest},
        untied=not equal,
    )


def _begin(name: str, change: Change, base: BaseTensors) -> TensorInfo:
    found = change.saved or base.at(name)
    assert found is not None, name  # the caller knows that the base has it
    return found


def _begin_tied(
    name: str, own: Mapping[str, Change], shared: frozenset[str], base: BaseTensors
) -> TensorInfo:
    """The module's own copy, or what replaced the weight of both, or the base's."""
    saved = own[name].saved
    if saved is not None and name not in shared:
        return saved
    for either, change in own.items():
        if change.saved is not None and either in shared:
            return change.saved
    found = base.at(name) or next(filter(None, map(base.at, own)), None)
    if found is None:
        raise MergeError(f"the base holds none of {', '.join(own)}: its files are incomplete")
    return found


def _same_start(one: TensorInfo, two: TensorInfo, base: BaseTensors) -> bool:
    stored = {base.at(name) for name in base.embeddings}
    if one == two or {one, two} == stored:
        return True
    if {one, two} & stored or (one.shape, one.dtype) != (two.shape, two.dtype):
        return False
    return bool((read_tensor(one) == read_tensor(two)).all())


def _same_change(embedding: Change, head: Change, source: LoraSource) -> bool:
    """Whether both do the same, as with PEFT's `ensure_weight_tying`."""
    if embedding.path is None or head.path is None:
        return (embedding.path, embedding.tokens) == (head.path, head.tokens)
    if any(change.shape is None or change.shape.magnitude for change in (embedding, head)):
        return False
    one, two = source.load(embedding.path), source.load(head.path)
    return (
        one.scaling == two.scaling
        and one.a.shape == two.b.T.shape
        and one.b.shape == two.a.T.shape
        and bool((one.a == two.b.T).all())
        and bool((one.b == two.a.T).all())
    )
