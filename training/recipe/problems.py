"""What pydantic finds wrong with a recipe, in words: the field, the fault and the fix."""

from difflib import get_close_matches

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from training.recipe.fields import RecipeField, all_fields, fields_of
from training.recipe.recipe import Recipe

_ELSEWHERE = {
    "lr": "schedule.learning_rate",
    "r": "adapter.rank",
    "lora_r": "adapter.rank",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
    "model": "base",
    "base_model": "base",
    "model_name_or_path": "base",
    "dataset": "data.train",
    "num_train_epochs": "schedule.epochs",
    "num_epochs": "schedule.epochs",
    "max_length": "schedule.max_tokens",
    "max_seq_length": "schedule.max_tokens",
    "warmup_ratio": "schedule.warmup",
    "lr_scheduler_type": "schedule.scheduler",
    "per_device_train_batch_size": "schedule.micro_batch_size",
    "metrics": "evaluation.scorers",
}
"""What other trainers call a field."""

_SHOWN_CHARACTERS = 60
_WORDS = {"missing": "is missing", "too_short": "is empty"}


def explain(error: ValidationError) -> list[str]:
    """One line a field that is wrong."""
    lines: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        name, field, section = _find(problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines[name] = f"{name}: no such field; {_suggestion(name, section)}"
        elif problem["type"] == "value_error":
            # Of a section: its message begins with the field.
            mark = ": " if field is not None and field.section is None else "."
            lines[name] = f"{name}{mark}{problem['ctx']['error']}"
        else:
            lines[name] = f"{name}: {_fault(problem, field)}"
    return list(lines.values())


def _find(
    location: tuple[int | str, ...],
) -> tuple[str, RecipeField | None, type[BaseModel]]:
    """The dotted name, the field where it is one, and the section it stands in.

    pydantic's location also holds the alternatives of a union, which are no part of the name.
    """
    name, field = "", None
    section: type[BaseModel] = Recipe
    inner: type[BaseModel] | None = Recipe
    for part in location:
        if isinstance(part, int):
            name += f"[{part}]"
        elif inner is not None:
            section = inner
            known = {one.key: one for one in fields_of(section)}
            field = known.get(part)
            name = f"{name}.{part}" if name else part
            inner = field.section if field is not None else None
    return name, field, section


def _fault(problem: ErrorDetails, field: RecipeField | None) -> str:
    meaning = f" ({field.description.rstrip('.')})" if field is not None else ""
    wanted = "a section of fields" if field is None or field.section else field.wanted
    if isinstance(problem["loc"][-1], int):
        wanted = wanted.replace("a list of texts", "a text").replace("a list of", "one of")
    if problem["type"] in _WORDS:
        return f"{_WORDS[problem['type']]}; give {wanted}{meaning}"
    value = _shown(problem["input"])
    close = _close(problem["input"], problem)
    return f"{value} does not fit; give {wanted}{close}{meaning}"


def _close(value: object, problem: ErrorDetails) -> str:
    expected = str(problem.get("ctx", {}).get("expected", ""))
    names = [name.strip("' ") for name in expected.replace(" or ", ", ").split(",")]
    if isinstance(value, str) and (close := get_close_matches(value, names, n=1)):
        return f"; did you mean {close[0]}?"
    return ""


def _shown(value: object) -> str:
    text = "null" if value is None else str(value)
    if isinstance(value, bool):
        text = text.lower()
    short = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
    return f"`{short}`"


def _suggestion(name: str, section: type[BaseModel]) -> str:
    key = name.rpartition(".")[2]
    here = [field.key for field in fields_of(section)]
    prefix = name.removesuffix(key)
    if close := get_close_matches(key, here, n=1):
        return f"did you mean {prefix}{close[0]}?"
    if elsewhere := _elsewhere(key):
        return f"did you mean {elsewhere}?"
    return f"the fields here are {', '.join(here)}"


def _elsewhere(key: str) -> str | None:
    if key in _ELSEWHERE:
        return _ELSEWHERE[key]
    by_key = {field.key: field.name for field in all_fields()}
    close = get_close_matches(key, by_key, n=1, cutoff=0.8)
    return by_key[close[0]] if close else None
