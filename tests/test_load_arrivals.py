"""When requests come: the laws of the gaps, stages over time, and recorded traces."""

import math
import time
from collections.abc import Callable, Iterator
from decimal import Context, Decimal
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from statistics import fmean, pstdev

import pytest

from loadtest.workload.arrivals import (
    Columns,
    Constant,
    Gamma,
    Poisson,
    Trace,
    arrival_times,
)
from loadtest.workload.errors import WorkloadError
from loadtest.workload.portable import exp, log
from loadtest.workload.randomness import exponential, gamma, noise, normal, stream
from loadtest.workload.stages import (
    RateStage,
    UserStage,
    moments,
    most_users,
    rate_at,
    sweep,
    total_s,
    users_at,
)
from loadtest.workload.trace import Arrival, read_trace

DRAWS = 5000
# Kolmogorov's bound: a right sampler stays below it 999 times in 1000, and the seed is fixed.
FARTHEST = 1.95 / math.sqrt(DRAWS)


def distance(values: list[float], law: Callable[[float], float]) -> float:
    """Kolmogorov and Smirnov's: the most that the values' distribution is off the law's."""
    n = len(values)
    shares = [(place, law(value)) for place, value in enumerate(sorted(values))]
    return max(max((place + 1) / n - share, share - place / n) for place, share in shares)


def drawn(draw: Callable[[Random], float], *concern: str) -> list[float]:
    rng = stream(1, *concern)
    return [draw(rng) for _ in range(DRAWS)]


