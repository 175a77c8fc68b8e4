"""Whether served and trained agree: the figures, and the real thing on a tiny model."""

from pathlib import Path

import pytest

from training.errors import EvaluationError
from training.evaluation.agreement import Reference, compare, judge
from training.evaluation.engines import Answer
from training.evaluation.offline import OfflineEngine


def _answer(tokens: tuple[int, ...], prompt: tuple[int, ...] = (1, 2)) -> Answer:
    return Answer("", prompt, tokens, stopped=True)


def test_tokens_agree_up_to_the_first_that_differs() -> None:
    found = judge(
        [_answer((5, 6, 7, 8)), _answer((9, 9))],
        [[-0.1, -0.2, -0.3, -0.4], [-1.0, -1.0]],
        [
            Reference([1, 2], [5, 6, 0, 8], [-0.1, -0.2, -0.5, -0.4]),
            Reference([1, 2], [9, 9], [-1.0, -1.1]),
        ],
        note="n",
    )
    assert found.same_tokens
    assert found.greedy_agreement == pytest.approx(4 / 6)
    assert found.largest_difference == pytest.approx(0.2)
    assert found.mean_difference == pytest.approx(0.3 / 6)
    assert (found.prompts, found.notes) == (2, ("n",))


def test_another_prompt_is_told() -> None:
    found = judge([_answer((5,))], [[-1.0]], [Reference([1, 3], [5], [-1.0])], note="n")
    assert not found.same_tokens
    assert found.notes[1] == "1 of 1 prompts have other tokens in the engine"


def test_answers_without_tokens_agree() -> None:
    found = judge([_answer(())], [[]], [Reference([1, 2], [], [])], note="n")
    assert (found.greedy_agreement, found.largest_difference) == (1.0, 0.0)


def test_trainer_and_engine_agree_on_an_adapter(
    tiny_base: Path, tiny_adapter: Path, offline_engine: OfflineEngine
) -> None:
    prompts = [[{"role": "user", "content": text}] for text in ("hello", "what is 2 + 2?")]
    found = compare(tiny_base, tiny_adapter, offline_engine, prompts, max_tokens=8)
    assert found.same_tokens
    assert found.prompts == 2
    # bfloat16 keeps two to three digits of logits of about 5.
    assert found.mean_difference < 0.05
    assert "trainer's model in float32" in found.notes[0]


def test_an_adapter_that_cannot_be_loaded_is_told(
    tiny_base: Path, tmp_path: Path, offline_engine: OfflineEngine
) -> None:
    with pytest.raises(EvaluationError, match="adapter_config"):
        compare(tiny_base, tmp_path, offline_engine, [[{"role": "user", "content": "x"}]])


def test_no_prompts_are_no_comparison(tiny_base: Path, tiny_adapter: Path) -> None:
    engine = OfflineEngine(tiny_base)
    with pytest.raises(EvaluationError, match="no prompts"):
        compare(tiny_base, tiny_adapter, engine, [])
