"""A load test's report: what it says first, what it draws, and that it needs nothing beside it."""

import math
import re
from functools import cache
from typing import Any

import numpy as np
import pytest

from loadtest.knee import Knee, Level
from loadtest.report import formats
from loadtest.report.about import load
from loadtest.report.groups import group_table
from loadtest.report.page import page
from loadtest.report.plots.drawing import log_ticks, step
from loadtest.report.plots.heat import heat, levels
from loadtest.report.plots.over_time import steps, thinned
from loadtest.report.plots.rates import stage_means, throughput_against_rate, varies
from loadtest.report.plots.requests import window
from loadtest.report.plots.source import short, source
from loadtest.report.result import KneeSearch, Result
from loadtest.report.verdict import headline, lines, objectives
from loadtest.running.options import Options
from loadtest.statistics.timeline import Cell
from loadtest.statistics.units import StatisticsError
from tests.load_engines import NO_GAPS, failed, sample
from tests.load_results import BOUND, Page, result_of, some

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> {{ 7 * 7 }} $\\frac$ \x00\"'"


@cache
def rich() -> tuple[str, Page]:
    """The page of a run with everything: hostile names, failures, a price, two stages, warm-up."""
    samples = some(
        160, tenants=(HOSTILE, "globex", "日本"), models=("a", HOSTILE), fails=lambda i: i % 9 == 4
    )
    samples = [sample(one.index, one.intended_s, phase="warmup") if one.index < 12 else one
               for one in samples]  # fmt: skip
    result = result_of(
        samples, name=HOSTILE, stages=[{"rate": 8, "seconds": 8}, {"rate": 12, "seconds": 8}],
        conditions=["ttft_p95 > 100ms", "errors > 50%"], price=2.5, options=Options(warmup_s=1.2),
        problem=HOSTILE,
    )  # fmt: skip
    markup = page(result)
    return markup, Page(markup)


def texts(result: Result, tone: str) -> list[str]:
    return [line.text for line in lines(result) if line.tone == tone]


def search(*, found: bool = True) -> KneeSearch:
    shown = [(5.0, 1.0, True), (10.0, 0.99, True), (14.0, 0.9, False), (20.0, 0.2, True)]
    levels = [
        Level(rate, 2, 100, share, agreed, share, min(rate, 13.0)) for rate, share, agreed in shown
    ]
    knee = Knee(12.5 if found else None, 10, 14, found, "10 a second held and 14 did not", 8)
    return KneeSearch(knee=knee, levels=levels, target=0.95, probe_s=30, figures_of_rate=10)


def test_names_are_shown_and_do_nothing() -> None:
    markup, shown = rich()
    assert "script" not in shown.tags
    assert "img" not in shown.tags
    assert shown.handlers == []
    # The title, the name, the problem, and the name in tables.
    assert shown.text.count("alert(1)") >= 4
    assert "{{ 7 * 7 }}" in shown.text
    assert "日本" in shown.text
    assert "<script" not in markup


def test_the_page_needs_nothing_beside_it() -> None:
    markup, shown = rich()
    # What elements load is in the page: parts of its own drawings.
    assert [load for load in shown.loads if not load.startswith("#")] == []
    ids = re.findall(r' id="([^"]+)"', markup)
    assert {load[1:] for load in shown.loads} <= set(ids)
    assert len(ids) == len(set(ids))
    assert "@import" not in markup
    assert "url(" not in markup.replace("url(#", "")
    assert "prefers-color-scheme: dark" in markup
    # Drawings take the page's colours, so that they fit both.
    assert "var(--series-0)" in markup
    assert "#0101" not in markup


def test_what_matters_comes_first() -> None:
    order = [
        "Fails 1 of 2 conditions", "ttft_p95 > 100ms: ttft_p95 is", "The tester kept up",
        "Latencies", "Over the run", "Distributions", "Throughput, failures, cost", "Tenants",
        "Models", "Requests one by one", "In the words of other testers", "What was run",
        "How to read it",
    ]  # fmt: skip
    words = rich()[1].words
    places = [words.find(one) for one in order]
    assert -1 not in places
    assert places == sorted(places)


def test_every_plot_is_there_and_says_what_it_shows() -> None:
    labels = " | ".join(rich()[1].labels)
    for told in (
        "Latency of requests over the run", "Load over the run",
        "Answers a second against arrivals",
        "TTFT against the rate", "Cumulative distributions of TTFT, ITL, TPOT and E2E",
        "distributions of TTFT by tenant", "tenants by time", "models by time", "Timeline of",
    ):  # fmt: skip
        assert told in labels


