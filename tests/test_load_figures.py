"""What samples add up to: figures, groups, the peers' definitions, the timeline, the rows."""

import math
import pickle
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from loadtest.samples import Sample
from loadtest.statistics.conditions import FACTS, facts
from loadtest.statistics.figures import Figures, Summary
from loadtest.statistics.goodput import parse_slo
from loadtest.statistics.latencies import latencies
from loadtest.statistics.measured import Measured
from loadtest.statistics.peers import as_vllm
from tests.load_engines import NO_GAPS, failed, sample, thawed, timed


def figures_of(*samples: Sample, slo: str | None = None) -> Figures:
    made = Figures(parse_slo(slo) if slo else None)
    for one in samples:
        made.add(one)
    return made


def test_latencies_count_from_the_intended_time() -> None:
    late = latencies(sample(at_s=5, intended_s=4.0))
    assert late.ttft_s == pytest.approx(1.2)
    assert late.e2e_s == pytest.approx(1.71)
    assert late.tpot_s == late.itl_s == pytest.approx(0.05)


def test_an_answer_in_one_piece_has_an_end_alone() -> None:
    whole = sample(first_token_s=None, last_token_s=None, gaps=NO_GAPS, events=0)
    of = latencies(whole)
    assert (of.ttft_s, of.itl_s, of.tpot_s) == (None, None, None)
    assert of.e2e_s == pytest.approx(0.71)


def test_a_timeout_counts_with_what_it_waited_and_a_refusal_not_at_all() -> None:
    timeout = latencies(failed(after_s=30.0, outcome="timeout", status=None, error="timeout"))
    assert (timeout.ttft_s, timeout.e2e_s) == (30.0, 30.0)
    stuck = failed(after_s=30.0, outcome="timeout", first_token_s=0.2)
    assert (latencies(stuck).ttft_s, latencies(stuck).e2e_s) == (0.2, 30.0)
    refused = latencies(failed())
    assert (refused.ttft_s, refused.e2e_s) == (None, None)


def test_requests_tokens_and_rates_over_the_measured_time() -> None:
    told = figures_of(
        sample(0, 1.0),
        sample(1, 2.0),
        failed(2, 3.0, 8.0, outcome="timeout", error="timeout", status=None),
        failed(3, 3.0),
    ).summary()
    requests, throughput = told.all.requests, told.all.throughput
    assert (requests.sent, requests.ok, requests.failed) == (4, 2, 2)
    assert requests.outcomes == {"ok": 2, "timeout": 1, "http_error": 1}
    assert told.errors == {"timeout": 1, "http_503": 1}
    assert throughput.seconds == 10.0
    assert throughput.requests_per_s == pytest.approx(0.2)
    assert throughput.output_tokens_per_s == pytest.approx(2.2)
    assert throughput.total_tokens_per_s == pytest.approx(3.6)
    assert told.tokens_from == {"server": 2}


def test_what_the_user_cancelled_is_neither_ok_nor_failed() -> None:
    stopped = failed(2, 3.0, 5.0, outcome="cancelled", status=None, error="cancelled")
    told = figures_of(sample(0, 0.0), failed(1, 1.0), stopped, slo="ttft=1s").summary()
    requests = told.all.requests
    assert (requests.sent, requests.ok, requests.failed, requests.cancelled) == (3, 1, 1, 1)
    assert told.errors == {"http_503": 1}
    assert told.all.goodput is not None
    assert told.all.goodput.share == facts(told, tester_bound=False)["errors"] == 0.5
    assert told.all.e2e_s.count == 1


def test_warmup_and_cooldown_are_counted_apart() -> None:
    told = figures_of(
        sample(0, 0.0, phase="warmup", first_token_s=9.0),
        sample(1, 1.0),
        failed(2, 2.0, phase="cooldown"),
    ).summary()
    assert told.outside == {"warmup": 1, "cooldown": 1}
    assert (told.all.requests.sent, told.all.ttft_s.count, told.errors) == (1, 1, {})
    assert told.all.ttft_s.max == pytest.approx(0.2)


def test_a_run_without_requests_has_no_figures_and_does_not_fail() -> None:
    told = figures_of(slo="ttft=1s").summary()
    assert (told.all.requests.sent, told.all.ttft_s.p99) == (0, None)
    assert told.all.throughput.requests_per_s is None
    known = facts(told, tester_bound=False)
    assert known.keys() == FACTS.keys()
    assert known["ttft_p95"] is known["errors"] is known["goodput"] is None


def test_tenants_and_models_are_kept_apart() -> None:
    told = figures_of(
        sample(0, 0.0),
        sample(1, 1.0, tenant="zeta", model="bee", first_token_s=1.6, queue_s=0.4),
        sample(2, 1.0, tenant="zeta", cold_start=True, first_token_s=1.5),
    ).summary()
    assert {name: one.requests.sent for name, one in told.tenants.items()} == {"acme": 1, "zeta": 2}
    assert {name: one.requests.sent for name, one in told.models.items()} == {"bee": 1, "bot": 2}
    assert told.tenants["zeta"].ttft_s.max == pytest.approx(0.6)
    assert told.models["bee"].queue_s.p50 == 0.4
    assert (told.models["bot"].cold_starts, told.models["bee"].cold_starts) == (1, 0)
    assert told.all.cold_ttft_s.p50 == pytest.approx(0.5)
    assert told.other_tenants is told.other_models is None


def test_names_beyond_those_kept_apart_go_together() -> None:
    figures = Figures(apart=3)
    for index in range(10):
        figures.add(sample(index, tenant=f"t{index}", model=f"m{index % 3}"))
    told = figures.summary()
    assert sorted(told.tenants) == ["t0", "t1", "t2"]
    assert told.other_tenants is not None
    assert told.other_tenants.requests.sent == 7
    assert told.other_models is None
    assert told.apart == 3