def gaps_of(times: Iterator[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise([0.0, *islice(times, DRAWS)])]


def endless(rate: float) -> tuple[RateStage, ...]:
    return (RateStage(rate=rate),)


@pytest.mark.parametrize("place", range(40))
def test_logarithm_and_exponential_are_right_to_the_last_bits(place: int) -> None:
    rng = Random(place)
    exact = Context(prec=40)
    for x in (rng.random(), rng.random() * 2 ** rng.randint(-60, 60), 1 - rng.random() * 2**-30):
        true = exact.ln(Decimal(x))
        assert abs(Decimal(log(x)) - true) <= 3 * Decimal(math.ulp(float(true)))
    y = rng.uniform(-700, 700)
    true = exact.exp(Decimal(y))
    assert abs(Decimal(exp(y)) - true) <= 3 * Decimal(math.ulp(float(true)))


def test_the_ends_of_logarithm_and_exponential() -> None:
    assert log(1) == 0
    assert log(5e-324) == math.log(5e-324)
    assert exp(0) == 1
    assert exp(-1e9) == 0
    with pytest.raises(OverflowError, match="out of range"):
        exp(710)


def test_random_numbers_are_these_on_every_machine() -> None:
    rng = stream(7, "models")
    assert [rng.random() for _ in range(2)] == MODELS_STREAM
    rng = stream(7, "laws")
    assert [exponential(rng), normal(rng), gamma(rng, 0.3), gamma(rng, 4)] == LAWS_STREAM
    assert noise(4, 7, "text", 3).hex() == NOISE


def test_concerns_and_seeds_have_their_own_numbers() -> None:
    streams = [stream(7, "a"), stream(7, "b"), stream(8, "a"), stream(7, "a", 1)]
    assert len({one.random() for one in streams}) == 4
    assert noise(8, 7, "a", 11) != noise(8, 7, "a", 1)


def test_the_samplers_follow_their_laws() -> None:
    assert distance(drawn(exponential, "e"), lambda x: 1 - math.exp(-x)) < FARTHEST
    assert distance(drawn(normal, "n"), lambda x: (1 + math.erf(x / math.sqrt(2))) / 2) < FARTHEST
    half = drawn(lambda rng: gamma(rng, 0.5), "half")
    assert distance(half, lambda x: math.erf(math.sqrt(x))) < FARTHEST
    three = drawn(lambda rng: gamma(rng, 3), "three")
    assert distance(three, lambda x: 1 - math.exp(-x) * (1 + x + x * x / 2)) < FARTHEST


def test_the_distance_notices_a_wrong_law() -> None:
    assert distance(drawn(exponential, "e"), lambda x: 1 - math.exp(-1.15 * x)) > FARTHEST


def test_poisson_gaps_are_exponential_of_the_rate() -> None:
    gaps = gaps_of(arrival_times(Poisson(stages=endless(20)), stream(1, "p")))
    assert distance(gaps, lambda x: 1 - math.exp(-20 * x)) < FARTHEST


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_gaps_keep_the_mean_and_vary_as_vllm_defines_it(burstiness: float) -> None:
    """vLLM draws gaps of shape `burstiness` and scale 1 / (rate * burstiness)."""
    arrivals = Gamma(burstiness=burstiness, stages=endless(20))
    gaps = gaps_of(arrival_times(arrivals, stream(1, "g")))
    assert fmean(gaps) == pytest.approx(1 / 20, rel=0.06)
    assert pstdev(gaps) / fmean(gaps) == pytest.approx(1 / math.sqrt(burstiness), rel=0.06)


@pytest.mark.parametrize(
    "arrivals",
    [Constant(stages=endless(4)), Gamma(burstiness=math.inf, stages=endless(4))],
)
def test_constant_gaps_begin_at_once(arrivals: Constant | Gamma) -> None:
    assert list(islice(arrival_times(arrivals, stream(0, "c")), 4)) == [0, 0.25, 0.5, 0.75]


def test_a_stage_ends_before_its_last_moment() -> None:
    arrivals = Constant(stages=(RateStage(rate=10, seconds=3), RateStage(rate=1, seconds=2)))
    times = list(arrival_times(arrivals, stream(0, "c")))
    assert len(times) == 32
    assert times[-3:] == [2.9, 3, 4]


def test_a_ramp_sends_the_area_under_its_line() -> None:
    ramp = RateStage(rate=0, to=10, seconds=20)
    times = list(moments(iter([0.0] + [1.0] * 200), [ramp]))
    assert len(times) == 100
    # The line's area up to t is t^2 / 4.
    assert times[25] == pytest.approx(10)
    assert times[81] == pytest.approx(18)
    down = list(moments(iter([0.0] + [1.0] * 200), [RateStage(rate=10, to=0, seconds=20)]))
    assert down[19] == pytest.approx(2)
    assert down[75] == pytest.approx(10)


def test_a_pause_sends_nothing_and_keeps_the_time() -> None:
    stages = [
        RateStage(rate=1, seconds=3),
        RateStage(rate=0, seconds=10),
        RateStage(rate=2, seconds=1),
    ]
    assert list(moments(iter([0.0] + [1.0] * 9), stages)) == [0, 1, 2, 13, 13.5]


def test_an_infinite_rate_sends_all_at_once() -> None:
    assert list(islice(moments(iter([1.0] * 9), endless(math.inf)), 5)) == [0] * 5


def test_a_poisson_ramp_has_the_rate_of_each_moment() -> None:
    ramp = Poisson(stages=(RateStage(rate=10, to=50, seconds=100),))
    times = list(arrival_times(ramp, stream(3, "ramp")))
    assert len(times) == pytest.approx(3000, rel=0.05)
    assert distance(times, lambda t: (10 * t + 0.2 * t * t) / 3000) < 1.95 / math.sqrt(len(times))


def test_a_sweep_holds_each_rate_for_its_time() -> None:
    steps = sweep([5, 10], 30)
    assert [rate_at(steps, at_s) for at_s in (0, 29.9, 30, 59, 60)] == [5, 5, 10, 10, 0]
    assert total_s(steps) == 60
    assert total_s([*steps, *endless(1)]) is None


def test_the_rate_of_a_ramp_and_of_an_endless_stage() -> None:
    stages = [RateStage(rate=10, to=20, seconds=10), RateStage(rate=7)]
    assert [rate_at(stages, at_s) for at_s in (0, 5, 10, 1e9)] == [10, 15, 7, 7]


def test_users_over_time() -> None:
    stages = [UserStage(users=2, to=10, seconds=8), UserStage(users=3, seconds=5)]
    assert [users_at(stages, at_s) for at_s in (0, 0.9, 1, 7.99, 8, 13)] == [2, 2, 3, 9, 3, 0]
    assert most_users(stages) == 10


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_trace_in_csv(tmp_path: Path) -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n100,7,3\n100.5,8,0\n104,,\n"
    trace = Trace(path=write(tmp_path / "azure.csv", text), speed=2)
    assert list(read_trace(trace)) == [
        Arrival(0, 2, None, None, 7, 3),
        Arrival(0.25, 3, None, None, 8, 1),
        Arrival(2, 4),
    ]


def test_a_trace_in_json_lines_with_names(tmp_path: Path) -> None:
    text = (
        '{"timestamp": 1000, "tenant": "acme", "model": "support", "input_length": 7}\n\n'
        '{"timestamp": 3000, "tenant": "globex", "model": "sql", "output_length": 9}\n'
    )
    trace = Trace(path=write(tmp_path / "t.jsonl", text), unit="ms")
    assert list(read_trace(trace)) == [
        Arrival(0, 1, "acme", "support", 7, None),
        Arrival(2, 3, "globex", "sql", None, 9),
    ]


def test_a_trace_of_dates_with_columns_of_its_own(tmp_path: Path) -> None:
    text = "when,Model,user\n2023-11-16 18:17:03.9799600,gpt,a\n2023-11-16 18:17:05.2300000,gpt,b\n"
    columns = Columns(timestamp="when", tenant="user", model="")
    trace = Trace(path=write(tmp_path / "t.csv", text), columns=columns)
    first, second = read_trace(trace)
    assert (first.at_s, first.tenant, first.model) == (0, "a", None)
    assert second.at_s == pytest.approx(1.25004, abs=1e-5)


@pytest.fixture
def _summer_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clocks go forward on the last Sunday of March."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_summer_time")
def test_dates_without_a_zone_are_the_same_on_every_machine(tmp_path: Path) -> None:
    text = "time\n2024-03-31 01:30:00\n2024-03-31 03:30:00\n2024-03-31T06:30:00+02:00\n"
    trace = Trace(path=write(tmp_path / "t.csv", text))
    assert [one.at_s for one in read_trace(trace)] == [0, 7200, 10800]


