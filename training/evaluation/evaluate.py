"""What every model answers to every suite, scored and compared: one evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from training.data.rows import Message, Row
from training.evaluation.compared import BASE, CANDIDATE, by_name, metric_result
from training.evaluation.engines import Answer, Engine, Progress, Subject
from training.evaluation.items import items_of, references, sample
from training.evaluation.judge import Judge
from training.evaluation.likelihood import loss_metric, perplexity_metric
from training.evaluation.metrics import Item
from training.evaluation.results import (
    Estimate,
    EvaluationResult,
    Example,
    MetricResult,
)
from training.evaluation.scorers import Scorer
from training.evaluation.suites.general import Instruction, Text, instructions, passed, texts

NO_LIKELIHOODS = "the endpoint does not say how likely a given answer is"

_Suite = Literal["test", "regression", "general"]
_GENERAL_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Suites:
    """What is asked.

    test: the held-out rows. regression: rows that must stay as good as they were. general: whether
    to measure general ability too. perplexity: whether to measure how likely the references are.
    max_items: rows of a suite at most, chosen by content. max_tokens: of an answer.
    """

    test: Sequence[Row]
    regression: Sequence[Row] = ()
    general: bool = True
    perplexity: bool = False
    max_items: int | None = None
    max_tokens: int = 256


def evaluate(
    engine: Engine,
    subjects: Sequence[Subject],
    suites: Suites,
    scorers: Sequence[Scorer],
    *,
    described: Mapping[str, str],
    progress: Progress,
    judge: Judge | None = None,
) -> EvaluationResult:
    """Asks every subject everything, and holds the candidate against the others item by item.

    described: what each subject is, in words. Raises EvaluationError.
    """
    run = _Run(engine, subjects, scorers, progress)
    run.rows("test", sample(suites.test, suites.max_items), suites.max_tokens)
    if suites.regression:
        run.rows("regression", sample(suites.regression, suites.max_items), suites.max_tokens)
    if suites.perplexity:
        run.perplexity(sample(suites.test, suites.max_items))
    if suites.general:
        run.instructions(instructions())
        run.general_loss(texts())
    if judge is not None:
        run.judged(judge)
    return EvaluationResult(
        subjects={subject.name: described[subject.name] for subject in subjects},
        items={suite: len(asked.items) for suite, asked in run.asked.items()},
        metrics=tuple(run.found),
        examples=tuple(chain.from_iterable(map(_examples, run.asked.values()))),
        notes=tuple(run.notes),
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """A suite's items and each subject's answers to them."""

    suite: _Suite
    items: Sequence[Item]
    answers: Mapping[str, Sequence[Answer]]


@dataclass(slots=True)
class _Run:
    """An evaluation under way."""

    engine: Engine
    subjects: Sequence[Subject]
    scorers: Sequence[Scorer]
    progress: Progress
    asked: dict[str, Asked] = field(default_factory=dict)
    found: list[MetricResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def rows(self, suite: _Suite, rows: Sequence[Row], max_tokens: int) -> None:
        """The scorers' metrics over a suite of rows."""
        prompts = [row.prompt for row in rows]
        asked = self._ask(suite, items_of(rows), prompts, max_tokens)
        prefix = "" if suite == "test" else f"{suite}."
        for scorer in self.scorers:
            of = {
                name: scorer.metrics(asked.items, answers)
                for name, answers in asked.answers.items()
            }
            self.found += by_name(of, prefix)
        self._note_cut(asked, max_tokens)

    def perplexity(self, rows: Sequence[Row]) -> None:
        """How likely each subject finds the references."""
        pairs = [(row.prompt, answer) for row, answer in zip(rows, references(rows), strict=True)]
        self._likelihoods("perplexity", pairs, ("perplexity",))

    def instructions(self, suite: Sequence[Instruction]) -> None:
        """The part of the small general instructions that is followed."""
        items = [Item(one.id, one.prompt, one.expected) for one in suite]
        prompts = [[{"role": "user", "content": one.prompt}] for one in suite]
        asked = self._ask("general", items, prompts, _GENERAL_TOKENS)
        of = {
            name: passed(suite, [answer.text for answer in answers])
            for name, answers in asked.answers.items()
        }
        self.found.append(metric_result(of))

    def general_loss(self, suite: Sequence[Text]) -> None:
        """The loss on general texts, and forgetting: what the candidate lost to the base."""
        pairs = [([{"role": "user", "content": one.prompt}], one.answer) for one in suite]
        found = self._likelihoods("general.loss", pairs, ("general.loss", "forgetting"))
        if found is None or (lost := found.against.get(BASE)) is None:
            return
        forgetting = Estimate(value=lost.difference, low=lost.low, high=lost.high)
        self.found.append(
            MetricResult(
                name="forgetting", better="lower", items=len(suite), of={CANDIDATE: forgetting}
            )
        )

    def judged(self, judge: Judge) -> None:
        """A model's verdicts over the test set's answers of candidate and another, pair by pair."""
        test = self.asked["test"]
        found, notes = judge.compare_all(test.items, test.answers, self.progress)
        self.found += found
        self.notes += notes

    def _ask(
        self,
        suite: _Suite,
        items: Sequence[Item],
        prompts: Sequence[Sequence[Message]],
        max_tokens: int,
    ) -> Asked:
        answers = {}
        for subject in self.subjects:
            answers[subject.name] = self.engine.generate(
                subject, prompts, max_tokens=max_tokens, progress=self._staged(suite)
            )
        self.asked[suite] = Asked(suite, items, answers)
        return self.asked[suite]

    def _likelihoods(
        self, name: str, pairs: Sequence[tuple[Sequence[Message], str]], lost: Sequence[str]
    ) -> MetricResult | None:
        """The metric over the answers given; None, with a note, where the engine cannot tell."""
        of = {}
        make = perplexity_metric if name == "perplexity" else loss_metric
        for subject in self.subjects:
            found = self.engine.score(subject, pairs, progress=self._staged(name))
            if found is None:
                self.notes += [f"{one} was not measured: {NO_LIKELIHOODS}" for one in lost]
                return None
            of[subject.name] = make(name, found)
        result = metric_result(of)
        self.found.append(result)
        return result

    def _staged(self, suite: str) -> Progress:
        """The engine's progress, with the suite named: `test: answers of base`."""
        return lambda stage, fraction: self.progress(f"{suite}: {stage}", fraction)

    def _note_cut(self, asked: Asked, max_tokens: int) -> None:
        for name, answers in asked.answers.items():
            if cut := sum(not answer.stopped for answer in answers):
                self.notes.append(
                    f"{name} did not end {cut} of {len(answers)} answers to the {asked.suite} set"
                    f" within {max_tokens} tokens"
                )


def _examples(asked: Asked) -> list[Example]:
    return [
        Example(
            id=item.id,
            suite=asked.suite,
            prompt=item.prompt,
            reference=item.reference,
            answers={name: answers[i].text for name, answers in asked.answers.items()},
        )
        for i, item in enumerate(asked.items)
    ]
