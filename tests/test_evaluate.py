"""An evaluation put together: suites, subjects and scorers, with an engine of a test's own."""

from collections.abc import Callable, Sequence

import pytest

from training.data.rows import Chat, Message, Preference
from training.evaluation.engines import Answer, Likelihood, Progress, Subject
from training.evaluation.evaluate import Suites, evaluate
from training.evaluation.results import EvaluationResult
from training.evaluation.scorers import make_scorers
from training.evaluation.suites.general import texts
from training.recipe.recipe import EvaluationPart

BASE, CANDIDATE, LIVE = Subject("base"), Subject("candidate"), Subject("live")
Say = Callable[[str, str], str]
"""From a subject's name and a prompt's last message to an answer."""


class ScriptedEngine:
    """Answers as it is told; nats: of a token, by subject; None: it tells no likelihoods."""

    def __init__(self, say: Say, nats: dict[str, float] | None = None) -> None:
        self._say = say
        self._nats = nats

    def generate(
        self,
        subject: Subject,
        prompts: Sequence[Sequence[Message]],
        *,
        max_tokens: int,
        progress: Progress,
    ) -> list[Answer]:
        progress(f"answers of {subject.name}", 1.0)
        said = [self._say(subject.name, prompt[-1]["content"]) for prompt in prompts]
        return [Answer(text, (), (), stopped=len(text) < max_tokens) for text in said]

    def score(
        self,
        subject: Subject,
        rows: Sequence[tuple[Sequence[Message], str]],
        *,
        progress: Progress,
    ) -> list[Likelihood] | None:
        progress(f"likelihoods of {subject.name}", 1.0)
        if self._nats is None:
            return None
        sizes = [len(answer.split()) for _, answer in rows]
        return [Likelihood(-self._nats[subject.name] * size, size) for size in sizes]


def _row(line: int, question: str, answer: str) -> Chat:
    prompt = ({"role": "user", "content": question},)
    return Chat(line, prompt, {"role": "assistant", "content": answer})


def _evaluate(
    engine: ScriptedEngine,
    suites: Suites,
    *subjects: Subject,
    scorers: Sequence[str] = ("exact_match",),
    progress: Progress = lambda *_: None,
) -> EvaluationResult:
    made = make_scorers(scorers, EvaluationPart(scorers=tuple(scorers)))
    named = {subject.name: subject.name.title() for subject in subjects}
    return evaluate(engine, subjects, suites, made, described=named, progress=progress)


def _value(found: EvaluationResult, name: str, subject: str) -> float | None:
    metric = found.metric(name)
    assert metric is not None, name
    return metric.of[subject].value


ROWS = [_row(i, f"q{i}", f"a{i}") for i in range(1, 11)]


def test_every_subject_is_scored_and_the_candidate_compared_item_by_item() -> None:
    def say(subject: str, question: str) -> str:
        right = {"base": 2, "live": 6, "candidate": 8}[subject]
        return question.replace("q", "a") if int(question[1:]) <= right else "wrong"

    found = _evaluate(ScriptedEngine(say), Suites(ROWS, general=False), BASE, CANDIDATE, LIVE)
    metric = found.metric("exact_match")
    assert metric is not None
    assert {name: one.value for name, one in metric.of.items()} == {
        "base": 0.2,
        "candidate": 0.8,
        "live": 0.6,
    }
    assert metric.against["base"].difference == pytest.approx(0.6)
    assert metric.against["base"].p_value == pytest.approx(2 / 64)  # McNemar, 6 to 0
    assert metric.against["live"].difference == pytest.approx(0.2)
    assert found.subjects == {"base": "Base", "candidate": "Candidate", "live": "Live"}
    assert found.items == {"test": 10}
    third = found.examples[2]
    assert (third.id, third.prompt, third.reference) == ("3", "q3", "a3")
    assert third.answers == {"base": "wrong", "candidate": "a3", "live": "a3"}


def test_without_a_candidate_nothing_is_compared() -> None:
    found = _evaluate(ScriptedEngine(lambda *_: "a1"), Suites(ROWS, general=False), BASE)
    metric = found.metric("exact_match")
    assert metric is not None
    assert metric.against == {}