def test_kinds_of_errors_are_bounded() -> None:
    told = figures_of(*(failed(i, error=f"e{i}") for i in range(70))).summary()
    assert len(told.errors) == 51
    assert told.errors["other"] == 20


def test_the_spread_over_gaps_is_pooled() -> None:
    told = figures_of(
        sample(0, gaps=np.array([0.1, 0.3]), events=3), sample(1, gaps=np.array([0.2]), events=2)
    ).summary()
    assert told.all.itl_s.count == 3
    assert told.all.itl_s.mean == pytest.approx(0.2)
    assert told.all.itl_s.max == 0.3


def test_parts_of_several_processes_merge_to_the_whole() -> None:
    rng = np.random.default_rng(7)
    samples = [
        sample(i, i / 10, tenant=f"t{i % 5}", ended_s=i / 10 + 1 + rng.random())
        if i % 7
        else failed(i, i / 10)
        for i in range(300)
    ]
    whole, joined = measured_of(samples), measured_of(samples[::2])
    joined.merge(pickle.loads(pickle.dumps(measured_of(samples[1::2]))))  # noqa: S301
    told, want = (one.figures.summary() for one in (joined, whole))
    # Sums, added up in another order, are about the same.
    assert flat(told) == pytest.approx(flat(want), rel=1e-12, nan_ok=True)
    assert told.fairness == want.fairness
    assert joined.timeline.cells() == whole.timeline.cells()
    by_name = [
        [(row["index"], rows.tenants.listed[row["tenant"]]) for row in rows.table()]
        for rows in (joined.rows, whole.rows)
    ]
    assert by_name[0] == by_name[1]


def flat(summary: Summary) -> dict[str, float]:
    """Every figure of all, tenants and models."""
    found = facts(summary, tester_bound=False)
    for name, group in (summary.tenants | summary.models).items():
        one = replace(summary, all=group)
        found |= {f"{name} {k}": v for k, v in facts(one, tester_bound=False).items()}
    return {name: math.nan if value is None else value for name, value in found.items()}


def measured_of(samples: list[Sample]) -> Measured:
    made = Measured(parse_slo("ttft=500ms"))
    for one in samples:
        made.add(one)
    return made


# An engine that freezes for 2 s each 10 s, its work 20 ms otherwise: the truth is known. Of users
# who come at any time alike, a fifth comes while it is frozen and waits up to 2 s, and 0.2 % come
# within 20 ms before and wait 2.02 s: 1 % wait longer than 1.94 s.
WORK_S = 0.02
TRUE_P99_S = 1.94


def open_loop(connections: float) -> Iterator[Sample]:
    """50 a second come by chance for 400 s; a tester sends each on time if it has a free
    connection, else when it has one."""
    rng = np.random.default_rng(8)
    busy: list[float] = []
    for index, at_s in enumerate(np.sort(rng.uniform(0, 400, 20_000)).tolist()):
        busy = sorted(end for end in busy if end > at_s)
        waits_for = len(busy) - connections
        sent_s = at_s if waits_for < 0 else busy[int(waits_for)]
        end_s = thawed(sent_s, WORK_S)
        busy.append(end_s)
        yield timed(index, at_s, end_s - at_s, sent_s)


def closed_loop(users: int) -> Iterator[Sample]:
    """Each user sends the next request when the answer has come: while the engine is frozen,
    nobody else comes, so that each freeze is seen once."""
    for user in range(users):
        at_s = user * WORK_S / users
        while at_s < 200:
            end_s = thawed(at_s, WORK_S)
            yield timed(user, at_s, end_s - at_s)
            at_s = end_s


def test_a_freeze_shows_in_the_p99_of_an_open_loop() -> None:
    told = figures_of(*open_loop(math.inf)).summary().all
    assert told.ttft_s.p99 == pytest.approx(TRUE_P99_S, rel=0.05)
    assert told.e2e_s.p99 == pytest.approx(TRUE_P99_S, rel=0.05)


def test_a_closed_loop_hides_the_freeze() -> None:
    told = figures_of(*closed_loop(4)).summary().all
    assert told.ttft_s.max == pytest.approx(2.02)
    assert told.ttft_s.p99 == pytest.approx(WORK_S, rel=0.05)


def test_a_late_tester_still_tells_the_users_wait() -> None:
    figures = figures_of(*open_loop(4))
    told, peer = figures.summary(), as_vllm(figures.all, figures.peers)
    assert told.all.ttft_s.p99 is not None
    assert told.all.ttft_s.p99 > 0.95 * TRUE_P99_S
    assert peer.ttft_s.p99 == pytest.approx(WORK_S, rel=0.05)
    assert told.lag_s.max == pytest.approx(2.0, rel=0.05)


def test_memory_is_flat_however_many_requests_come() -> None:
    """By the time the count begins each part has reached its bound: what grew with the requests
    would take 8 bytes a request and more from then on."""
    measured = Measured(parse_slo("ttft=500ms,itl=50ms"), apart=20, rows=1000)

    def run(begin: int, count: int) -> None:
        for index in range(begin, begin + count):
            at_s = float(index % 20)
            measured.add(
                sample(index, at_s, tenant=f"t{index % 300}", model=f"m{index % 30}")
                if index % 50
                else failed(index, at_s, error=f"e{index}")
            )

    run(0, 10_000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        run(10_000, 30_000)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert measured.figures.summary().all.requests.sent == 40_000
    assert grown < 8 * 30_000
