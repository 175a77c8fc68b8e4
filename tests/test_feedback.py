"""Feedback reaches the version that answered, and only the caller's own."""

import pytest
from pydantic import ValidationError

from gateway.feedback import Completions, FeedbackIn
from gateway.metrics import Subject


@pytest.mark.parametrize("prefix", ["chatcmpl-", "cmpl-", "resp_", ""])
def test_a_completion_is_found_by_the_id_of_its_answer(prefix: str) -> None:
    completions = Completions()
    completions.record("0a1b", Subject("acme", "support", "3"))
    assert completions.take("acme", f"{prefix}0a1b") == ("acme", "support", "3")


def test_another_tenants_completion_looks_like_a_missing_one() -> None:
    completions = Completions()
    completions.record("0a1b", Subject("acme", "support", "3"))
    assert completions.take("globex", "chatcmpl-0a1b") is None
    assert completions.take("acme", "chatcmpl-0a1c") is None


def test_the_oldest_completions_are_forgotten() -> None:
    completions = Completions(capacity=2)
    for request_id in ("a", "b", "c"):
        completions.record(request_id, Subject("acme", "support", "1"))
    found = [completions.take("acme", request_id) is not None for request_id in ("a", "b", "c")]
    assert found == [False, True, True]


def test_the_capacity_holds_but_for_its_oldest_tenth() -> None:
    completions = Completions(capacity=1000)
    ids = [f"{number:x}" for number in range(2500)]
    for request_id in ids:
        completions.record(request_id, Subject("acme", "support", "1"))
    known = [request_id for request_id in ids if completions.take("acme", request_id)]
    assert 900 <= len(known) <= 1000
    assert known == ids[-len(known) :]
    assert completions.take("acme", ids[-1]) is None, "taken once already"


def test_feedback_is_taken_within_its_bounds() -> None:
    feedback = FeedbackIn(completion_id="chatcmpl-1", score=-1, comment="x" * 4096)
    assert (feedback.score, feedback.comment) == (-1, "x" * 4096)
    assert FeedbackIn(completion_id="chatcmpl-1", score=1).comment is None


@pytest.mark.parametrize(
    "fields",
    [
        {"completion_id": "c", "score": 1.01},
        {"completion_id": "c", "score": -1.01},
        {"completion_id": "c", "score": float("nan")},
        {"completion_id": "c", "score": 0, "comment": "x" * 4097},
        {"completion_id": "c" * 129, "score": 0},
        {"completion_id": "c", "score": 0, "other": 1},
        {"score": 0},
    ],
)
def test_feedback_out_of_bounds_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FeedbackIn.model_validate(fields)