def test_the_workload_and_the_other_testers_words_are_told() -> None:
    words = rich()[1].words
    for told in ("kind: poisson", "vllm bench serve", "guidellm", "aiperf", "http_503",
                 "http://engine.test:8000", "Some CPU, 8 cores",
                 "8 → 12 requests/s, 8 s each"):  # fmt: skip
        assert told in words


def test_a_search_shows_its_curve_and_the_knee() -> None:
    result = result_of(some(20), knee=search())
    assert headline(result).text == "The knee is at 12.5 requests/s"
    shown = Page(page(result))
    assert "Share of good requests against the rate, with the target and the knee" in shown.labels
    assert "knee 12.5/s" in shown.text
    assert "target 95%" in shown.text
    assert "not agreed" in shown.text
    assert "Latencies and tables are those of the run at 10 requests/s." in shown.words


@pytest.mark.parametrize(
    ("samples", "fields", "said"),
    [
        ([], {"ended": "target", "problem": "http://x refuses; is it running?"},
         ["The target could not be tested", "http://x refuses; is it running?"]),
        ([sample(0, 0.1, phase="warmup")], {"ended": "interrupted"},
         ["Nothing was measured", "1 request fell in warm-up or cool-down"]),
        ([failed(0), failed(1, 0.5)], {}, ["No request was answered", "2 of 2 requests failed"]),
        ([sample(0, 0.0, tenant="")], {"slo": None}, ["The request was answered"]),
        ([sample(i, i / 9, tenant="", first_token_s=None, last_token_s=None, gaps=NO_GAPS, events=0)
          for i in range(40)], {"slo": None}, ["All 40 requests were answered", "E2E"]),
    ],
    ids=["nothing", "warm-up only", "only failures", "one", "not streamed"],
)  # fmt: skip
def test_what_is_missing_is_left_out(samples: Any, fields: dict[str, Any], said: list[str]) -> None:
    shown = Page(page(result_of(samples, **fields)))
    for told in said:
        assert told in shown.words
    assert re.search(r"\b(nan|None)\b", shown.words) is None
    # One tenant, or none, has nobody to be compared with.
    assert "Slowness by" not in shown.words


def test_a_run_that_the_tester_limited_says_so_and_why() -> None:
    result = result_of(some(4), tester=BOUND)
    assert headline(result).text == "The tester was the limit, not the server"
    (told,) = texts(result, "warn")
    assert told.startswith("Tester-bound")
    assert "Requests were sent 84 ms late; out of files." in told


def test_the_headline_is_the_worst_of_what_happened() -> None:
    fine = some(4, tenants=("a",))
    assert headline(result_of(fine, slo=None)).text == "All 4 requests were answered"
    assert headline(result_of(fine, slo="ttft=1s")).tone == "good"
    interrupted = result_of(fine, ended="interrupted", conditions=["errors > 1%"])
    assert headline(interrupted).text.startswith("Interrupted after 1.0")
    assert headline(result_of(fine, conditions=["errors > 1%"])).text == "Keeps its condition"
    assert headline(result_of(fine, conditions=["ttft_p50 > 1ms"])).text == "Fails its condition"
    broken = result_of([*fine, failed(9, 1.0)], slo=None)
    assert (headline(broken).tone, headline(broken).text) == ("bad", "20.0% of requests failed")
    assert (
        headline(result_of(fine, knee=search(found=False))).text == "No rate holds the objectives"
    )


def test_verdicts_come_with_what_spoils_the_run_first() -> None:
    result = result_of(some(40, fails=lambda i: i == 3), ended="interrupted", rows=20)
    tones = [line.tone for line in lines(result)]
    assert tones == sorted(tones, key=["bad", "warn", "good", "note"].index)
    told = " ".join(texts(result, "note"))
    assert "a sample of 20 of 40" in told
    assert "kept the objectives TTFT ≤ 250 ms" in told
    assert "Interrupted by the user after" in " ".join(texts(result, "warn"))


def test_a_run_that_broke_off_is_not_taken_for_an_interrupted_one() -> None:
    broken = result_of(some(4), ended="interrupted", problem="the tester failed (ValueError)")
    assert headline(broken).text.startswith("The run broke off after ")
    assert texts(broken, "bad") == ["The tester failed (ValueError)."]
    assert not any("by the user" in line.text for line in lines(broken))


