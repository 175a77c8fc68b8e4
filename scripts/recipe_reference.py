"""Prints docs/recipe.md, made from the recipe's fields themselves."""

import sys
from typing import Any

from training.evaluation.scorers.catalogue import SCORERS
from training.recipe.fields import RecipeField, fields_of

HEAD = """\
# The recipe

Every field of the YAML that `loraplex train RECIPE.yaml` runs. `loraplex train --init --data FILE
--out RECIPE.yaml` writes one with a comment on every field, its scorers and gates chosen from a
look at the data. Three lines are enough:

```yaml
data: {train: intents.jsonl}
gates:
  - "improves: exact_match by 0.05"
```

Paths are relative to the recipe's folder. An unknown field is an error that names the nearest one,
and a key that stands twice is one too. `--set FIELD=VALUE` wins over the file; the value is YAML:
`--set schedule.epochs=2 --set 'evaluation.scorers=[exact_match, chrf]'`.

Everything is checked before the first step, and all reasons are given at once: that the base's
chat template takes the rows and ends an answer with a token that stops the model, that no row is
longer than it may be (none is ever cut), that the base has the modules and vLLM serves them, that
the gates speak of something that is measured, and that the run fits into memory.

This page is printed by `scripts/recipe_reference.py`; a test compares them.
"""


def reference() -> str:
    """The whole page."""
    parts = [HEAD, *_sections(list(fields_of()), "The run")]
    scorers = ", ".join(f"`{name}`" for name in SCORERS)
    return "\n".join(parts) + f"\n## Scorers\n\n{scorers}.\n"


def _sections(fields: list[RecipeField], title: str) -> list[str]:
    """A table of the fields that hold a value, then the sections among them, each its own."""
    parts = [f"## {title}", "", *_table([one for one in fields if one.section is None]), ""]
    for field in fields:
        if field.section is not None:
            inner = list(fields_of(field.section, f"{field.name}."))
            parts += _sections(inner, f"`{field.name}`: {_uncapitalized(field)}")
    return parts


def _uncapitalized(field: RecipeField) -> str:
    words = field.description.rstrip(".")
    return words[0].lower() + words[1:]


def _table(fields: list[RecipeField]) -> list[str]:
    rows = ["| field | takes | default | meaning |", "| --- | --- | --- | --- |"]
    for field in fields:
        default = "required" if field.required else _shown(field.default)
        cells = (f"`{field.name}`", field.wanted, default, field.description)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "unset"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
