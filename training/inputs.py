"""What a run is made from: the recipe, the base, and all that can be checked without its rows."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_registry.base_model import BaseModelSpec, load_spec
from adapters_registry.models import resolve_model
from training.data.rows import Row
from training.errors import TrainingError
from training.evaluation.engines import Progress
from training.recipe.recipe import Recipe
from training.run_folder import run_digest

if TYPE_CHECKING:  # scipy, and more behind it: only a run pays for it
    from training.evaluation.scorers import Scorer
    from training.gates import Gate

UNSERVED_METHODS = frozenset({"dora"})
"""Their adapters are refused by vLLM: they can only be merged into the base."""

_SHOWN_ROWS = 5


@dataclass(frozen=True, slots=True)
class Inputs:
    """A recipe that can be run, as far as is known without its rows.

    base: the model's folder. regression: the rows of `evaluation.regression`.
    """

    recipe: Recipe
    base: Path
    spec: BaseModelSpec
    gates: "tuple[Gate, ...]"
    scorers: "tuple[Scorer, ...]"
    regression: Sequence[Row]
    num_processes: int
    progress: Progress

    @property
    def servable(self) -> bool:
        """Whether vLLM can serve what comes out."""
        return self.recipe.method not in UNSERVED_METHODS

    def digest(self) -> str:
        """Of all that the result depends on: fields, files by their content, the base."""
        fields = self.recipe.model_dump(by_alias=True, exclude={"base"})
        return run_digest(
            {
                "recipe": json.dumps(_by_content(fields), sort_keys=True, default=str),
                "base": self.spec.model_dump_json(exclude={"modules"}),
                "weights": json.dumps(sorted(_weights(self.base))),
            }
        )


def read_inputs(
    recipe: Recipe, cache_dir: Path, *, num_processes: int, progress: Progress
) -> Inputs:
    """Raises RecipeError for gates that nothing measures, ModelError for a base that is not there,
    TrainingError for regression rows that cannot be used.
    """
    from training.evaluation.scorers import available_metrics, make_scorers
    from training.gates import check_gates, parse_gate

    gates = tuple(parse_gate(text) for text in recipe.gates)
    check_gates(gates, available_metrics(recipe.evaluation))
    scorers = tuple(make_scorers(recipe.evaluation.scorers, recipe.evaluation))
    progress("looking at the base model", None)
    base = resolve_model(recipe.base, cache_dir, report=progress)
    return Inputs(
        recipe=recipe,
        base=base,
        spec=load_spec(base, cache_dir),
        gates=gates,
        scorers=scorers,
        regression=_regression(recipe.evaluation.regression),
        num_processes=num_processes,
        progress=progress,
    )


def _regression(file: Path | None) -> Sequence[Row]:
    from training.data.readers import read_rows

    if file is None:
        return ()
    found = read_rows(file)
    if found.bad:
        told = "\n".join(f"  {error.message}" for error in found.bad[:_SHOWN_ROWS])
        raise TrainingError(f"evaluation.regression: {len(found.bad)} rows cannot be used:\n{told}")
    return found.rows


def _by_content(value: Any) -> Any:
    """The value with each path replaced by what lies there; of a key's file only the name."""
    if isinstance(value, Mapping):
        return {
            name: str(inner) if name == "key_file" else _by_content(inner)
            for name, inner in value.items()
        }
    if isinstance(value, Path):
        return sorted(_hashes(value))
    return value


def _hashes(path: Path) -> Iterator[str]:
    """Of a file, or of the files in a folder with their names."""
    if path.is_dir():
        for file in path.iterdir():
            if file.is_file():
                yield f"{file.name} {_sha256(file)}"
    else:
        yield _sha256(path)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _weights(base: Path) -> Iterator[str]:
    """The weights' files with their sizes: to read a large model takes minutes."""
    for file in base.glob("*.safetensors"):
        yield f"{file.name} {file.stat().st_size}"