def test_the_regression_suite_has_metrics_of_its_own() -> None:
    suites = Suites(ROWS[:5], regression=ROWS[5:], general=False)
    engine = ScriptedEngine(lambda _, question: "a6" if question == "q6" else "")
    found = _evaluate(engine, suites, CANDIDATE)
    assert _value(found, "exact_match", "candidate") == 0.0
    assert _value(found, "regression.exact_match", "candidate") == 0.2
    assert found.items == {"test": 5, "regression": 5}
    assert {one.suite for one in found.examples} == {"test", "regression"}


def test_general_ability_and_what_was_forgotten_of_it() -> None:
    def say(subject: str, question: str) -> str:
        knows = question == "What is the capital of France?" and subject == "base"
        return "It is Paris." if knows else "I cannot tell."

    engine = ScriptedEngine(say, {"base": 1.5, "candidate": 1.75})
    found = _evaluate(engine, Suites(ROWS), BASE, CANDIDATE)
    assert _value(found, "general.loss", "base") == pytest.approx(1.5)
    assert _value(found, "general.instructions", "base") == pytest.approx(1 / 40)
    assert _value(found, "general.instructions", "candidate") == 0.0
    forgetting = found.metric("forgetting")
    assert forgetting is not None
    assert forgetting.of.keys() == {"candidate"}
    assert forgetting.of["candidate"].value == pytest.approx(0.25)
    assert forgetting.items == len(texts())
    assert sum(one.suite == "general" for one in found.examples) == 40


def test_perplexity_is_that_of_the_references() -> None:
    engine = ScriptedEngine(lambda *_: "", {"base": 2.0})
    found = _evaluate(engine, Suites(ROWS, general=False, perplexity=True), BASE)
    assert _value(found, "perplexity", "base") == pytest.approx(7.389056)


def test_what_an_engine_cannot_tell_is_noted() -> None:
    suites = Suites(ROWS, perplexity=True)
    found = _evaluate(ScriptedEngine(lambda *_: ""), suites, BASE, CANDIDATE)
    missing = ["perplexity", "general.loss", "forgetting"]
    assert all(found.metric(name) is None for name in missing)
    assert [note.split(" ")[0] for note in found.notes] == missing


def test_answers_cut_by_the_limit_are_noted() -> None:
    suites = Suites(ROWS, general=False, max_tokens=5)
    found = _evaluate(ScriptedEngine(lambda *_: "longer than that"), suites, CANDIDATE)
    assert found.notes == (
        "candidate did not end 10 of 10 answers to the test set within 5 tokens",
    )


def test_a_choice_of_items_is_stable_and_independent_of_the_order() -> None:
    suites = [Suites(rows, general=False, max_items=4) for rows in (ROWS, ROWS[::-1])]
    runs = [_evaluate(ScriptedEngine(lambda *_: ""), one, BASE) for one in suites]
    chosen = [{one.id for one in run.examples} for run in runs]
    assert len(chosen[0]) == 4
    assert chosen[0] == chosen[1]


def test_of_a_pair_of_answers_the_better_one_is_right() -> None:
    good, bad = ({"role": "assistant", "content": text} for text in ("good", "bad"))
    row = Preference(1, ({"role": "user", "content": "q"},), good, bad)
    found = _evaluate(ScriptedEngine(lambda *_: "good"), Suites([row], general=False), BASE)
    assert _value(found, "exact_match", "base") == 1.0


def test_ids_are_unique_where_lines_repeat_and_conversations_show_their_roles() -> None:
    prompt = ({"role": "system", "content": "be brief"}, {"role": "user", "content": "q"})
    row = Chat(7, prompt, {"role": "assistant", "content": "a"})
    found = _evaluate(ScriptedEngine(lambda *_: ""), Suites([row, row], general=False), BASE)
    assert [one.id for one in found.examples] == ["7", "7.2"]
    assert found.examples[0].prompt == "system: be brief\n\nuser: q"


def test_progress_names_the_suite_and_the_subject() -> None:
    seen: list[str] = []
    engine = ScriptedEngine(lambda *_: "", {"base": 1.0})
    _evaluate(engine, Suites(ROWS), BASE, progress=lambda stage, _: seen.append(stage))
    assert seen == [
        "test: answers of base",
        "general: answers of base",
        "general.loss: likelihoods of base",
    ]
