"""What the figures of a merge's check mean, and the prompts it asks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters_registry.errors import ModelError
from training.merge.verification.judgement import Difference, Measured, judge
from training.merge.verification.logits import kept_positions
from training.merge.verification.probes import as_tokens, default_prompts

# --- What the figures mean


def _apart(largest: float, mean: float, agreement: float = 1.0) -> Difference:
    return Difference(largest, mean, agreement)


def _measured(**changes: Any) -> Measured:
    """Of a good merge to bfloat16."""
    good = Measured(
        probes=12,
        tokens=600,
        merged=_apart(0.05, 0.006, 0.99),
        effect=_apart(2.0, 0.2, 0.3),
        rounding=_apart(0.05, 0.006, 0.99),
        arithmetic=_apart(1e-5, 1e-6),
        best=_apart(1e-3, 1e-5),
        dtype="bfloat16",
        how="x",
    )
    return replace(good, **changes)


def test_a_merge_as_near_as_rounding_allows_passes() -> None:
    found = judge(_measured(), None)
    assert (found.passed, found.problem, found.notes) == (True, "", ())
    assert found.tolerance == pytest.approx(2 * 0.05, rel=0.01)
    assert (found.max_logit_diff, found.effect, found.rounding) == (0.05, 2.0, 0.05)
    assert found.greedy_agreement == 0.99


def test_a_logit_beyond_the_tolerance_fails() -> None:
    found = judge(_measured(merged=_apart(0.11, 0.006)), None)
    assert not found.passed
    assert (
        "0.11 off base+adapter's; 0.1 is allowed (twice what rounding to bfloat16" in found.problem
    )


def test_a_model_within_the_tolerance_that_is_not_the_merge_fails() -> None:
    found = judge(_measured(best=_apart(0.05, 0.004)), None)
    assert not found.passed
    assert "off the adapter merged and rounded to bfloat16 by 0.004" in found.problem


def test_a_given_tolerance_decides() -> None:
    off = _measured(merged=_apart(0.5, 0.05), best=_apart(0.5, 0.05))
    assert judge(off, 0.6).passed
    found = judge(off, 0.4)
    assert found.problem.endswith("0.4 is allowed (given)")
    assert found.tolerance == 0.4


def test_no_tolerance_lets_an_adapter_through_that_is_not_there() -> None:
    found = judge(_measured(merged=_apart(2.0, 0.2), best=_apart(2.0, 0.2)), 10.0)
    assert "the adapter is not in it" in found.problem


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_fail(value: float) -> None:
    found = judge(_measured(merged=_apart(value, value)), None)
    assert "NaN or Inf" in found.problem


def test_an_adapter_within_rounding_is_noted() -> None:
    small = _apart(0.01, 0.001)
    found = judge(_measured(effect=small), None)
    assert found.passed
    assert "by 0.001 on average on these probes, rounding to bfloat16 by 0.006" in found.notes[0]


# --- Probes


def test_the_default_probes_are_a_dozen_prompts_of_their_own() -> None:
    assert len(set(default_prompts())) == 12


def test_probes_go_through_the_template(tiny_base: Path) -> None:
    (found,) = as_tokens(tiny_base, ["hi"], vocab_size=258, most_tokens=1000)
    plain = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    # The two marks of a turn are one token each, every other byte is one.
    assert len(found) == len(plain) - 2 * (len("<|im_start|>") - 1) - (len("<|im_end|>") - 1)


def test_a_base_without_tokenizer_gets_tokens_of_chance(tmp_path: Path) -> None:
    found = as_tokens(tmp_path, None, vocab_size=7, most_tokens=5)
    assert found == as_tokens(tmp_path, None, vocab_size=7, most_tokens=5)
    assert {len(one) for one in found} == {5}
    assert {token for one in found for token in one} == set(range(7))
    with pytest.raises(ModelError, match="no tokenizer"):
        as_tokens(tmp_path, ["hi"], vocab_size=7, most_tokens=5)


def test_probes_without_text_are_refused(tiny_base: Path) -> None:
    with pytest.raises(ModelError, match="hold no text"):
        as_tokens(tiny_base, [], vocab_size=258, most_tokens=5)


def test_wide_vocabularies_keep_fewer_positions() -> None:
    sequences = [[0] * 60] * 12
    assert kept_positions(sequences, 49_152) > 50
    assert kept_positions(sequences, 262_144) == 10
