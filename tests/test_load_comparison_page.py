"""Two runs side by side: the headline, the table, the plots, and what makes it doubtful."""

from dataclasses import replace
from functools import cache

from loadtest.report.comparison_page import comparison_page, row, warnings
from loadtest.report.differences import headline, label
from loadtest.report.plots.forest import forest
from loadtest.report.result import Result
from loadtest.samples import Sample
from loadtest.statistics.compare import Comparison, Difference, Run, compare
from tests.load_results import BOUND, MACHINE, Page, result_of, some

HOSTILE = "<script>alert(1)</script>"


def slower(by_s: float, count: int = 120) -> list[Sample]:
    """The same requests, whose answers come later."""
    names = ("first_token_s", "last_token_s", "ended_s")
    return [
        replace(one, **{name: getattr(one, name) + by_s for name in names}) for one in some(count)
    ]


def compared(a: Result, b: Result) -> Comparison:
    runs = [
        Run(one.name, one.table(), int(one.rows["of_requests"]), one.schedule.digest)
        for one in (a, b)
    ]
    return compare(runs[0], runs[1], resamples=100)


@cache
def shown() -> Page:
    a = result_of(slower(0.0), name=HOSTILE)
    b = result_of(slower(0.1), name="later", tester=BOUND)
    return Page(comparison_page(compared(a, b), a, b))


def difference(figure: str, direction: str = "worse", **changed: float | None) -> Difference:
    fields = {"a": 0.2, "b": 0.3, "low": 0.05, "high": 0.15, "change": 0.5, "change_low": 0.25,
              "change_high": 0.75} | changed  # fmt: skip
    return Difference(figure=figure, direction=direction, requests=(100, 100), **fields)  # type: ignore[arg-type]


def comparison(*differences: Difference) -> Comparison:
    return Comparison("a", "b", True, "paired", 0.95, list(differences))


def test_the_page_says_what_changed_and_by_how_much() -> None:
    words = shown().words
    assert "B is worse in TTFT and E2E" in words
    assert "Requests are paired: 120 requests of the same schedule" in words
    assert "TTFT mean 250 ms 350 ms +100 ms [+100 ms, +100 ms]" in words
    assert "✗ worse" in words
    assert "= the same" in words


def test_names_do_nothing_and_nothing_is_loaded() -> None:
    assert "script" not in shown().tags
    assert HOSTILE in shown().text
    assert [load for load in shown().loads if not load.startswith("#")] == []


def test_both_runs_are_drawn_and_told() -> None:
    labels = " | ".join(shown().labels)
    assert "Relative changes of each figure" in labels
    for figure in ("TTFT", "ITL", "TPOT", "E2E"):
        assert f"Cumulative distributions of {figure} of both runs" in labels
    assert "B: later" in shown().text
    assert shown().words.count("http://engine.test:8000") == 2


def test_a_run_that_cannot_be_trusted_is_told() -> None:
    assert "B: Tester-bound" in shown().words
    assert "A: Tester-bound" not in shown().words
    a, b = result_of(some(4)), result_of(some(4))
    assert warnings(a, b) == []
    other = b.model_copy(update={"machine": replace(MACHINE, cores=2), "url": "http://other:1"})
    told = [line.text for line in warnings(a, other)]
    assert told[0].startswith("The runs came from different testers")
    assert told[1] == "The runs had different targets."


def test_the_headline_names_what_is_clear() -> None:
    def said(*differences: Difference) -> tuple[str, str]:
        found = headline(comparison(*differences))
        return found.tone, found.text

    worse, better = difference("ttft_p50"), difference("e2e_mean", "better")
    assert said(difference("itl_p50", "unclear")) == ("note", "No difference is clear")
    assert said(worse, difference("ttft_p95")) == ("bad", "B is worse in TTFT")
    assert said(better, difference("requests_per_s", "better"))[1] == (
        "B is better in E2E and requests/s"
    )
    assert said(worse, better) == ("warn", "B is worse in TTFT, better in E2E")
    # A figure of each kind: both are named in full.
    assert said(worse, difference("ttft_p99", "better"))[1] == (
        "B is worse in TTFT p50, better in TTFT p99"
    )


def test_rows_have_units_and_intervals() -> None:
    told = row(difference("ttft_p95"))
    assert (told.figure, told.a, told.b) == ("TTFT p95", "200 ms", "300 ms")
    assert told.difference == "+100 ms [+50 ms, +150 ms]"
    assert told.change == "+50.0% [+25.0%, +75.0%]"
    bare = row(difference("errors", "unclear", low=None, high=None, change=None))
    assert (bare.a, bare.difference, bare.change) == ("20.0%", "+10.00 points", "-")
    assert row(difference("requests_per_s", a=10.0, b=9.5)).difference.startswith("-0.5 [")


def test_the_forest_leaves_out_what_has_no_relative_change() -> None:
    assert forest([difference("errors", change=None)], 0.95) == ""
    drawn = forest([difference("ttft_p95"), difference("e2e_p99", change=40.0)], 0.95)
    assert "TTFT p95" in drawn
    assert "with the interval of 95%" in drawn
    assert label("output_tokens_per_s") == "output tokens/s"