def test_a_trace_is_cut_where_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "time\n0\n4\n6\n")
    assert [one.at_s for one in read_trace(Trace(path=path, seconds=2.5, speed=2))] == [0, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time\n5\n4\n", "line 3: comes before the row above; sort the file by time"),
        ("time\n5\nsoon\n", "line 3: `time` is neither a number nor a date: `soon`"),
        ("time\nnan\n", "line 2: `time` is neither a number nor a date: `nan`"),
        ("time,prompt_tokens\n5,-1\n", "line 2: `prompt_tokens` is not a number of tokens: `-1`"),
        ("time,prompt_tokens\n5,inf\n", "line 2: `prompt_tokens` is not a number of tokens"),
        (
            "when,x\n5,1\n",
            "arrivals.columns.timestamp: name the column of the times; .* `when`, `x`",
        ),
        ("time\n", "t.csv: holds no row"),
        ("", "line 1: is empty; the first line names the columns"),
        ("time,a\n5\n", "line 2: has 1 fields, and the header has 2; quote"),
        ("time,time\n5,5\n", "line 1: column `time` stands there twice"),
        ('time\n"5\n', "line 2: is not CSV .*; check the quotes"),
    ],
)
def test_a_bad_trace_is_told_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        list(read_trace(Trace(path=write(tmp_path / "t.csv", text))))


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    trace = Trace(path=write(tmp_path / "t.csv", "time\n1\n"), columns=Columns(model="adapter"))
    with pytest.raises(
        WorkloadError, match=r"arrivals.columns.model: t.csv has no column `adapter`"
    ):
        list(read_trace(trace))


MODELS_STREAM = [0.9797310445573302, 0.0564674510838068]
LAWS_STREAM = [
    0.6938190091998148,
    -1.1275524665711696,
    0.0005853973832010526,
    5.0783514626601685,
]
NOISE = "4e768ecf"
