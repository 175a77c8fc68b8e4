"""Ten faults as they happen, each with a twin that looks like it and is harmless."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchmarks.planting.rows import (
    COLOURS,
    PLACES,
    Pair,
    at_length,
    make_pairs,
    shuffled_answers,
)

BaseName = Literal[
    "usual", "no end", "ends with another", "leaves answers out", "no system", "qwen2"
]
"""A base model; `variants.py` makes it."""
Layout = Literal["chat", "prompt", "csv", "turns"]
"""How rows are written down; `turns`: each with another pair's turn before it."""

Changes = Mapping[str, Mapping[str, Any]]
"""Fields of the recipe beside the usual ones, by section."""

TRAIN_ROWS, VALIDATION_ROWS, TEST_ROWS = 320, 40, 100
_FEW = 20
_SYSTEM = "amber cedar delta " * 60


@dataclass(frozen=True)
class Trial:
    """One run. system: a system message in front of every row."""

    train: Sequence[Pair]
    validation: Sequence[Pair]
    test: Sequence[Pair]
    base: BaseName = "usual"
    changes: Changes = field(default_factory=dict)
    system: str | None = None
    layout: Layout = "chat"


@dataclass(frozen=True)
class Case:
    """A fault, and its twin where another case's does not stand for it.

    says: regular expressions, all of which what the user sees must hold. before: whether the fault
    must be found before the first step.
    """

    name: str
    fault: Trial
    twin: Trial | None
    twin_is: str
    says: tuple[str, ...]
    before: bool = True


def good_trial(seed: int, told: Mapping[str, str] = COLOURS, rows: int = TRAIN_ROWS) -> Trial:
    """Rows as they should be."""
    return parted(make_pairs(rows + VALIDATION_ROWS + TEST_ROWS, seed, told))


def parted(pairs: Sequence[Pair]) -> Trial:
    """The first rows judge, the next ones steer, the rest are learned."""
    held_out = TEST_ROWS + VALIDATION_ROWS
    return Trial(pairs[held_out:], pairs[TEST_ROWS:held_out], pairs[:TEST_ROWS])


def cases() -> list[Case]:
    """All of them, in the order of the report."""
    return [
        _shuffled(),
        _leaked(),
        _contradictory(),
        *_of_the_template(),
        *_few_examples(),
        _cut(),
        _unserved(),
        _forgetting(),
    ]


def _shuffled() -> Case:
    good = good_trial(1)
    return Case(
        "shuffled labels",
        replace(good, train=shuffled_answers(good.train, 1)),
        replace(good, train=good.train[::-1]),
        "right labels in another order",
        ("warning: data: the answers look shuffled", "Rejected"),
        before=False,
    )


def _leaked() -> Case:
    good = good_trial(2)
    asked = [(_with_other_end(question), answer) for question, answer in good.train[:10]]
    return Case(
        "test rows in the training rows",
        replace(good, train=[*good.train, *good.test[:10]]),
        replace(good, test=[*good.test, *asked]),
        "test rows that differ from training rows in one word",
        (r"error: data: 10 of 100 rows of test are in train too",),
    )


def _contradictory() -> Case:
    good = good_trial(3)
    answers = [*COLOURS.values()]
    others = [
        (question, answers[answers.index(answer) - 1]) for question, answer in good.train[:15]
    ]
    colours = [*COLOURS]
    near = [
        (f"{(other := colours[colours.index(first) - 1])} {rest}", COLOURS[other])
        for first, _, rest in (question.partition(" ") for question, _ in good.train[:15])
    ]
    return Case(
        "contradictory pairs",
        replace(good, train=[*good.train, *others]),
        replace(good, train=[*good.train, *near]),
        "other answers to questions that differ in one word",
        ("error: data: 30 of 335 rows contradict another",),
    )


def _of_the_template() -> list[Case]:
    good = good_trial(4)
    greeted = replace(good, system="amber cedar")
    return [
        Case(
            "answers without the end token",
            replace(good, base="no end"),
            replace(good, base="ends with another"),
            "an end of turn that is not the tokenizer's end token, and is named as one",
            ("error: chat_template: writes no end token behind an answer",),
        ),
        Case(
            "every label masked",
            replace(good, base="leaves answers out"),
            replace(good, system=_SYSTEM),
            "a system message that masks 99 % of the tokens",
            ("error: chat_template: leaves the answer out, so every label would be masked",),
        ),
        Case(
            "a template that does not fit",
            replace(greeted, base="no system"),
            replace(good, base="no system"),
            "the same template, rows without a system message",
            ("error: data: 320 of 320 rows do not fit the base's chat template",),
        ),
    ]


def _few_examples() -> list[Case]:
    enough = good_trial(5, PLACES, rows=480)
    few = replace(enough, train=enough.train[:_FEW])
    allowed: Changes = {"data": {"allow": ["few_rows"]}}
    return [
        Case(
            "3 epochs on 20 examples",
            few,
            enough,
            "3 epochs on 480 examples",
            ("error: data: 20 rows beside those held out: too few to learn from",),
        ),
        Case(
            "3 epochs on 20 examples, allowed",
            replace(few, changes=allowed),
            None,
            "",
            ("Rejected",),
            before=False,
        ),
        Case(
            "40 epochs on 20 examples, allowed",
            replace(few, changes={**allowed, "schedule": {"epochs": 40}}),
            None,
            "",
            ("Rejected", "warning: overfit: "),
            before=False,
        ),
    ]


def _cut() -> Case:
    long = parted(make_pairs(TRAIN_ROWS + VALIDATION_ROWS + TEST_ROWS, 6, COLOURS, at_length))
    good = replace(long, system="amber cedar delta " * 8)
    return Case(
        "answers cut by the length limit",
        replace(good, changes={"schedule": {"max_tokens": 50}}),
        replace(good, changes={"schedule": {"max_tokens": 56}}),
        "answers as long, and whole",
        (r"error: .* rows are longer than 50 tokens",),
    )


def _unserved() -> Case:
    good = good_trial(7)
    adapter: Changes = {"adapter": {"target_modules": ["q_proj", "v_proj", "down_proj", "lm_head"]}}
    return Case(
        "a target module that vLLM does not serve",
        replace(good, base="qwen2", changes=adapter),
        replace(good, changes=adapter),
        "the same modules of a base of which vLLM serves them",
        ("error: .*vLLM does not serve adapters of lm_head for Qwen2ForCausalLM",),
    )


def _forgetting() -> Case:
    good = good_trial(8)
    return Case(
        "a learning rate 100 times too high",
        replace(good, changes={"schedule": {"learning_rate": 0.1}}),
        replace(good, changes={"schedule": {"learning_rate": 3e-3}}),
        "3 times the default",
        (
            "warning: schedule.learning_rate: 0.1 is far outside the usual",
            "Rejected|error: the training diverged",
        ),
        before=False,
    )


def _with_other_end(question: str) -> str:
    """Another question: its last word is another one."""
    words = question.split()
    return " ".join([*words[:-1], "teapot"])
