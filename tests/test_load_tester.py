"""Whether the tester kept up, and whether the target is there at all."""

import numpy as np
import pytest

from loadtest.running.first_answers import FirstAnswers
from loadtest.running.tester import OwnFigures, Watch, judge
from loadtest.samples import Sample
from tests.load_clock import FakeClock


def sample(**changes: object) -> Sample:
    fields: dict[str, object] = {
        "index": 0, "tenant": "acme", "model": "base", "phase": "measured", "intended_s": 1.0,
        "sent_s": 1.0, "first_token_s": 1.1, "last_token_s": 1.2, "ended_s": 1.2,
        "gaps": np.zeros(0), "events": 2, "prompt_tokens": 1, "output_tokens": 2,
        "tokens_from": "server", "outcome": "ok", "status": 200, "error": None,
        "cold_start": False, "queue_s": None,
    }  # fmt: skip
    return Sample(**(fields | changes))  # type: ignore[arg-type]


def figures(*, lag_s: float = 0.0, delay_s: float = 0.0, latency_s: float = 0.1,
            cpu: float = 0.5) -> OwnFigures:  # fmt: skip
    made = OwnFigures()
    for histogram, value in (
        (made.lag, lag_s), (made.loop_delay, delay_s), (made.latency, latency_s), (made.cpu, cpu),
    ):  # fmt: skip
        histogram.add(value, 100)
    return made


def test_a_tester_that_keeps_up() -> None:
    verdict = judge(figures(lag_s=0.001, delay_s=0.001))
    assert not verdict.bound
    assert verdict.reasons == ()
    assert verdict.lag_p99_s == pytest.approx(0.001, rel=0.01)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (figures(lag_s=0.02), "sent 20 ms late"),
        (figures(delay_s=0.03), "read 30 ms late"),
        (figures(cpu=0.97), "97% of its core"),
        (figures(lag_s=0.02, latency_s=0.3), "more than 15 ms"),
    ],
)
def test_a_tester_that_does_not_says_why(made: OwnFigures, words: str) -> None:
    verdict = judge(made)
    assert verdict.bound
    assert words in verdict.reasons[0]


def test_what_is_late_is_measured_against_what_is_measured() -> None:
    assert not judge(figures(lag_s=0.02, latency_s=0.5)).bound


def test_limits_of_the_tester_bind_it() -> None:
    made = figures()
    made.waits, made.out_of_files = 3, 2
    verdict = judge(made)
    assert verdict.bound
    assert ["--max-connections" in verdict.reasons[0], "ulimit" in verdict.reasons[1]] == [True] * 2


def test_an_empty_run_is_not_bound() -> None:
    assert not judge(OwnFigures()).bound


def test_figures_of_several_processes_add_up() -> None:
    whole = figures(lag_s=0.001)
    other = figures(lag_s=0.5)
    other.waits = 4
    whole.merge(other)
    assert whole.lag.count == 200
    assert whole.waits == 4
    assert judge(whole).lag_max_s == 0.5


def test_lag_counts_in_the_measured_phase_and_for_failures_too() -> None:
    watch = Watch(FakeClock(jumps=False), lambda at_s: True)
    for changes in (
        {"sent_s": 1.5},
        {"sent_s": 1.25, "outcome": "timeout", "first_token_s": None},
        {"sent_s": 9.0, "phase": "warmup"},
        {"sent_s": None, "outcome": "cancelled"},
        {"sent_s": 0.99999},
    ):
        watch.note(sample(**changes))
    assert watch.figures.lag.count == 3
    assert watch.figures.lag.max == 0.5
    assert watch.figures.lag.min == 0.0
    assert watch.figures.latency.count == 2


async def test_the_probe_sees_a_loop_that_is_held_up_and_the_cpu_it_takes() -> None:
    clock, cpu = FakeClock(jumps=False), iter(np.arange(0, 100, 0.5))
    begin_s = clock.now()
    watch = Watch(clock, lambda at_s: at_s < begin_s + 3, lambda: float(next(cpu)))
    watch.start()
    for _ in range(100):
        clock.advance(0.02)
    assert watch.figures.loop_delay.max == pytest.approx(0.0, abs=1e-6)
    assert watch.figures.cpu.max == pytest.approx(0.5, rel=0.05)
    clock.time_s += 0.3  # Nothing ran meanwhile.
    clock.advance(0.02)
    assert watch.figures.loop_delay.max == pytest.approx(0.3, abs=0.021)
    clock.advance(2.0)
    count = watch.figures.loop_delay.count
    clock.advance(2.0)
    assert watch.figures.loop_delay.count == count
    watch.stop()


URL = "http://127.0.0.1:8000"
REFUSED = {"outcome": "connection", "status": None, "error": "connection refused"}
NO_KEY = {"outcome": "http_error", "status": 401, "error": "HTTP 401"}
NO_MODEL = {"outcome": "http_error", "status": 404, "error": "NotFoundError"}
NO_PATH = {"outcome": "http_error", "status": 404, "error": "HTTP 404"}
NO_TRUST = {"outcome": "connection", "status": None, "error": "certificate: self-signed"}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([REFUSED], "nothing listens"),
        ([NO_TRUST], "--ca-file"),
        ([NO_KEY] * 3, "key of tenant `acme`; check --key"),
        ([NO_MODEL] * 3, "no model `base`; check --model"),
        ([NO_PATH] * 3, "does not know the path; check --url"),
    ],
)
def test_a_target_that_is_not_there(answers: list[dict[str, object]], words: str) -> None:
    first = FirstAnswers(URL)
    for answer in answers[:-1]:
        first.see(sample(**answer))
        assert first.problem is None
    first.see(sample(**answers[-1]))
    assert first.problem is not None
    assert URL in first.problem
    assert words in first.problem


@pytest.mark.parametrize(
    "before", [{}, {"outcome": "timeout", "status": None}, {"outcome": "http_error", "status": 503}]
)
def test_after_another_answer_nothing_is_judged(before: dict[str, object]) -> None:
    first = FirstAnswers(URL)
    first.see(sample(**NO_KEY))
    first.see(sample(**before))
    for answer in (REFUSED, NO_KEY, NO_KEY, NO_KEY):
        first.see(sample(**answer))
    first.finish()
    assert first.problem is None


def test_a_short_run_of_wrong_answers_is_judged_at_its_end() -> None:
    first = FirstAnswers(URL)
    first.see(sample(**NO_KEY))
    assert first.problem is None
    first.finish()
    assert first.problem is not None
