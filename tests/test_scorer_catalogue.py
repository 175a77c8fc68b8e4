"""Scorers by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.scored import scored
from training.errors import RecipeError
from training.evaluation.scorers import available_metrics, make_scorers
from training.evaluation.scorers.catalogue import SCORERS
from training.gates.check import overlap
from training.recipe.recipe import EvaluationPart

JUDGE = {"url": "http://127.0.0.1:1/v1", "model": "judge"}


def part(*scorers: str, **fields: Any) -> EvaluationPart:
    return EvaluationPart.model_validate({"scorers": scorers or ("exact_match",), **fields})


def test_every_scorer_can_be_made_and_tells_its_metrics(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("{}")
    options = part(*SCORERS, schema=tmp_path / "schema.json", pattern="a", judge=JUDGE)
    scorers = make_scorers(SCORERS, options)
    assert [s.name for s in scorers] == [n for n in SCORERS if n not in ("perplexity", "judge")]
    references = [json.dumps({"a": 1, "b": "x"}), "one two three"]
    for scorer in scorers:
        found = scored(scorer, references, references)
        for name in found:
            assert any(overlap(name, pattern) for pattern in scorer.metric_names()), name
        for pattern in scorer.metric_names():
            assert any(overlap(name, pattern) for name in found), pattern


def test_a_scorer_named_twice_is_made_once() -> None:
    assert len(make_scorers(["bleu", "chrf", "bleu"], part())) == 2


def test_every_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(RecipeError) as raised:
        make_scorers(["exact_macth", "bleu", "vibes"], part())
    first, second = raised.value.message.splitlines()
    assert first == (
        "evaluation.scorers: there is no scorer exact_macth; did you mean exact_match?"
    )
    assert second.startswith("evaluation.scorers: there is no scorer vibes; there are exact_match,")


@pytest.mark.parametrize(
    ("scorer", "field"), [("schema_compliance", "schema"), ("regex", "pattern"), ("judge", "judge")]
)
def test_the_field_that_a_scorer_needs_is_told(scorer: str, field: str) -> None:
    with pytest.raises(RecipeError, match=f"evaluation.{field}: the scorer {scorer} needs it"):
        make_scorers([scorer], part())


def test_a_pattern_that_is_none_is_told() -> None:
    with pytest.raises(RecipeError, match=r"evaluation.pattern: '\[' is no regular expression"):
        make_scorers(["regex"], part(pattern="["))


def test_what_is_measured_follows_from_the_recipe(tmp_path: Path) -> None:
    options = part("exact_match", "perplexity", general=False)
    assert available_metrics(options) == ["exact_match", "perplexity"]
    options = part("exact_match", "judge", judge=JUDGE, regression=tmp_path / "rows.jsonl")
    assert available_metrics(options) == [
        "exact_match",
        "regression.exact_match",
        "judge.win_rate",
        "general.instructions",
        "general.loss",
        "forgetting",
    ]
