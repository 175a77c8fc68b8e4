"""Every scorer by its name, and what an evaluation measures with them."""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from training.errors import RecipeError
from training.evaluation.scorers.classification import Classification
from training.evaluation.scorers.corpus import Bleu, Chrf
from training.evaluation.scorers.json_fields import JsonFields
from training.evaluation.scorers.json_rules import complies, json_valid, load_schema
from training.evaluation.scorers.scorer import Scorer
from training.evaluation.scorers.shape import Length, Repetition
from training.evaluation.scorers.text import PerAnswer, exact_match, matches, token_f1

if TYPE_CHECKING:
    from training.recipe.recipe import EvaluationPart

BY_THE_ENGINE = {"perplexity": "perplexity", "judge": "judge.win_rate"}
"""Named like scorers, but measured with a model: the metric that each gives."""

GENERAL_METRICS = ("general.instructions", "general.loss", "forgetting")


def make_scorers(names: Sequence[str], options: "EvaluationPart") -> list[Scorer]:
    """The scorers of those names, each once. `perplexity` and `judge` are checked, but are none.

    Raises RecipeError, with every problem, for an unknown name (with the nearest one), for a field
    that a scorer needs and the recipe lacks, and for a schema or pattern that cannot be used.
    """
    scorers: list[Scorer] = []
    problems: list[str] = []
    for name in dict.fromkeys(names):
        try:
            made = _make(name, options)
        except RecipeError as error:
            problems.append(error.message)
        else:
            scorers += [made] if made is not None else []
    if problems:
        raise RecipeError("\n".join(problems))
    return scorers


def available_metrics(options: "EvaluationPart") -> list[str]:
    """The names of all that such an evaluation measures, for gates to be checked against.

    `*` in a name stands for any characters. Raises RecipeError as make_scorers does.
    """
    names = [
        name for scorer in make_scorers(options.scorers, options) for name in scorer.metric_names()
    ]
    suites = [*names, *(f"regression.{name}" for name in names if options.regression is not None)]
    by_the_engine = [m for name, m in BY_THE_ENGINE.items() if name in options.scorers]
    return [*suites, *by_the_engine, *(GENERAL_METRICS if options.general else ())]


def _make(name: str, options: "EvaluationPart") -> Scorer | None:
    if name in BY_THE_ENGINE:
        if name == "judge" and options.judge is None:
            raise _needs(name, "judge", "{url: https://host/v1, model: NAME}")
        return None
    if (factory := _FACTORIES.get(name)) is None:
        raise _unknown(name)
    return factory(options)


def _schema_compliance(options: "EvaluationPart") -> Scorer:
    if options.schema_file is None:
        raise _needs("schema_compliance", "schema", "answer.schema.json")
    return PerAnswer("schema_compliance", complies(load_schema(options.schema_file)), binary=True)


def _regex(options: "EvaluationPart") -> Scorer:
    if options.pattern is None:
        raise _needs("regex", "pattern", "'^[A-Z]{3}-[0-9]+$'")
    try:
        pattern = re.compile(options.pattern)
    except re.error as error:
        raise RecipeError(
            f"evaluation.pattern: {options.pattern!r} is no regular expression: {error}"
        ) from None
    return PerAnswer("regex", matches(pattern), binary=True)


_FACTORIES: dict[str, Callable[["EvaluationPart"], Scorer]] = {
    "exact_match": lambda _: PerAnswer("exact_match", exact_match, binary=True),
    "token_f1": lambda _: PerAnswer("token_f1", token_f1, binary=False),
    "bleu": lambda _: Bleu(),
    "chrf": lambda _: Chrf(),
    "classification": lambda _: Classification(),
    "json_valid": lambda _: PerAnswer("json_valid", json_valid, binary=True),
    "schema_compliance": _schema_compliance,
    "json_fields": lambda _: JsonFields(),
    "regex": _regex,
    "length": lambda _: Length(),
    "repetition": lambda _: Repetition(),
}

SCORERS = (*_FACTORIES, *BY_THE_ENGINE)
"""Every name that a recipe may use."""


def _needs(name: str, field: str, example: str) -> RecipeError:
    return RecipeError(
        f"evaluation.{field}: the scorer {name} needs it; write `{field}: {example}`"
    )


def _unknown(name: str) -> RecipeError:
    close = get_close_matches(name, SCORERS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(SCORERS)}"
    return RecipeError(f"evaluation.scorers: there is no scorer {name}; {hint}")
