"""fairness.py's arithmetic, claims and page."""

from dataclasses import replace

import pytest

from benchmarks.sharing.report import markdown
from benchmarks.sharing.results import (
    FIFO,
    NOISY,
    OURS,
    Results,
    Window,
    capacity,
    claims,
    slower,
    window,
)
from loadtest.statistics.figures import Figures
from loadtest.statistics.goodput import parse_slo
from tests.load_engines import failed, timed

SETTINGS = {
    "victims": 4, "victim_rate": 0.5, "noisy_rate": 20.0, "seconds": 25.0, "places": 8,
    "first_token_ms": 100.0, "token_ms": 20.0, "prompt_tokens": 64, "answer_tokens": 16,
    "objective_ms": 1000.0,
}  # fmt: skip


def made(side: str, p95_ms: float, *, noisy: bool = True) -> Window:
    return Window(
        side=side, noisy=noisy, requests_per_s=10.0, victims_sent=50, victims_failed=0,
        victims_ttft_p50_ms=p95_ms / 2, victims_ttft_p95_ms=p95_ms, noisy_sent=500,
        noisy_failed=7, noisy_ttft_p95_ms=p95_ms, jain_good=0.9, answered_worst_over_best=0.98,
        ttft_worst_over_best=1.5, errors={}, tester_bound=False,
    )  # fmt: skip


def results(*windows: Window) -> Results:
    return Results(
        at="2026-01-02 03:04 UTC", command="python benchmarks/fairness.py",
        machine={"cores": "2"}, versions={OURS: {"loraplex": "0.1.0"}}, settings=SETTINGS,
        windows=[*windows], partial=False,
    )  # fmt: skip


def test_the_others_are_measured_apart_from_the_noisy_one() -> None:
    samples = [timed(n, 0.0, 0.1 * (n + 1)) for n in range(4)]
    samples += [replace(timed(9, 0.0, 5.0), tenant=NOISY), replace(failed(10), tenant=NOISY)]
    figures = Figures(parse_slo("ttft=250ms"))
    for one in samples:
        figures.add(one)
    found = window(OURS, samples, figures.summary(), noisy=True, bound=False)
    assert (found.victims_sent, found.victims_failed) == (4, 0)
    assert (found.noisy_sent, found.noisy_failed) == (2, 1)
    assert found.victims_ttft_p50_ms == pytest.approx(250)
    assert found.noisy_ttft_p95_ms == pytest.approx(5000)
    assert found.answered_worst_over_best == pytest.approx(0.5)
    assert found.jain_good == pytest.approx(0.5)


def test_who_got_no_answer_has_no_latency() -> None:
    figures = Figures()
    found = window(OURS, [failed(0)], figures.summary(), noisy=False, bound=False)
    assert (found.victims_failed, found.victims_ttft_p95_ms) == (1, None)
    assert slower([found, replace(found, noisy=True)], OURS) is None


def test_capacity_is_places_by_an_answers_time() -> None:
    assert capacity(SETTINGS) == pytest.approx(8 / 0.4)


@pytest.mark.parametrize(
    ("p95_ms", "refused", "rate", "held"),
    [
        (190, 0, 10.0, [True, True, True, True]),
        (210, 0, 10.0, [False, True, True, True]),
        (190, 1, 10.0, [True, False, True, False]),
        (190, 0, 9.0, [True, True, False, True]),
        (600, 0, 10.0, [False, True, True, False]),
    ],
)
def test_claims(p95_ms: float, refused: int, rate: float, held: list[bool]) -> None:
    ours = replace(made(OURS, p95_ms), victims_failed=refused, requests_per_s=rate)
    found = results(made(OURS, 100, noisy=False), ours, made(FIFO, 600), made("vllm-router", 500))
    assert [each for _, each in claims(found)] == held
    assert markdown(found).count("**not held**") == held.count(False)


def test_the_page_shows_every_side() -> None:
    text = markdown(results(made(OURS, 100, noisy=False), made(OURS, 300), made(FIFO, 600)))
    assert "carries 20.0 requests a second" in text
    assert "| loraplex | 3.0x |" in text
    assert "| direct | with noisy | 10.0 | 300 | 600 | 0 of 50 | 600 | 7 of 500 |" in text
