"""The benchmark's arithmetic: which rounds count, paired ratios, verdicts, and the report."""

import json
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.sides.gaps import Spread
from benchmarks.sides.paced import Paced
from benchmarks.sides.profiler import Profile, summarise
from benchmarks.sides.report import markdown, table
from benchmarks.sides.results import Results
from benchmarks.sides.rounds import (
    Summary,
    counting_rounds,
    errors,
    ratios,
    room,
    summary,
    turn,
)
from benchmarks.sides.verdicts import (
    Verdict,
    added_p99_ms,
    paced_verdicts,
    relay_verdicts,
    requests_per_s,
)
from benchmarks.sides.window import Window


def window(side: str, rate: float, scenario: str = "plain", number: int = 0, **more: Any) -> Window:
    """Ten seconds in which a side did `rate` requests and 128 times as many chunks a second."""
    figures: dict[str, Any] = {
        "seconds": 10.0,
        "requests": int(rate * 10),
        "chunks": int(rate * 1280),
        "errors": {},
        "p50_ms": 1.0,
        "p90_ms": 2.0,
        "p99_ms": 3.0,
        "max_ms": 4.0,
        "cpu_s": 8.0,
        "engine_cpu_s": 5.0,
        "rss_bytes": 100 * 2**20,
    }
    return Window(scenario=scenario, side=side, round=number, **figures | more)


def paced(side: str, p99_ms: float, **more: Any) -> Paced:
    """Five minutes of 500 streams."""
    figures: dict[str, Any] = {
        "streams": 500,
        "token_time_s": 0.02,
        "seconds": 300.0,
        "chunks_per_s": 25_000.0,
        "streams_ended": 20_000,
        "errors": {},
        "ttft": Spread(20_000, 5.0, 9.0, 10.0, 30.0),
        "itl": Spread(7_000_000, 20.0, 21.0, p99_ms, 60.0),
        "proxy_cpu_share": 0.4,
        "engine_cpu_share": 0.2,
        "client_cpu_share": 0.2,
        "cpu_s_per_1000_chunks": 0.016,
        "rss_bytes": [100 * 2**20] * 300,
    }
    return Paced(side=side, **figures | more)


