"""The store of series: what is counted, how it reads, and whose it is."""

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from gateway.series import Series

Sample = tuple[str, frozenset[tuple[str, str]]]


def parsed(text: str) -> dict[Sample, float]:
    """Every sample by its name and labels; none may come twice."""
    samples: dict[Sample, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples, key
            samples[key] = sample.value
    return samples


def text_of(series: Series) -> str:
    return b"".join(series.render()).decode()


def sample(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


def lines_of(text: str, kinds: Iterable[str] = ("HELP", "TYPE")) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(tuple(f"# {k}" for k in kinds))]


def test_counters_and_gauges() -> None:
    series = Series()
    requests = series.counter("requests_total", "Requests.", ("who",))
    load = series.gauge("load", "Load.", ("who",))
    requests.labels("a").inc()
    requests.labels("a").inc(2)
    requests.labels("b").inc(0)
    load.labels("a").set(5)
    load.labels("a").inc(0.5)
    load.labels("a").dec()
    assert parsed(text_of(series)) == {
        sample("requests_total", who="a"): 3,
        sample("requests_total", who="b"): 0,
        sample("load", who="a"): 4.5,
    }


def test_the_text_is_what_the_format_asks_for() -> None:
    series = Series()
    series.counter("n_total", "Back\\slash and\nline.", ()).labels().inc()
    latency = series.histogram("latency", "Latency.", ("who",), (0.5, 2))
    latency.labels("a").observe(1, 3)
    series.summary("score", "Score.", ("who",)).labels("a").observe(-0.5)
    assert text_of(series) == (
        "# HELP n_total Back\\\\slash and\\nline.\n"
        "# TYPE n_total counter\n"
        "n_total 1.0\n"
        "# HELP latency Latency.\n"
        "# TYPE latency histogram\n"
        'latency_bucket{who="a",le="0.5"} 0\n'
        'latency_bucket{who="a",le="2.0"} 3\n'
        'latency_bucket{who="a",le="+Inf"} 3\n'
        'latency_sum{who="a"} 3.0\n'
        'latency_count{who="a"} 3\n'
        "# HELP score Score.\n"
        "# TYPE score summary\n"
        'score_count{who="a"} 1\n'
        'score_sum{who="a"} -0.5\n'
    )


def test_metrics_without_labels() -> None:
    series = Series()
    series.counter("dropped_total", "Dropped.", ())
    series.histogram("latency", "Latency.", (), (1,)).labels().observe(0.5)
    series.summary("score", "Score.", ()).labels().observe(2)
    assert parsed(text_of(series)) == {
        sample("dropped_total"): 0,
        sample("latency_bucket", le="1.0"): 1,
        sample("latency_bucket", le="+Inf"): 1,
        sample("latency_sum"): 0.5,
        sample("latency_count"): 1,
        sample("score_count"): 1,
        sample("score_sum"): 2,
    }


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.1, 0.5, 1.0, math.inf]) | st.floats(0)))
def test_histograms_count_as_prometheus_own_library_does(values: list[float]) -> None:
    bounds = (0.1, 0.5, 1.0)
    theirs = Histogram("h", "H.", registry=CollectorRegistry(), buckets=bounds)
    ours = Series().histogram("h", "H.", (), bounds).labels()
    for value in values:
        theirs.observe(value)
        ours.observe(value)
    buckets = [s.value for s in next(iter(theirs.collect())).samples if s.name == "h_bucket"]
    upto = [sum(ours.counts[: at + 1]) for at in range(len(ours.counts))]
    assert upto == buckets
    assert ours.sum == sum(values)


def test_equal_observations_are_taken_at_once() -> None:
    family = Series().histogram("h", "H.", ("how",), (1, 2))
    family.labels("together").observe(1.5, 3)
    for _ in range(3):
        family.labels("alone").observe(1.5)
    together, alone = family.labels("together"), family.labels("alone")
    assert (together.counts, together.sum) == (alone.counts, alone.sum) == ([0, 3, 0], 4.5)


