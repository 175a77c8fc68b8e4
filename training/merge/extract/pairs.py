"""Which tensors of two checkpoints are compared as which modules. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from adapters_registry.base_model import BaseModelSpec
from adapters_registry.vllm_support import EMBEDDING_LORA
from training.merge.extract.left_out import Other
from training.merge.tensors import FLOATS, TensorInfo

Tensors = Mapping[str, TensorInfo]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models: what it is made of, and its weights by the model's names for them."""

    spec: BaseModelSpec
    tensors: Tensors

    def weight(self, path: str) -> TensorInfo | None:
        """A module's. Of tied ones the embedding's, as the files may hold one of them or both."""
        own = self.tensors.get(f"{path}.weight")
        tied = (self.spec.embedding, self.spec.head)
        if not self.spec.tied or path not in tied:
            return own
        return self.tensors.get(f"{tied[0]}.weight") or self.tensors.get(f"{tied[1]}.weight")


@dataclass(frozen=True, slots=True)
class Pair:
    """A weight in both models. modules: that have it; two where input and output are tied."""

    base: TensorInfo
    tuned: TensorInfo
    modules: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """That are read to compare them."""
        return self.base.size_bytes + self.tuned.size_bytes


def pair_up(base: Side, tuned: Side) -> tuple[tuple[Pair, ...], tuple[Other, ...]]:
    """The weights that LoRA can adapt, in the order of the base's, and all other tensors."""
    pairs: dict[tuple[str, str], Pair] = {}
    others: list[Other] = []
    used: set[TensorInfo] = set()
    for path in base.spec.modules:
        one, two = base.weight(path), tuned.weight(path)
        used |= {tensor for tensor in (one, two) if tensor is not None}
        if one is None and two is None:
            continue
        reason = _why_not(path, base.spec, one, two)
        if reason is not None or one is None or two is None:
            others.append(Other(path, reason or "", one, two))
            continue
        known = pairs.get((one.name, two.name))
        modules = (*known.modules, path) if known is not None else (path,)
        pairs[one.name, two.name] = Pair(one, two, modules)
    return tuple(pairs.values()), (*others, *_rest(base, tuned, used))


def _why_not(
    path: str, spec: BaseModelSpec, one: TensorInfo | None, two: TensorInfo | None
) -> str | None:
    """Why an adapter cannot carry the module's change; None where it can."""
    last = path.rpartition(".")[2]
    embeds = spec.modules[path].kind == "embedding" or path == spec.head or last == "lm_head"
    if embeds and last not in EMBEDDING_LORA.get(spec.architecture, ()):
        return f"vLLM applies no LoRA to it in a {spec.architecture}"
    if one is None or two is None or one.shape != two.shape:
        return "the two models differ in it"
    if len(one.shape) != 2 or {one.dtype, two.dtype} - FLOATS:
        return "it is no matrix of float32, float16 or bfloat16"
    return None


def _rest(base: Side, tuned: Side, used: set[TensorInfo]) -> Iterator[Other]:
    for name in {**base.tensors, **tuned.tensors}:
        one, two = _unused(name, base, used), _unused(name, tuned, used)
        if one is not None or two is not None:
            yield Other(name, "LoRA adapts no such tensor", one, two)


def _unused(name: str, side: Side, used: set[TensorInfo]) -> TensorInfo | None:
    """The tensor, unless a module has it, or has the one that it is tied to in its place."""
    found = side.tensors.get(name)
    tied = side.spec.tied and name == f"{side.spec.head}.weight"
    return None if tied or found in used else found
