"""What `train --init` writes: a commented recipe, made from the fields and a look at the data."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from training.recipe.data_look import DataLook, look_at
from training.recipe.fields import RecipeField, fields_of

_HEAD = """\
# A recipe: what `train` learns from, how, and what the adapter must show to pass.
# Every field is here with its default, or with what was chosen from a look at the data.
# Paths are relative to this file's folder. Decide the gates, at the end, before the first run.
"""
_WIDTH = 98
_FORGETTING = "forgetting <= 0.1"
_REPLAY = 0.1
"""Measured on a narrow task: with it forgetting stayed under 0, without it was 1.4 nats a token."""
_LONG_ANSWER_CHARACTERS = 512
"""Above it the default limit of an answer's tokens might be too low."""
_DPO_RATE = 5e-5


def recipe_template(data: Path, recipe_folder: Path) -> str:
    """The commented YAML, which loads as it is. Raises TrainingError for data that cannot be read.

    recipe_folder: where the recipe will lie.
    """
    look = look_at(data)
    chosen = _chosen(look, recipe_folder)
    return _HEAD + "\n".join(_section(fields_of(), chosen, "")) + "\n"


def _chosen(look: DataLook, recipe_folder: Path) -> dict[str, Any]:
    """What differs from the defaults, by dotted name."""
    chosen: dict[str, Any] = {
        name: Path(os.path.relpath(path, recipe_folder)).as_posix()
        for name, path in look.files.items()
    }
    if look.template is not None:
        chosen["data.template"] = look.template.model_dump(exclude_none=True)
    scorers, gates = _judged_by(look)
    chosen |= {"evaluation.scorers": scorers, "gates": [*gates, _FORGETTING]}
    if look.kind == "preference":
        chosen |= {"method": "dpo", "schedule.learning_rate": _DPO_RATE}
    else:
        chosen["data.replay"] = _REPLAY
    if look.longest_answer > _LONG_ANSWER_CHARACTERS:
        # A token of most languages is two characters or more.
        chosen["evaluation.max_tokens"] = _power_of_two(look.longest_answer // 2)
    return chosen


def _judged_by(look: DataLook) -> tuple[list[str], list[str]]:
    """Scorers, and gates on their metrics."""
    if look.kind == "preference":
        return ["token_f1", "chrf", "length"], ["no worse: token_f1 by 0.05"]
    if look.answers == "json":
        gates = ["improves: json_fields.f1 by 0.05", "json_valid >= 0.95"]
        if look.class_key is not None:
            gates.append(f"improves: json_fields.{look.class_key}.recall by 0.05")
        return ["json_valid", "json_fields", "exact_match"], gates
    if look.answers == "classes":
        return ["exact_match", "classification"], ["improves: exact_match by 0.05"]
    return ["token_f1", "chrf", "length", "repetition"], ["improves: token_f1 by 0.05"]


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _section(
    fields: Iterator[RecipeField], chosen: Mapping[str, Any], indent: str
) -> Iterator[str]:
    for field in fields:
        yield ""
        yield from _comment(field, indent)
        value = chosen.get(field.name, _plain(field.default))
        if field.section is None:
            yield from _line(field, value, indent)
        elif not field.nullable:
            yield f"{indent}{field.key}:"
            inner = fields_of(field.section, f"{field.name}.")
            yield from list(_section(inner, chosen, f"{indent}  "))[1:]
        else:
            yield from _optional(field, value, indent)


def _optional(field: RecipeField, values: Any, indent: str) -> Iterator[str]:
    """A section that may be left out: its values, or how it would look."""
    assert field.section is not None
    start = f"{indent}{field.key}:"
    yield start if values else f"{start} null"
    for inner in fields_of(field.section, f"{field.name}."):
        if values and inner.key in values:
            yield f"{indent}  {inner.key}: {_text(values[inner.key])}"
        else:
            yield f"{indent}  # {inner.key}: {inner.description}"


def _comment(field: RecipeField, indent: str) -> Iterator[str]:
    words = f"{field.description}{_allowed(field)}".split()
    line = f"{indent}#"
    for word in words:
        if len(line) + 1 + len(word) > _WIDTH:
            yield line
            line = f"{indent}#"
        line += f" {word}"
    yield line


def _allowed(field: RecipeField) -> str:
    from training.evaluation.scorers.catalogue import SCORERS

    if field.section is not None or field.key == "gates":
        return ""
    if field.name == "evaluation.scorers":
        return f" (of {', '.join(SCORERS)})"
    return f" ({field.wanted}{', or null' if field.nullable else ''})"


def _line(field: RecipeField, value: Any, indent: str) -> Iterator[str]:
    if field.key == "gates":
        yield f"{indent}{field.key}:"
        yield from (f"{indent}  - {_text(gate)}" for gate in value)
    else:
        yield f"{indent}{field.key}: {_text(value)}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    """One value in YAML, on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()