def test_a_search_that_broke_off_is_told_by_no_probes_time() -> None:
    broken = result_of(some(4), ended="interrupted", problem="it died", knee=search(found=False))
    assert headline(broken).text == "The search broke off"


def test_of_a_search_that_was_interrupted_no_probes_time_is_told() -> None:
    early = result_of(some(4), ended="interrupted", knee=search(found=False))
    assert headline(early).text == "Interrupted before the search's end"
    assert texts(early, "warn")[0] == "Interrupted by the user before the search came to its end."
    assert texts(early, "bad")[0].startswith("Search for the knee: ")


def test_objectives_have_units() -> None:
    assert objectives(result_of([], slo="ttft=0.5s,itl=50ms")) == "TTFT ≤ 500 ms, ITL ≤ 50 ms"


def test_of_many_tenants_the_worst_are_shown_and_the_rest_told() -> None:
    samples = some(300, tenants=[f"t{i}" for i in range(60)], fails=lambda i: i % 60 == 42)
    result = result_of(samples, apart=55)
    table = group_table(result.tenants, result.other_tenants, {"t0": 0}, most=50)
    assert table.shown[0].name == "t42"
    assert table.shown[0].failed == 1
    assert table.shown[-1].name == "all others together"
    assert (len(table.shown), table.left_out) == (51, 5)
    assert table.told.startswith("25 requests, 0 failed, TTFT p95 at most")
    slowest = [row.of.ttft_s.p95 or 0 for row in table.shown[1:-1]]
    assert slowest == sorted(slowest, reverse=True)


def test_the_heat_map_holds_percentiles_and_failures_by_time() -> None:
    samples = some(240, tenants=("quick", "slow"), fails=lambda i: 100 <= i < 120)
    samples = [
        sample(one.index, one.intended_s, tenant="slow", first_token_s=one.intended_s + 2,
               last_token_s=one.intended_s + 3, ended_s=one.intended_s + 3)
        if one.tenant == "slow" and one.outcome == "ok" else one for one in samples
    ]  # fmt: skip
    found = heat(source(result_of(samples)), "tenant")
    assert found is not None
    assert found.names == ["quick", "slow"]
    told = np.nanmedian(found.values, axis=1)
    assert 0.2 <= told[0] <= 0.3
    assert told[1] == pytest.approx(2, rel=1e-3)
    at = (found.bounds[:-1] + found.bounds[1:]) / 2
    assert at[found.failed[0]].min() > 9
    assert at[found.failed[0]].max() < 13
    assert found.failed[0].any()


def test_small_differences_are_not_drawn_as_large_ones() -> None:
    near = levels(np.array([0.100, 0.102, 0.104]))
    assert (near > 0.104).sum() >= 5
    far = levels(np.array([0.01, 0.1, 1.0]))
    assert far.min() < 0.03
    assert far.max() > 0.5
    assert np.all(np.diff(far) > 0)


def test_thinning_keeps_the_slowest() -> None:
    values = np.random.default_rng(1).uniform(0, 1, 20_000)
    values[777] = 99.0
    kept = thinned(values, 1000)
    assert len(kept) <= 1000
    assert 777 in kept
    assert np.array_equal(thinned(values[:50], 1000), np.arange(50))


def test_lines_over_time_are_of_stretches_with_enough_requests() -> None:
    times = np.linspace(0, 10, 200)
    middles, p50, p95 = steps(times, np.where(times < 5, 1.0, 3.0))
    assert len(middles) == 10
    assert list(p50) == [1.0] * 5 + [3.0] * 5
    assert np.all(p95 >= p50)
    assert len(steps(times[:30], times[:30])[0]) == 0


def test_the_stretch_that_fared_worst_is_shown_request_by_request() -> None:
    calm = window(source(result_of(some(50))))
    assert (len(calm.rows), calm.worst) == (50, False)
    rough = window(source(result_of(some(400, fails=lambda i: 200 <= i < 240))), most=60)
    assert rough.worst
    assert len(rough.rows) == 60
    assert set(range(200, 240)) <= set(rough.rows["index"].tolist())


def test_stages_are_told_by_their_means() -> None:
    cells = [Cell(float(i), 1.0, 10.0 if i < 4 else 20.0, 9.0 if i < 4 else 15.0, 0, 0, 0, None,
                  None) for i in range(8)]  # fmt: skip
    stages = [{"rate": 10, "seconds": 4}, {"rate": 20, "seconds": 4}]
    told = stage_means(cells, {"arrivals": {"kind": "poisson", "stages": stages}})
    assert told.tolist() == [[10, 10, 9], [20, 20, 15]]
    ramp = {"arrivals": {"kind": "poisson", "stages": [{"rate": 1, "to": 9, "seconds": 8}]}}
    assert len(stage_means(cells, ramp)) == 0
    assert varies(ramp)
    assert not varies({"arrivals": {"kind": "poisson", "stages": [{"rate": 1, "seconds": 8}]}})


