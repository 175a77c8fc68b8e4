"""The recipe that `train --init` writes, and the page of every field."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from training.errors import TrainingError
from training.recipe.fields import all_fields, fields_of
from training.recipe.loading import load_recipe
from training.recipe.recipe import Recipe
from training.recipe.template import recipe_template

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "recipe.md"


def _write(path: Path, answers: Sequence[str]) -> Path:
    rows = [{"prompt": f"Question {i}", "completion": text} for i, text in enumerate(answers)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _loaded(data: Path, folder: Path) -> Recipe:
    """The template's recipe, in a folder of its own."""
    folder.mkdir()
    (folder / "recipe.yaml").write_text(recipe_template(data, folder))
    return load_recipe(folder / "recipe.yaml")


def _values(recipe: Recipe) -> dict[str, Any]:
    return {
        f"{part}.{name}": value
        for part, values in recipe.model_dump().items()
        if isinstance(values, dict)
        for name, value in values.items()
    }


def test_the_template_loads_and_has_the_defaults_of_all_that_was_not_chosen(tmp_path: Path) -> None:
    data = _write(tmp_path / "rows.jsonl", [f"Some words, {i} of them" for i in range(20)])
    loaded = _loaded(data, tmp_path / "recipes")
    plain = Recipe.model_validate({"data": {"train": data}, "gates": ["forgetting <= 0.1"]})
    differing = {name for name, value in _values(plain).items() if _values(loaded)[name] != value}
    assert differing == {"data.replay", "evaluation.scorers"}
    assert loaded.data.train == data
    assert loaded.evaluation.scorers == ("token_f1", "chrf", "length", "repetition")


def test_the_template_names_and_explains_every_field(tmp_path: Path) -> None:
    text = recipe_template(_write(tmp_path / "rows.jsonl", ["a b", "c d"]), tmp_path)
    named = set(re.findall(r"^ *(?:# )?([a-z_]+):", text, flags=re.M))
    assert {field.key for field in all_fields()} <= named
    words = " ".join(text.replace("#", " ").split())
    assert [one.name for one in all_fields() if one.description not in words] == []
    assert max(map(len, text.splitlines())) <= 100


def test_json_answers_are_judged_by_their_fields(tmp_path: Path) -> None:
    intents = [json.dumps({"intent": f"Kind{i % 3}", "slots": {"n": str(i)}}) for i in range(30)]
    loaded = _loaded(_write(tmp_path / "rows.jsonl", intents), tmp_path / "recipes")
    assert loaded.evaluation.scorers == ("json_valid", "json_fields", "exact_match")
    assert "improves: json_fields.intent.recall by 0.05" in loaded.gates


def test_a_csv_of_classes_gets_its_columns_and_files_beside_it(tmp_path: Path) -> None:
    for name in ("train", "test"):
        lines = "".join(f"Question {i},kind {i % 3}\n" for i in range(30))
        (tmp_path / f"{name}.csv").write_text("text,category\n" + lines)
    loaded = _loaded(tmp_path / "train.csv", tmp_path / "recipes")
    assert loaded.data.test == tmp_path / "test.csv"
    assert loaded.data.template is not None
    assert (loaded.data.template.prompt, loaded.data.template.answer) == ("{text}", "{category}")
    assert loaded.evaluation.scorers == ("exact_match", "classification")


def test_preferences_get_dpo_at_a_rate_that_suits_it(tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    data.write_text('{"prompt": "Hi", "chosen": "Good day.", "rejected": "What?"}\n')
    loaded = _loaded(data, tmp_path / "recipes")
    assert loaded.method == "dpo"
    assert loaded.schedule.learning_rate < 1e-4


def test_long_answers_may_be_given_whole(tmp_path: Path) -> None:
    data = _write(tmp_path / "rows.jsonl", ["word " * 400, "short"])
    assert _loaded(data, tmp_path / "recipes").evaluation.max_tokens == 1024


@pytest.mark.parametrize(
    ("content", "problem"),
    [("", "has no rows"), ('{"messages": []}\n', "no row can be used"), ("[{}]", "one JSON list")],
)
def test_data_that_holds_no_rows_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(content)
    with pytest.raises(TrainingError, match=problem):
        recipe_template(data, tmp_path)


def test_every_field_says_what_it_means() -> None:
    assert [field.name for field in all_fields() if not field.description] == []
    assert [field.name for field in fields_of() if not field.description] == []


def test_the_page_of_the_recipe_is_the_printed_one() -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts" / "recipe_reference.py"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ).stdout
    fix = "run: .venv/bin/python scripts/recipe_reference.py > docs/recipe.md"
    assert printed == PAGE.read_text(), fix


def test_the_page_has_every_field_and_its_example_is_a_recipe() -> None:
    page = PAGE.read_text()
    documented = re.findall(r"^\| `([a-z_.]+)` \|", page, flags=re.M)
    assert sorted(documented) == sorted(field.name for field in all_fields())
    example = page.partition("```yaml\n")[2].partition("```")[0]
    assert Recipe.model_validate(yaml.safe_load(example)).gates