def test_each_round_begins_with_another_side() -> None:
    sides = ["a", "b", "c"]
    assert [turn(sides, number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_a_summary_has_the_middle_and_the_ends() -> None:
    assert summary([3.0, 1.0, 2.0]) == Summary(2.0, 1.0, 3.0, 3)
    assert summary([]) is None


def test_ratios_pair_the_windows_of_one_round() -> None:
    windows = [
        window("loraplex", 100.0, number=0),
        window("nginx", 200.0, number=0),
        window("loraplex", 300.0, number=1),
        window("nginx", 100.0, number=1),
        window("loraplex", 900.0, number=2),
        window("nginx", 100.0, "stream", number=2),
    ]
    assert ratios(windows, "plain", "loraplex", "nginx", requests_per_s) == {0: 0.5, 1: 3.0}
    assert ratios(windows, "plain", "loraplex", "litellm", requests_per_s) == {}
    still = [window("loraplex", 1.0), window("nginx", 0.0)]
    assert ratios(still, "plain", "loraplex", "nginx", requests_per_s) == {}


def test_a_round_counts_where_the_engine_leaves_room() -> None:
    windows = [
        *(window(side, rate, number=0) for side, rate in [("direct", 150.0), ("nginx", 100.0)]),
        *(window(side, rate, number=1) for side, rate in [("direct", 149.0), ("nginx", 100.0)]),
        window("nginx", 1.0, number=2),
    ]
    assert room(windows, "plain") == {0: 1.5, 1: 1.49}
    assert counting_rounds(windows, "plain") == {0}
    slower = [*windows, window("loraplex", 120.0, number=0)]
    assert counting_rounds(slower, "plain") == set()


def test_errors_are_added_up() -> None:
    windows = [
        window("a", 1.0, errors={"status": 2}),
        window("a", 1.0, errors={"status": 1, "read": 4}),
    ]
    assert errors(windows) == {"status": 3, "read": 4}


def claim(verdicts: list[Verdict], *words: str) -> Verdict:
    """The one verdict that is about this."""
    (found,) = [v for v in verdicts if all(word in v.claim for word in words)]
    return found


@pytest.mark.parametrize(("rate", "held"), [(100.0, True), (99.0, False)])
def test_plain_requests_are_compared_per_second(rate: float, held: bool) -> None:
    windows = [window("direct", 900.0), window("loraplex", rate), window("vllm-router", 100.0)]
    verdict = claim(relay_verdicts(windows), "plain requests", "vllm-router")
    assert verdict.held is held
    assert "per CPU second" not in verdict.claim


@pytest.mark.parametrize(
    ("rate", "cpu_s", "held"), [(100.0, 7.0, True), (100.0, 7.5, False), (99.0, 4.0, False)]
)
def test_where_the_fake_is_the_bound_cpu_decides(rate: float, cpu_s: float, held: bool) -> None:
    windows = [
        window("direct", 110.0, "stream"),
        window("loraplex", rate, "stream", cpu_s=cpu_s),
        window("vllm-router", 100.0, "stream", cpu_s=8.0),
    ]
    verdict = claim(relay_verdicts(windows), "streamed chunks", "vllm-router")
    assert "per CPU second" in verdict.claim
    assert verdict.held is held


def test_a_rate_with_errors_does_not_hold() -> None:
    windows = [
        window("direct", 900.0),
        window("loraplex", 500.0, errors={"status": 1}),
        window("vllm-router", 100.0),
        window("litellm", 1.0),
    ]
    assert claim(relay_verdicts(windows), "plain requests", "vllm-router").held is False
    assert claim(relay_verdicts(windows), "plain requests", "litellm").held is False


@pytest.mark.parametrize(("p50_ms", "held"), [(1.2, True), (1.21, False)])
def test_latency_at_one_connection(p50_ms: float, held: bool) -> None:
    windows = [window("loraplex", 1.0, "one", p50_ms=p50_ms), window("vllm-router", 1.0, "one")]
    assert claim(relay_verdicts(windows), "p50").held is held


@pytest.mark.parametrize(("rate", "held"), [(50.0, True), (49.9, False)])
def test_litellm_is_to_be_far_behind(rate: float, held: bool) -> None:
    for scenario in "plain", "stream":
        windows = [window("loraplex", rate * 10, scenario), window("litellm", 10.0, scenario)]
        what = {"plain": "plain requests", "stream": "streamed chunks"}[scenario]
        assert claim(relay_verdicts(windows), what, "litellm").held is held


def test_what_was_not_measured_is_neither_held_nor_not() -> None:
    verdicts = [*relay_verdicts([]), *paced_verdicts([], [])]
    assert {verdict.held for verdict in verdicts} == {None}
    assert len(verdicts) == 7


def test_steady_streams_are_judged_by_what_the_proxy_adds() -> None:
    sides = [paced("direct", 22.0), paced("loraplex", 31.9)]
    assert added_p99_ms(sides, "loraplex") == pytest.approx(9.9)
    assert added_p99_ms(sides[1:], "loraplex") is None
    assert [v.held for v in paced_verdicts(sides, [])] == [True, True, True, None]
    growing = [size * 2**20 for size in range(100, 400)]
    bad = replace(sides[1], proxy_cpu_share=0.7, rss_bytes=growing)
    late = replace(bad, itl=replace(bad.itl, p99_ms=32.0))
    assert [v.held for v in paced_verdicts([sides[0], late], [])] == [False, False, False, None]
    failed = replace(sides[1], errors={"connection lost in a stream": 1})
    assert claim(paced_verdicts([sides[0], failed], []), "added p99").held is False


def test_a_shorter_run_says_so() -> None:
    short = [paced("direct", 22.0, seconds=30.0), paced("loraplex", 23.0, seconds=30.0)]
    assert "the claim is for 500 over 300 s" in paced_verdicts(short, [])[0].measured


def test_many_streams_are_to_end_without_error() -> None:
    good = paced("loraplex-2-workers", 100.0, streams=2000)
    bad = replace(good, errors={"stream too short": 1})
    assert claim(paced_verdicts([], [good]), "two workers").held is True
    assert claim(paced_verdicts([], [bad]), "two workers").held is False
    assert claim(paced_verdicts([], [replace(good, streams_ended=0)]), "two").held is False


def test_a_table_is_markdown() -> None:
    assert table(["side", "rate"], [["a", "1"]]) == "| side | rate |\n|---|---:|\n| a | 1 |\n"


def results(**more: Any) -> Results:
    """A run."""
    return Results("relay.py", "2026-01-02T03:04:05+00:00", {}, {"cores": "2"}, **more)


def test_the_report_says_what_bounds_and_what_failed() -> None:
    profile = Profile("plain")
    summarise("a;b 3\na 1\n", profile)
    found = results(
        versions={"nginx": {"nginx": "1.22"}},
        windows=[
            window("direct", 110.0, "stream"),
            window("loraplex", 100.0, "stream", errors={"read": 2}),
            window("nginx", 100.0, "stream"),
        ],
        paced=[paced("direct", 22.0), paced("loraplex", 25.0, errors={"stream too short": 7})],
        profiles=[profile, Profile("one", note="no right to look")],
        notes=["litellm: does not start"],
    )
    text = markdown(found)
    for part in (
        "**Partial",
        "nginx 1.22",
        "Bound by the engine or the load generator",
        "0 of 1",
        "2 read",
        "3.00 ms",
        "7 x loraplex: stream too short",
        "| `b` | 75.0% | 75.0% |",
        "no right to look",
        "litellm: does not start",
    ):
        assert part in text
    found.partial = False
    assert "**Partial" not in markdown(found)


def test_a_report_of_nothing_is_written_too() -> None:
    found = results()
    assert "not measured" in markdown(found)
    assert json.loads(found.to_json())["verdicts"][0]["held"] is None


def test_a_profile_leaves_out_threads_that_wait() -> None:
    profile = Profile("plain")
    stacks = "main (a.py:1);run (b.py:2) 3\nmain (a.py:1) 1\n"
    waits = "boot (t.py:1);_worker (concurrent/futures/thread.py:69) 90\n"
    summarise(stacks + waits + "rubbish\n", profile)
    assert profile.samples == 4
    assert [(line.function, line.own, line.total) for line in profile.by_own] == [
        ("run (b.py:2)", 0.75, 0.75),
        ("main (a.py:1)", 0.25, 1.0),
    ]
    assert profile.by_total[0].function == "main (a.py:1)"
