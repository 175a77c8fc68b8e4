"""Lengths and pauses follow their laws, and choices theirs."""

import math
from collections import Counter
from pathlib import Path
from random import Random
from statistics import fmean, median, pstdev

import pytest
from pydantic import TypeAdapter, ValidationError

from loadtest.workload.choices import Choice, picker
from loadtest.workload.errors import WorkloadError
from loadtest.workload.lengths import Law, Length, Seconds, length_draw, seconds_draw
from loadtest.workload.randomness import stream

LENGTH: TypeAdapter[Law] = TypeAdapter(Length)
SECONDS: TypeAdapter[Law] = TypeAdapter(Seconds)
CHOICE: TypeAdapter[Choice] = TypeAdapter(Choice)


def lengths(law: object, count: int = 4000) -> list[int]:
    draw, rng = length_draw(LENGTH.validate_python(law)), stream(2, "lengths")
    return [draw(rng) for _ in range(count)]


def picks(choice: object, weights: list[float], count: int) -> Counter[int]:
    pick, rng = picker(CHOICE.validate_python(choice), weights), stream(1, "choices")
    return Counter(pick(rng) for _ in range(count))


def test_fixed_and_uniform_lengths() -> None:
    assert set(lengths(512, 9)) == set(lengths("512", 9)) == {512}
    counts = Counter(lengths("uniform:3,6"))
    assert sorted(counts) == [3, 4, 5, 6]
    # Three standard deviations of a share of a quarter.
    assert all(abs(count - 1000) < 3 * math.sqrt(4000 / 4 * 3 / 4) for count in counts.values())


def test_normal_lengths_have_mean_and_deviation_and_stay_in_bounds() -> None:
    free = lengths("normal:500,50")
    assert fmean(free) == pytest.approx(500, abs=3 * 50 / math.sqrt(4000))
    assert pstdev(free) == pytest.approx(50, rel=0.05)
    bound = lengths("normal:mean=500,sd=50,min=480,max=510")
    assert (min(bound), max(bound)) == (480, 510)
    assert min(lengths("normal:2,5")) == 1


def test_lognormal_lengths_have_the_mean_and_deviation_of_the_lengths_themselves() -> None:
    values = lengths("lognormal:mean=500,sd=300")
    assert fmean(values) == pytest.approx(500, abs=3 * 300 / math.sqrt(4000))
    assert pstdev(values) == pytest.approx(300, rel=0.1)
    assert median(values) == pytest.approx(500 / math.sqrt(1 + 0.36), rel=0.04)
    assert max(lengths("lognormal:500,300,max=900")) == 900


def test_pauses_are_not_rounded() -> None:
    draw, rng = seconds_draw(SECONDS.validate_python("exponential:2")), stream(1, "pauses")
    assert fmean(draw(rng) for _ in range(4000)) == pytest.approx(2, rel=0.05)
    capped = seconds_draw(SECONDS.validate_python("exponential:mean=2,max=1.5"))
    assert max(capped(rng) for _ in range(99)) == 1.5
    between = seconds_draw(SECONDS.validate_python("uniform:0.5,0.6"))
    assert all(0.5 <= between(rng) < 0.6 for _ in range(99))
    assert seconds_draw(SECONDS.validate_python(0))(rng) == 0


def test_lengths_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("prompt,answer\n10,1\n20,2\n")
    law = {"kind": "file", "path": tmp_path / "l.csv", "column": "prompt"}
    assert set(lengths(law, 99)) == {10, 20}
    (tmp_path / "l.txt").write_text("7\n8\n")
    assert set(lengths(f"file:{tmp_path / 'l.txt'}", 99)) == {7, 8}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n\n5\nmany\n", "l.csv, line 3: `n` is not a number: `many`"),
        ("n\n0\n", "l.csv, line 2: `n` is 0; give a whole number from 1"),
        ("n\n2.5\n", "l.csv, line 2: `n` is 2.5; give a whole number from 1"),
        ("n\n", "l.csv: holds no number"),
        ("a,b\n1,2\n", "l.csv: name its column; it has `a`, `b`"),
    ],
)
def test_a_bad_file_of_lengths_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(WorkloadError, match=message):
        lengths(f"file:{tmp_path / 'l.csv'}")


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ("norml:5", "`norml:5` does not fit; give a number, uniform:LOW,HIGH"),
        ("many", "`many` does not fit; give a number"),
        ("normal:1,2,3,4,5", "has too many parts; they are mean, sd, min, max"),
        ("normal:mean=1,dev=2", "no `dev` here; the parts are mean, sd, min, max"),
        ("uniform:9,3", r"low: 9 is above high \(3\)"),
        ("normal:5,1,min=9,max=2", r"min: 9 is above max \(2\)"),
        ("uniform:0,3", "low: 0 does not fit; give a whole number from 1"),
        (0.5, "value: 0.5 does not fit; give a whole number from 1"),
    ],
)
def test_a_bad_law_is_told(law: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LENGTH.validate_python(law)


def test_zipf_frequencies() -> None:
    counts = picks("zipf:1.2", [1.0] * 5, 20_000)
    total = sum(rank**-1.2 for rank in range(1, 6))
    for place in range(5):
        share = (place + 1) ** -1.2 / total
        assert abs(counts[place] - 20_000 * share) < 3.3 * math.sqrt(20_000 * share * (1 - share))


def test_weights_uniform_and_turns() -> None:
    counts = picks("weights", [3, 0, 1, 0], 8000)
    assert sorted(counts) == [0, 2]
    top = Random()
    top.random = lambda: 1 - 2**-53  # type: ignore[method-assign]
    assert picker(CHOICE.validate_python("weights"), [3, 0, 1, 0])(top) == 2
    assert abs(counts[0] - 6000) < 3 * math.sqrt(8000 * 3 / 16)
    even = picks("uniform", [1.0] * 4, 8000)
    assert all(abs(even[place] - 2000) < 3 * math.sqrt(8000 * 3 / 16) for place in range(4))
    pick = picker(CHOICE.validate_python("round_robin"), [1.0] * 3)
    assert [pick(stream(0)) for _ in range(5)] == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("choice", ["zip:1", "uniform:3", "zipf:-1", "zipf:x"])
def test_a_bad_choice_is_told(choice: str) -> None:
    with pytest.raises(ValidationError):
        CHOICE.validate_python(choice)
