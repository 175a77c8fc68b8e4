"""Where a base's modules lie in its files: transformers renames tensors while it loads them.

Run as a program it answers for one model: `python -m training.merge.names MODEL_DIR NAMES OUT`,
NAMES being a JSON list of the names in the files.
"""

import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from adapters_registry.base_model import BaseModelSpec, build
from adapters_registry.child import CHILD_FLAG, run_child, serve_parent
from adapters_registry.errors import ModelError
from training.errors import MergeError
from training.merge.lora import LoraSource

if TYPE_CHECKING:  # seconds to import
    from transformers import PreTrainedModel
    from transformers.core_model_loading import WeightConverter

_FORMAT = 1
_STACKED = ([("MergeModulelist", 0)], [("MergeModulelist", 0), ("Concatenate", 1)])
_EXPERT = re.compile(r"\.experts\.(\d+)\.")


class ExpertPlace(BaseModel):
    """Where one expert's weight lies in the model: in a parameter (experts, out, in) of a module.

    parameters: all that the module has, in their order. expert: of `experts`. part: which of
    `parts` equal blocks of rows it is, where several weights (gate and up) are fused.
    """

    model_config = ConfigDict(frozen=True)

    module: str
    parameter: str
    parameters: tuple[str, ...]
    expert: int
    experts: int
    part: int
    parts: int


class BaseNames(BaseModel):
    """names: in the files by the name in the model, where a tensor goes over as it is but the two
    differ. experts: the places of experts' weights, by their names in the files."""

    model_config = ConfigDict(frozen=True)

    names: dict[str, str] = {}
    experts: dict[str, ExpertPlace] = {}


def needs_names(names: Iterable[str], spec: BaseModelSpec, source: LoraSource) -> bool:
    """Whether something that the adapter changes is not in the files under its module's name."""
    there = set(names)
    head = f"{spec.head}.weight" if spec.tied else None
    wanted = {f"{path}.weight" for path in (*source.paths, *source.tokens)} | source.saved.keys()
    return not wanted <= there | {head}


def load_names(base: Path, names: Iterable[str], cache_dir: Path) -> BaseNames:
    """What transformers makes of the names in a base's files.

    Found in a process of its own and kept in `cache_dir`. Raises MergeError.
    """
    listed = json.dumps(sorted(names))
    config = (base / "config.json").read_bytes()
    digest = hashlib.sha256(f"{_FORMAT}\n{listed}\n".encode() + config).hexdigest()
    cached = cache_dir / "base-models" / f"names-{digest}.json"
    try:
        return BaseNames.model_validate_json(cached.read_bytes())
    except (OSError, ValidationError):
        pass
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(listed)
            file.flush()
            run_child("training.merge.names", [str(base), file.name, str(cached)])
        return BaseNames.model_validate_json(cached.read_bytes())
    except ModelError as error:
        raise MergeError(error.message) from error
    except (OSError, ValidationError) as error:
        raise MergeError(f"{cached.parent}: the names of the base cannot be kept there") from error


def find_names(base: Path, names: Iterable[str]) -> BaseNames:
    """`load_names` in this process. Imports transformers. Raises ModelError."""
    _, model = build(base)
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    tensors = model.state_dict()
    steps = get_model_conversion_mapping(model)
    renamings = [step for step in steps if isinstance(step, WeightRenaming)]
    converters = [step for step in steps if isinstance(step, WeightConverter)]
    by_pattern = {pattern: step for step in converters for pattern in step.source_patterns}
    found = BaseNames()
    for name in names:
        inner, pattern = rename_source_key(
            name, renamings, converters, model.base_model_prefix, tensors
        )
        if inner not in tensors:
            continue
        if pattern is None and inner != name:
            found.names[inner] = name
        elif pattern is not None:
            place = _expert_place(model, name, inner, by_pattern[pattern], pattern)
            if place is not None:
                found.experts[name] = place
    return found


def _expert_place(
    model: "PreTrainedModel", name: str, inner: str, step: "WeightConverter", pattern: str
) -> ExpertPlace | None:
    """None where transformers does more than to stack experts and to put weights side by side."""
    done = [
        (type(operation).__name__, operation.dim)
        for operation in step.operations
        if hasattr(operation, "dim")
    ]
    number = _EXPERT.search(name)
    module, _, parameter = inner.rpartition(".")
    holder = model.get_submodule(module)
    if number is None or done not in _STACKED or len(done) != len(step.operations):
        return None
    if getattr(holder, "is_transposed", False):
        return None
    return ExpertPlace(
        module=module,
        parameter=parameter,
        parameters=tuple(own for own, _ in holder.named_parameters(recurse=False)),
        expert=int(number[1]),
        experts=getattr(holder, parameter).shape[0],
        part=step.source_patterns.index(pattern),
        parts=len(step.source_patterns),
    )


def _write(base: Path, names: Path, out: Path) -> None:
    """Whole or not at all, also when two processes write the same."""
    found = find_names(base, json.loads(names.read_text()))
    aside = out.with_name(f"{out.name}.{os.getpid()}")
    aside.write_text(found.model_dump_json(indent=1))
    aside.replace(out)


def main() -> int:
    """Names the tensors of the model in the first argument."""
    paths = [Path(word) for word in sys.argv[1:] if word != CHILD_FLAG]
    if len(paths) != 3:
        sys.stderr.write("usage: python -m training.merge.names MODEL_DIR NAMES OUT\n")
        return 2
    return serve_parent(lambda _report: _write(*paths))


if __name__ == "__main__":
    sys.exit(main())
