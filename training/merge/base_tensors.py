"""The base's tensors, by the names that the model has for them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from adapters_registry.base_model import BaseModelSpec
from training.merge.tensors import TensorInfo


@dataclass(frozen=True, slots=True)
class BaseTensors:
    """tensors: by their names in the files, in their order. names: in the files by the name in
    the model, where the two differ."""

    spec: BaseModelSpec
    tensors: Mapping[str, TensorInfo]
    names: Mapping[str, str] = field(default_factory=dict)

    def at(self, name: str) -> TensorInfo | None:
        """The tensor that the model knows by this name."""
        return self.tensors.get(self.names.get(name, name)) or self.tensors.get(name)

    @property
    def embeddings(self) -> tuple[str, str]:
        """The weights of the input embedding and of the output head, by their names."""
        return f"{self.spec.embedding}.weight", f"{self.spec.head}.weight"

    @property
    def tied(self) -> tuple[str, ...]:
        """Those two where they are one weight: the files may hold only one of them."""
        return self.embeddings if self.spec.tied else ()

    def kept_type(self, name: str) -> str:
        """The type that the base keeps a tensor in, which its new values are rounded to.

        A tensor that the base has not is a tied embedding's.
        """
        found = self.at(name) or next(filter(None, map(self.at, self.embeddings)))
        return found.dtype
