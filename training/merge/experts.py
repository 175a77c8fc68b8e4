"""LoRA on the fused parameters of a mixture of experts, as LoRA of each expert's own weights.

transformers keeps the experts of a layer in one parameter of three axes, and PEFT adapts it as a
whole (`target_parameters`). Most checkpoints have a tensor for each expert. Pure but for `load`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters_registry.safetensors_header import shown
from training.errors import MergeError
from training.merge.adapter_config import AdapterConfig
from training.merge.adapter_keys import Role
from training.merge.lora import LoraShape
from training.merge.reading import read_tensor
from training.merge.tensors import TensorInfo

if TYPE_CHECKING:  # seconds to import
    import torch

    from training.merge.names import ExpertPlace

Modules = Mapping[str, Mapping[Role, TensorInfo]]


@dataclass(frozen=True, slots=True)
class ExpertPart:
    """One expert's share of a fused parameter's LoRA.

    a: (experts * rank, in_features), an expert's rows together. b: (out_features, rank * experts),
    an expert's columns `experts` apart. start, stop: the expert's rows of B for this weight, which
    may be one of several that are fused (gate and up).
    """

    a: TensorInfo
    b: TensorInfo
    scaling: float
    rank: int
    expert: int
    start: int
    stop: int

    @property
    def shape(self) -> LoraShape:
        """Of the expert's weight."""
        return LoraShape("linear", self.stop - self.start, self.a.shape[1])

    def load(self) -> "tuple[torch.Tensor, torch.Tensor]":
        """A (rank, in_features) and B (out_features, rank). Raises MergeError."""
        first = self.expert * self.rank
        a = read_tensor(self.a, slice(first, first + self.rank))
        b = read_tensor(self.b, slice(self.start, self.stop))
        return a, b.view(self.stop - self.start, self.rank, -1)[:, :, self.expert].contiguous()


def unfold(
    modules: Modules, config: AdapterConfig, places: Mapping[str, "ExpertPlace"]
) -> tuple[dict[str, ExpertPart], set[str]]:
    """Every expert's part, by the module that holds it in the base's files.

    places: of the base's experts, by their tensors' names there. Gives back too which of the
    adapter's modules were LoRA on fused parameters. Raises MergeError.
    """
    parts: dict[str, ExpertPart] = {}
    used: set[str] = set()
    for name, place in places.items():
        key = _key(place, config)
        if key is None:
            continue
        if key not in modules or not {"a", "b"} <= modules[key].keys():
            raise MergeError(
                f"target_parameters names {place.module}.{place.parameter}, and the adapter holds"
                " no LoRA for it: save it again, or name the base it was trained on"
            )
        used.add(key)
        parts[name.removesuffix(".weight")] = _part(place, modules[key], config)
    return parts, used


def is_bare(parameter: str) -> bool:
    """Whether LoRA on it is another thing than LoRA on a module, whose weight it is."""
    return not parameter.endswith(".weight")


def check_unfolded(modules: Modules, used: set[str], config: AdapterConfig) -> None:
    """Raises MergeError for LoRA on fused parameters whose experts are not apart in the base."""
    bare = [name for name in config.parameters if is_bare(name)]
    if bare and not used:
        raise MergeError(
            f"target_parameters: {', '.join(map(shown, bare))}: this is merged into bases whose"
            " files hold each expert apart, and this one's do not, or it has no experts: merge with"
            " PEFT"
        )
    beneath = [path for path in modules if path.endswith(".base_layer") and path not in used]
    if beneath:
        raise MergeError(
            f"{beneath[0]}: LoRA on a bare parameter that the base keeps in no way known here"
        )


def _key(place: "ExpertPlace", config: AdapterConfig) -> str | None:
    """The adapter's name for the LoRA of the place's parameter. PEFT nests one in another."""
    names = [f"{place.module}.{parameter}" for parameter in place.parameters]
    wanted = tuple(f".{target}" for target in config.parameters)
    adapted = [name for name in names if f".{name}".endswith(wanted)]
    own = f"{place.module}.{place.parameter}"
    if own not in adapted:
        return None
    return place.module + ".base_layer" * (len(adapted) - 1 - adapted.index(own))


def _part(
    place: "ExpertPlace", roles: Mapping[Role, TensorInfo], config: AdapterConfig
) -> ExpertPart:
    a, b = roles["a"], roles["b"]
    name = f"{place.module}.{place.parameter}"
    rank = config.rank_of(name)
    if a.shape[0] != rank * place.experts or b.shape[1:] != (rank * place.experts,):
        raise MergeError(
            f"{name}: A is {list(a.shape)} and B {list(b.shape)}, and the base has {place.experts}"
            f" experts, the configuration rank {rank}: it was made for another base"
        )
    rows = b.shape[0] // place.parts
    start = place.part * rows
    return ExpertPart(a, b, config.scaling_of(name), rank, place.expert, start, start + rows)
