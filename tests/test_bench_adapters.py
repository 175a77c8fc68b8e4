"""adapters.py's arithmetic, claims and page."""

import json
from typing import Any

import pytest

from benchmarks.adapting.report import markdown
from benchmarks.adapting.results import (
    BESIDE,
    GATEWAY,
    PLAIN,
    Level,
    Results,
    Window,
    claims,
    expected_cold_share,
    kib_an_adapter,
    ratios,
)
from benchmarks.serving.window import Figures


def window(side: str, adapters: int, rate: float, *, failed: int = 0, cold: int = 0) -> Window:
    figures = Figures(
        sent=40, ok=40 - failed, failed=failed, requests_per_s=rate, tokens_per_s=8 * rate,
        ttft_p50_ms=300.0, ttft_p95_ms=500.0, itl_p50_ms=60.0, itl_p95_ms=90.0, queue_p95_ms=1.0,
        cold_starts=cold, cold_ttft_p50_ms=700.0 if cold else None, errors={}, tester_bound=False,
    )  # fmt: skip
    return Window(side, adapters, "uniform", figures, 3 * 2**30)


def level(adapters: int, mib: float, followed_ms: float = 50.0) -> Level:
    return Level(adapters, 20.0, followed_ms, 30.0, int(mib * 2**20))


def results(*windows: Window, levels: tuple[Level, ...] = (), **changes: Any) -> Results:
    settings = {
        "users": 4, "prompt_tokens": 16, "answer_tokens": 8, "seconds": 12, "warmup_s": 2,
        "rank": 8, "max_loras": 8, "max_cpu_loras": 64,
    }  # fmt: skip
    return Results(
        at="2026-01-02 03:04 UTC", command="python benchmarks/adapters.py",
        machine={"cores": "2"}, versions={"vLLM": "0.32.0"}, settings=settings | changes,
        windows=[*windows], levels=[*levels], plain_start_s={0: 50.0}, partial=False,
    )  # fmt: skip


@pytest.mark.parametrize(("adapters", "share"), [(1, 0.0), (56, 0.0), (112, 0.5), (560, 0.9)])
def test_the_share_of_cold_starts_to_be_expected(adapters: int, share: float) -> None:
    assert expected_cold_share(adapters, 56) == pytest.approx(share)


@pytest.mark.parametrize(("most", "capacity"), [(64, 56), (2, 1), (8, 7), (1000, 875)])
def test_an_eighth_stays_free(most: int, capacity: int) -> None:
    assert results(max_cpu_loras=most).capacity == capacity


def test_only_windows_that_both_sides_have_are_compared() -> None:
    found = results(
        window(GATEWAY, 16, 9.0), window(BESIDE, 16, 2.0), window(PLAIN, 16, 4.0),
        window(BESIDE, 64, 9.0),
    )  # fmt: skip
    assert ratios(found) == [(16, "uniform", 0.5)]


def test_memory_of_an_adapter() -> None:
    assert kib_an_adapter([level(1, 80.0), level(1025, 81.0)]) == pytest.approx(1.0)
    assert kib_an_adapter([level(1, 80.0)]) is None


@pytest.mark.parametrize(
    ("rate", "failed", "mib", "followed_ms", "held"),
    [
        (4.0, 0, 90.0, 50.0, [True, True, True, True]),
        (3.5, 0, 90.0, 50.0, [True, False, True, True]),
        (4.0, 1, 90.0, 50.0, [False, True, True, True]),
        (4.0, 0, 180.0, 50.0, [True, True, False, True]),
        (4.0, 0, 90.0, 1500.0, [True, True, True, False]),
    ],
)
def test_claims(rate: float, failed: int, mib: float, followed_ms: float, held: list[bool]) -> None:
    found = results(
        window(BESIDE, 1000, rate, failed=failed, cold=30),
        window(PLAIN, 1000, 4.0),
        levels=(level(1, 80.0), level(1001, mib, followed_ms)),
    )
    assert [each for _, each in claims(found)] == held
    assert markdown(found).count("**not held**") == held.count(False)


def test_the_page_tells_what_bounds_it() -> None:
    found = results(window(GATEWAY, 112, 3.0, cold=10), levels=(level(112, 80.0),))
    text = markdown(found)
    assert "the gateway keeps 56 adapters" in text
    assert "| 112 | uniform | 25% | 50% |" in text
    assert "over plain vLLM's" not in text
    assert json.loads(json.dumps(found.as_json()))["capacity"] == 56


def test_a_run_that_was_ended_says_so() -> None:
    found = results(window(GATEWAY, 1, 3.0))
    found.partial = True
    assert "**Partial" in markdown(found)
