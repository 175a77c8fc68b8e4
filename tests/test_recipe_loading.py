"""Recipes from YAML and `--set`: every problem at once, with its field and the fix."""

from pathlib import Path

import pytest

from training.errors import RecipeError
from training.recipe.loading import load_recipe
from training.recipe.recipe import Recipe

LEAST = """\
data: {train: rows.jsonl}
gates: ["improves: exact_match by 0.05"]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The least recipe, beside the file that it names."""
    (tmp_path / "rows.jsonl").touch()
    path = tmp_path / "recipe.yaml"
    path.write_text(LEAST)
    return path


def _problems(path: Path, text: str | None = None, *overrides: str) -> list[str]:
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return caught.value.message.splitlines()


def test_the_least_recipe_has_every_default(recipe: Path) -> None:
    loaded = load_recipe(recipe)
    least = {"data": {"train": recipe.parent / "rows.jsonl"}, "gates": loaded.gates}
    assert loaded == Recipe.model_validate(least)


def test_paths_are_those_of_the_recipes_folder(recipe: Path) -> None:
    inner = recipe.parent / "inner"
    inner.mkdir()
    for name in ("../base/config.json", "../schema.json", "../key", "../test.jsonl"):
        file = inner / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}")
    (inner / "recipe.yaml").write_text("""\
base: ../base
data: {train: ../rows.jsonl, test: ../test.jsonl, validation: 1e-1}
evaluation:
  schema: ../schema.json
  judge: {url: "https://judge/v1", model: big, key_file: ../key}
gates: ["json_valid >= 0.9"]
""")
    loaded = load_recipe(inner / "recipe.yaml", ["evaluation.scorers=[json_valid]"])
    outer = recipe.parent
    assert loaded.base == str(outer / "base")
    assert (loaded.data.train, loaded.data.test) == (outer / "rows.jsonl", outer / "test.jsonl")
    assert loaded.data.validation == 0.1
    assert loaded.evaluation.schema_file == outer / "schema.json"
    assert loaded.evaluation.judge is not None
    assert loaded.evaluation.judge.key_file == outer / "key"


def test_every_problem_is_told_at_once(recipe: Path) -> None:
    text = """\
method: loraa
data:
  train: nowhere.jsonl
  validation: 10
schedule:
  epochs: 0
  patience: off
  warmup: .nan
  max_tokens: modell
evaluation:
  judge: {url: judge/v1}
gates:
  - json_valid = 1
"""
    problems = _problems(recipe, text)
    assert [problem.partition(":")[0] for problem in problems] == [
        "method",
        "data.validation",
        "schedule.epochs",
        "schedule.warmup",
        "schedule.max_tokens",
        "schedule.patience",
        "evaluation.judge.url",
        "evaluation.judge.model",
        "gates",
    ]
    assert "`loraa` does not fit; give one of `lora`" in problems[0]
    assert "did you mean lora?" in problems[0]
    assert "10 is no part of the rows: give 0.1 for a tenth, or a file" in problems[1]
    assert "`0` does not fit; give a whole number from 1" in problems[2]
    assert "did you mean model?" in problems[4]
    assert "`false` does not fit; give a whole number from 1" in problems[5]


@pytest.mark.parametrize(
    ("line", "suggestion"),
    [
        ("gate: 1", "gate: no such field; did you mean gates?"),
        ("epochs: 3", "epochs: no such field; did you mean schedule.epochs?"),
        ("schedule: {lr: 1}", "schedule.lr: no such field; did you mean schedule.learning_rate?"),
        ("schedule: {epoch: 1}", "schedule.epoch: no such field; did you mean schedule.epochs?"),
        ("adapter: {lora_alpha: 1}", "lora_alpha: no such field; did you mean adapter.alpha?"),
        ("adapter: {zzz: 1}", "the fields here are rank, alpha, dropout, target_modules"),
        (
            "evaluation: {judge: {url: http://a, model: b, item: 3}}",
            "evaluation.judge.item: no such field; did you mean evaluation.judge.items?",
        ),
    ],
)
def test_an_unknown_field_gets_the_nearest_one(recipe: Path, line: str, suggestion: str) -> None:
    problem = _problems(recipe, LEAST + line)
    assert len(problem) == 1
    assert suggestion in problem[0]


def test_files_that_are_not_there_are_named_each(recipe: Path) -> None:
    text = """\
base: ./model
data: {train: a.jsonl, validation: b.jsonl, test: c.jsonl}
evaluation: {schema: d.json, regression: e.jsonl, judge: {url: "http://a", model: m, key_file: f}}
gates: ["exact_match >= 0.5"]
"""
    problems = _problems(recipe, text)
    assert [problem.partition(":")[0] for problem in problems] == [
        "data.train",
        "data.validation",
        "data.test",
        "evaluation.schema",
        "evaluation.regression",
        "evaluation.judge.key_file",
        "base",
    ]
    assert str(recipe.parent / "a.jsonl") in problems[0]


def test_a_key_that_stands_twice_is_refused_with_both_lines(recipe: Path) -> None:
    text = "data:\n  train: rows.jsonl\n  test: 0.1\n  train: other.jsonl\n"
    assert _problems(recipe, text) == [
        "recipe.yaml: line 4, column 3: `train` stands here and in line 2; remove one of them"
    ]