def test_a_histogram_without_observations_has_no_lines() -> None:
    series = Series()
    family = series.histogram("h", "H.", ("who",), (1,))
    family.labels("idle")
    family.labels("busy").observe(9)
    assert "idle" not in text_of(series)
    assert parsed(text_of(series))[sample("h_count", who="busy")] == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
        (0.1, "0.1"),
        (3, "3"),
        (1e16, "1e+16"),
        (5e-7, "5e-07"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    series = Series()
    series.gauge("g", "G.", ()).labels().set(value)
    assert text_of(series).splitlines()[-1] == f"g {text}"


@pytest.mark.parametrize(
    "value",
    ['quo"te', "back\\slash", "line\nbreak", "\\n", "per%d cent %", "ünïcode 🦜", "a,b}", ""],
)
def test_label_values_come_back_as_they_were(value: str) -> None:
    series = Series()
    series.counter("n_total", "N.", ("who",)).labels(value).inc()
    series.histogram("h", "H.", ("who",), (1,)).labels(value).observe(0.5)
    series.summary("s", "S.", ("who",)).labels(value).observe(1)
    samples = parsed(text_of(series))
    assert samples[sample("n_total", who=value)] == 1
    assert samples[sample("h_bucket", who=value, le="1.0")] == 1
    assert samples[sample("s_count", who=value)] == 1


def test_a_series_is_made_once() -> None:
    family = Series().counter("n_total", "N.", ("a", "b"))
    assert family.labels("x", "y") is family.labels("x", "y")
    assert family.labels("x", "y") is not family.labels("y", "x")


def test_wrong_use_is_named() -> None:
    series = Series()
    counter = series.counter("n_total", "N.", ("a", "b"))
    with pytest.raises(ValueError, match=r"n_total has the labels \('a', 'b'\), not 1 of them"):
        counter.labels("x")
    with pytest.raises(ValueError, match="n_total: a counter cannot grow by -1"):
        counter.labels("x", "y").inc(-1)
    with pytest.raises(ValueError, match="there is a metric n_total already"):
        series.gauge("n_total", "N.", ())
    for bounds in ((), (1, 1), (2, 1)):
        with pytest.raises(ValueError, match="h: bounds must rise"):
            series.histogram("h", "H.", (), bounds)
    assert counter.children() == [counter.labels("x", "y")]


def test_a_removed_series_begins_anew() -> None:
    series = Series(("who",))
    family = series.counter("n_total", "N.", ("who", "what"))
    family.labels("a", "x").inc(5)
    family.labels("a", "y").inc(6)
    family.remove("a", "x")
    family.remove("a", "never there")
    assert parsed(text_of(series)) == {sample("n_total", who="a", what="y"): 6}
    family.labels("a", "x").inc()
    assert parsed(text_of(series))[sample("n_total", who="a", what="x")] == 1


def test_an_owner_goes_with_all_its_series_and_no_others() -> None:
    series = Series(("tenant", "adapter"))
    requests = series.counter("requests_total", "R.", ("tenant", "adapter", "status"))
    latency = series.histogram("latency", "L.", ("tenant", "adapter"), (1,))
    engines = series.counter("engines_total", "E.", ("engine", "tenant"))
    for adapter in ("one", "two"):
        for status in ("200", "500"):
            requests.labels("acme", adapter, status).inc()
        latency.labels("acme", adapter).observe(0.5)
    engines.labels("acme", "one").inc()
    requests.remove("acme", "one", "500")
    series.forget("acme", "one")
    series.forget("acme", "unknown")
    names = {(name, dict(labels).get("adapter")) for name, labels in parsed(text_of(series))}
    assert {adapter for name, adapter in names if name == "requests_total"} == {"two"}
    assert {adapter for name, adapter in names if name == "latency_count"} == {"two"}
    assert ("engines_total", None) in names
    assert [values for values, _ in series.owners()] == [("acme", "two")]


def big() -> Series:
    """More series than fit one slice, of each kind."""
    series = Series(("who",))
    counter = series.counter("n_total", "N.", ("who", "what"))
    empty = series.gauge("empty", "Nothing.", ("who",))
    histogram = series.histogram("h", "H.", ("who",), (1, 2, 3))
    summary = series.summary("s", "S.", ("who",))
    for number in range(100):
        counter.labels(str(number), "x").inc(number)
        histogram.labels(str(number)).observe(number, 2)
        summary.labels(str(number)).observe(number)
    assert not empty.children()
    return series


@pytest.mark.parametrize("slice_series", [1, 2, 7, 64, 10_000])
def test_slices_make_up_the_same_text(slice_series: int) -> None:
    series = big()
    slices = [*series.render(slice_series)]
    text = b"".join(slices).decode()
    assert text == text_of(series)
    assert (len(slices) == 1) == (slice_series == 10_000)
    assert len(parsed(text)) == 100 * (1 + 6 + 2)
    assert len(lines_of(text)) == len(set(lines_of(text))) == 2 * 4
    for piece in slices:
        assert piece.endswith(b"\n")
        assert piece.count(b"h_count") <= slice_series


def test_histograms_without_observations_take_slices_too() -> None:
    series = Series()
    idle = series.histogram("idle", "I.", ("who",), (1,))
    for number in range(10):
        idle.labels(str(number))
    series.counter("n_total", "N.", ()).labels().inc()
    slices = [*series.render(1)]
    assert len(slices) == 10 + 1
    assert b"".join(slices).decode() == text_of(series)
    assert parsed(text_of(series)) == {sample("n_total"): 1}


def test_a_series_that_comes_or_goes_between_two_slices_is_never_there_twice() -> None:
    series = big()
    counter, _, _, summary = series.families
    slices = series.render(1)
    text = next(slices)
    series.forget("99")
    counter.labels("99", "x").inc()
    summary.labels("new").observe(1)
    text += b"".join(slices)
    samples = parsed(text.decode())
    assert samples[sample("n_total", who="99", what="x")] == 99
    assert samples[sample("s_count", who="new")] == 1
    assert sample("s_count", who="99") not in samples


def test_a_histogram_agrees_with_itself_however_it_moves_between_slices() -> None:
    series = big()
    family = series.families[2]
    text = b""
    for piece in series.render(1):
        text += piece
        for child in family.children():
            child.observe(0.5)
            child.observe(9.0)
    samples = parsed(text.decode())
    for number in range(100):
        who = str(number)
        count = samples[sample("h_count", who=who)]
        assert samples[sample("h_bucket", who=who, le="+Inf")] == count
        rises = [samples[sample("h_bucket", who=who, le=le)] for le in ("1.0", "2.0", "3.0")]
        assert rises == sorted(rises)
        moved = (count - 2) / 2
        assert samples[sample("h_sum", who=who)] == 2 * number + moved * 9.5
