"""cold_start.py's arithmetic, claims and page."""

import pytest

from benchmarks.cold_starting.report import markdown
from benchmarks.cold_starting.results import (
    GATEWAY,
    PLAIN,
    Results,
    Trial,
    claims,
    ratios,
)


def trial(
    side: str, cold_ms: float, *, rank: int = 8, told: tuple[bool, bool] | None = None
) -> Trial:
    said = told or (side == GATEWAY, False)
    return Trial(side, rank, 937_056, cold_ms, cold_ms / 4, 300.0, said)


def results(*trials: Trial) -> Results:
    return Results(
        at="2026-01-02 03:04 UTC", command="python benchmarks/cold_start.py",
        machine={"cores": "2"}, versions={"vLLM": "0.32.0"}, engine={"max-loras": "8"},
        trials=[*trials], engine_load_ms={8: 90.0}, partial=False,
    )  # fmt: skip


def test_the_sides_are_paired_adapter_by_adapter() -> None:
    found = [trial(GATEWAY, 400), trial(PLAIN, 200), trial(PLAIN, 300), trial(GATEWAY, 300)]
    assert ratios(found, 8) == [2.0, 1.0]
    assert ratios([*found, trial(GATEWAY, 1, rank=16)], 16) == []


@pytest.mark.parametrize(
    ("cold_ms", "told", "held"),
    [
        (480, None, [True, True]),
        (520, None, [True, False]),
        (480, (True, True), [False, True]),
        (480, (False, False), [False, True]),
    ],
)
def test_claims(cold_ms: float, told: tuple[bool, bool] | None, held: list[bool]) -> None:
    found = results(trial(GATEWAY, cold_ms, told=told), trial(PLAIN, 400))
    assert [each for _, each in claims(found)] == held
    assert markdown(found).count("**not held**") == held.count(False)


def test_the_page_says_what_the_load_takes_and_what_of_it_is_ours() -> None:
    text = markdown(results(trial(GATEWAY, 400), trial(GATEWAY, 480), trial(PLAIN, 400)))
    assert (
        "| 8 | 0.9 | gateway | 440 (400-480) | 110 (100-120), 25% | 300 (300-300) | 1.47x |" in text
    )
    assert "| 8 | 110.0 | 90.0 | 20.0 |" in text
    assert "| 8 | 0.9 | plain vLLM |" in text


def test_nothing_measured_claims_nothing() -> None:
    assert claims(results()) == []