def test_axes_have_round_and_few_ticks() -> None:
    assert log_ticks(0.04, 3.0) == pytest.approx([0.05, 0.1, 0.2, 0.5, 1, 2])
    assert all(1 <= len(log_ticks(0.01, 0.01 * far)) <= 7 for far in (1.1, 2, 30, 1e5, 1e9))
    assert [step(end) for end in (48, 15, 0.9, 3000)] == [10, 2, 0.2, 500]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0.0, "0 ms"), (1.2345, "1.23 s"), (0.0831, "83.1 ms"), (0.00064, "640 µs"),
     (0.99999, "1 s"), (12.0, "12 s"), (1234.5, "1,234 s"), (0.1, "100 ms")],
)  # fmt: skip
def test_latencies_have_three_digits_and_a_unit(value: float | None, shown: str) -> None:
    assert formats.seconds(value) == shown


def test_only_all_is_a_hundred_percent() -> None:
    shares = [None, 0.0, 0.00001, 0.0288, 0.9955, 0.99999, 1.0]
    shown = ["-", "0%", "< 0.01%", "2.9%", "99.55%", "> 99.99%", "100%"]
    assert [formats.share(one) for one in shares] == shown


def test_lengths_of_time_and_counts_read_well() -> None:
    spans = [formats.span(one) for one in (8.33, 119.0, 250.0, 7500.0)]
    assert spans == ["8.33 s", "119 s", "4 min 10 s", "2 h 5 min"]
    assert formats.count(1, "request") == "1 request"
    assert formats.count(1200, "request") == "1,200 requests"


def test_money_has_its_cents() -> None:
    shown = [formats.money(one) for one in (None, 0.0, 0.00421, 12.5, 1250.4)]
    assert shown == ["-", "0", "0.00421", "12.50", "1,250.40"]


def test_long_names_lose_their_middle() -> None:
    assert short("a" * 30 + "zz", 11) == "aaaaa…aaazz"
    assert short("line\nbreak\x00") == "line break "
    assert short("") == "(none)"


@pytest.mark.parametrize(
    ("arrivals", "words"),
    [
        ({"kind": "poisson", "stages": [{"rate": 5, "seconds": 9}, {"rate": 8, "seconds": 9}]},
         "Poisson arrivals, 5 → 8 requests/s, 9 s each"),
        ({"kind": "gamma", "burstiness": 0.5, "stages": [{"rate": 5, "to": 9, "seconds": 300}]},
         "gamma arrivals of burstiness 0.5, 5 ↗ 9 requests/s, 5 min"),
        ({"kind": "constant", "stages": [{"rate": math.inf}]}, "even arrivals, all at once"),
        ({"kind": "constant", "stages": [{"rate": None}]}, "even arrivals, all at once"),
        ({"kind": "closed", "stages": [{"users": 4, "seconds": 6}, {"users": 12, "seconds": 8}]},
         "closed loop, 4 → 12 users, 14 s in all"),
        ({"kind": "trace", "path": "t.csv", "speed": 2.0}, "replay of a trace, 2 times as fast"),
        ({"kind": "poisson", "stages": [{"rate": n, "seconds": 1} for n in range(1, 10)]},
         "Poisson arrivals, 1 → 2 → 3 → … → 8 → 9 requests/s, 1 s each"),
    ],
)  # fmt: skip
def test_the_load_is_told_in_words(arrivals: dict[str, Any], words: str) -> None:
    assert load({"arrivals": arrivals}) == words


def test_a_closed_loop_is_drawn_by_its_users() -> None:
    result = result_of(some(60))
    stages = [{"users": 2, "seconds": 3}, {"users": 6, "seconds": 3}]
    workload = {"arrivals": {"kind": "closed", "stages": stages}}
    drawn = throughput_against_rate(result.model_copy(update={"workload": workload}))
    assert "against the number of users" in drawn
    assert throughput_against_rate(result) == ""


def test_without_what_draws_it_the_fix_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.report.rendering.find_spec", lambda name: None)
    with pytest.raises(
        StatisticsError, match=r"needs jinja2 and matplotlib: .*loraplex\[loadtest\]"
    ):
        page(result_of([]))
