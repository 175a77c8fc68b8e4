"""From a YAML file and `--set` to a recipe: every problem at once, each with its field and fix."""

import os
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from training.errors import RecipeError, TrainingError
from training.recipe.fields import fields_of
from training.recipe.problems import explain
from training.recipe.recipe import Recipe
from training.recipe.yaml_text import parse_value, parse_yaml

_FILES = ("data.train", "data.validation", "data.test")
_EVALUATION_FILES = ("evaluation.schema", "evaluation.regression", "evaluation.judge.key_file")

_RELATIVE = "paths are relative to the recipe's folder"
_STAND_INS: dict[str, Any] = {"data": {"train": "."}, "gates": ["forgetting <= 1"]}
"""For required parts that cannot be read."""


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in `path`, with its paths resolved against its folder.

    overrides: `FIELD=VALUE`, the value in YAML, as `schedule.epochs=2`; they win over the file.
    Raises RecipeError: one line a problem, which names the field and the fix.
    """
    content = _read(path)
    problems = [problem for one in overrides if (problem := _apply(content, one))]
    content = _without_empty_sections(content, Recipe)
    wrong: set[int | str] = set()
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        problems += explain(error)
        wrong = {problem["loc"][0] for problem in error.errors(include_url=False)}
        # The parts that are sound are looked at all the same, so that all is said at once.
        sound = {name: value for name, value in content.items() if name not in wrong}
        recipe = Recipe.model_validate(_STAND_INS | sound)
    recipe = resolve(recipe, path.absolute().parent)
    checks = [*_missing_files(recipe), *_names(recipe, wrong)]
    problems += [problem for part, problem in checks if part not in wrong]
    if problems:
        raise RecipeError("\n".join(problems))
    return recipe


def resolve(recipe: Recipe, folder: Path) -> Recipe:
    """The same recipe with every path absolute. A base that is a folder there is one too."""

    def absolute(part: BaseModel, inner: dict[str, Any] | None = None) -> Any:
        found = {
            name: _absolute(folder, value)
            for name in type(part).model_fields
            if isinstance(value := getattr(part, name), Path)
        }
        return part.model_copy(update=found | (inner or {}))

    evaluation = recipe.evaluation
    judge = evaluation.judge and absolute(evaluation.judge)
    base = _absolute(folder, Path(recipe.base))
    update = {
        "data": absolute(recipe.data),
        "evaluation": absolute(evaluation, {"judge": judge}),
        "base": str(base) if recipe.base and base.is_dir() else recipe.base,
    }
    return recipe.model_copy(update=update)


def _absolute(folder: Path, path: Path) -> Path:
    """Without `..`, which is no part of what a path names."""
    return Path(os.path.normpath(folder / path.expanduser()))


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RecipeError(f"{path.name}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path.name}: is not UTF-8; save it as UTF-8") from error
    content = parse_yaml(text, path.name)
    if not isinstance(content, dict):
        raise RecipeError(
            f"{path.name}: holds no `field: value` lines; `train --init` writes a recipe"
        )
    return content


def _apply(content: dict[str, Any], override: str) -> str | None:
    """Sets one field in `content`, or says why it cannot."""
    name, equals, text = override.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        return f"--set {override}: is no FIELD=VALUE; write it as schedule.epochs=2"
    try:
        value = parse_value(text)
    except RecipeError as error:
        return f"--set {name.strip()}: {error.message}"
    section = content
    for depth, part in enumerate(parts[:-1], start=1):
        inner = section.get(part)
        if inner is None:
            inner = section[part] = {}
        if not isinstance(inner, dict):
            return f"--set {name.strip()}: {'.'.join(parts[:depth])} has no fields of its own"
        section = inner
    section[parts[-1]] = value
    return None


def _without_empty_sections(content: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """A section whose lines are all comments is null in YAML, and means its defaults."""
    sections = {field.key: field for field in fields_of(model) if field.section is not None}
    kept = {}
    for name, value in content.items():
        field = sections.get(name)
        if field is not None and field.section is not None:
            if value is None and not field.nullable:
                value = {}
            if isinstance(value, dict):
                value = _without_empty_sections(value, field.section)
        kept[name] = value
    return kept


def _missing_files(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """(part, problem) of each file that is not there."""
    for name, is_fit in (
        *((name, Path.exists) for name in _FILES),
        *((name, Path.is_file) for name in _EVALUATION_FILES),
    ):
        value = _value(recipe, name)
        if isinstance(value, Path) and not is_fit(value):
            yield name.partition(".")[0], f"{name}: {value} is not there; {_RELATIVE}"
    if recipe.base.startswith(("/", ".", "~")) and not Path(recipe.base).is_dir():
        yield "base", f"base: {recipe.base} is no folder; {_RELATIVE}"


def _value(recipe: Recipe, name: str) -> Any:
    value: Any = recipe
    for part in name.replace("schema", "schema_file").split("."):
        value = getattr(value, part) if value is not None else None
    return value


def _names(recipe: Recipe, wrong: Container[int | str]) -> Iterator[tuple[str, str]]:
    """(part, problem) of each gate and scorer that there is not."""
    from training.evaluation.scorers import available_metrics
    from training.gates import check_gates, parse_gate

    gates, available = [], None
    for text in recipe.gates:
        try:
            gates.append(parse_gate(text))
        except TrainingError as error:
            yield "gates", error.message
    try:
        available = available_metrics(recipe.evaluation)
    except TrainingError as error:
        yield "evaluation", error.message
    if available is not None and "evaluation" not in wrong:
        try:
            check_gates(gates, available)
        except TrainingError as error:
            yield "gates", error.message