def test_what_is_not_yaml_is_told_with_line_and_column(recipe: Path) -> None:
    (problem,) = _problems(recipe, "data:\n  train: rows.jsonl\n test: [\n")
    assert problem.startswith("recipe.yaml: line 3, column 2: ")


@pytest.mark.parametrize("text", ["", "- a\n", "just words"])
def test_what_holds_no_fields_is_refused(recipe: Path, text: str) -> None:
    (problem,) = _problems(recipe, text)
    assert "`train --init` writes a recipe" in problem


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (problem,) = _problems(tmp_path / "none.yaml")
    assert problem == "none.yaml: cannot be read: No such file or directory"
    (tmp_path / "latin.yaml").write_bytes(b"base: \xe9\n")
    (problem,) = _problems(tmp_path / "latin.yaml")
    assert problem == "latin.yaml: is not UTF-8; save it as UTF-8"


def test_a_section_with_nothing_but_comments_has_its_defaults(recipe: Path) -> None:
    recipe.write_text(LEAST + "adapter:\n  # rank: 8\nschedule:\n")
    assert load_recipe(recipe).adapter.rank == 16


def test_values_can_be_set_from_outside(recipe: Path) -> None:
    loaded = load_recipe(
        recipe,
        [
            "schedule.epochs=2",
            "data.limit=600",
            "schedule.learning_rate=1e-4",
            "adapter.target_modules=q_proj, v_proj",
            'gates=["exact_match >= 0.5", {no worse: "*"}]',
            "data.template.prompt={text}",
            "data.template={prompt: 'a {text}', answer: '{category}'}",
        ],
    )
    assert (loaded.schedule.epochs, loaded.data.limit) == (2, 600)
    assert loaded.schedule.learning_rate == 1e-4
    assert loaded.adapter.target_modules == ("q_proj", "v_proj")
    assert loaded.gates == ("exact_match >= 0.5", "no worse: *")
    assert loaded.data.template is not None
    assert loaded.data.template.prompt == "a {text}"


def test_what_is_set_wrongly_is_told_with_the_rest(recipe: Path) -> None:
    overrides = ["epochs", "schedule.epochs=[", "base.name=x", "base=1", "data.limt=3"]
    text = LEAST + "base: embedded\n"
    problems = _problems(recipe, text, *overrides)
    assert [problem.partition(":")[0] for problem in problems] == [
        "--set epochs",
        "--set schedule.epochs",
        "--set base.name",
        "base",
        "data.limt",
    ]
    assert problems[2] == "--set base.name: base has no fields of its own"
    assert "did you mean data.limit?" in problems[4]


def test_gates_may_be_mappings_of_one_key(recipe: Path) -> None:
    recipe.write_text("""\
data: {train: rows.jsonl}
gates:
  - improves: exact_match by 0.05
  - no worse: token_f1 by 0.02
  - forgetting <= 0.1
""")
    assert load_recipe(recipe).gates == (
        "improves: exact_match by 0.05",
        "no worse: token_f1 by 0.02",
        "forgetting <= 0.1",
    )


def test_a_gate_on_what_is_not_measured_is_refused(recipe: Path) -> None:
    (problem,) = _problems(recipe, LEAST.replace("exact_match", "json_valid"))
    assert problem.startswith("gates: ")
    assert "json_valid is not measured" in problem


def test_a_recipe_without_gates_or_rows_is_refused(recipe: Path) -> None:
    assert [one.partition(";")[0] for one in _problems(recipe, "base: embedded\ngates: []\n")] == [
        "data: is missing",
        "gates: is empty",
    ]


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("data.test=0", "data.test: 0 leaves nothing to judge the adapter by"),
        ("data.validation=0.8", "data.test: with `validation` it leaves no rows"),
        ("schedule.max_tokens=3", "schedule.max_tokens: 3 holds no row"),
        (
            "schedule.micro_batch_size=32",
            "schedule.micro_batch_size: 32 is more than batch_size 8",
        ),
        ("adapter.target_modules=[]", "adapter.target_modules: names no module"),
        ("adapter.target_modules=[3]", "adapter.target_modules[0]: `3` does not fit; give a text"),
        ("data.template={prompt: a, answer: b}", "data.template.answer: `b` names no column"),
        ("evaluation.pattern='('", "evaluation.pattern: '(' is no regular expression"),
        (
            "evaluation.scorers=[exact_match, regex]",
            "evaluation.pattern: the scorer regex needs it",
        ),
        ("evaluation.scorers=[exact_mach]", "there is no scorer exact_mach; did you mean exact_ma"),
        ("evaluation.scorers=exact_match", "`exact_match` does not fit; give a list of texts"),
        ("schedule.learning_rate=.inf", "`inf` does not fit; give a number above 0"),
        ("data.allow=[leakag]", "data.allow[0]: `leakag` does not fit; give one of"),
    ],
)
def test_nonsense_is_refused(recipe: Path, field: str, problem: str) -> None:
    overrides = [field]
    if "pattern" in field:
        overrides.append("evaluation.scorers=[exact_match, regex]")
    assert problem in "\n".join(_problems(recipe, None, *overrides))
