"""The run over time: cells, what they hold, how they grow."""

import numpy as np
import pytest

from loadtest.statistics.timeline import Timeline
from tests.load_engines import NO_GAPS, failed, sample


def test_the_timeline_has_a_cell_a_second() -> None:
    timeline = Timeline()
    timeline.add(sample(0, 0.5))
    timeline.add(sample(1, 0.7, first_token_s=1.2, gaps=np.full(10, 0.1), ended_s=2.5))
    timeline.add(failed(2, 1.0))
    timeline.add(failed(3, 2.0, sent_s=None, ended_s=None, outcome="connection"))
    first, second, third = timeline.cells()
    assert [cell.arrivals_per_s for cell in (first, second, third)] == [2, 1, 1]
    assert [cell.ok_per_s for cell in (first, second, third)] == [0, 1, 1]
    assert [cell.failed_per_s for cell in (first, second, third)] == [0, 1, 1]
    assert [cell.in_flight for cell in (first, second, third)] == [2, 1, 0]
    # The first answer's tokens come from 0.7 to 1.2 s, the second's from 1.2 to 2.2 s.
    tokens = [cell.output_tokens_per_s for cell in (first, second, third)]
    assert sum(tokens) == pytest.approx(22)
    assert tokens == pytest.approx([6, 13, 3], abs=1.01)
    assert first.ttft_p50_s == pytest.approx(0.35, rel=0.03)
    assert second.ttft_p50_s is None


def test_tokens_of_an_answer_in_one_piece_come_at_its_end() -> None:
    timeline = Timeline()
    timeline.add(sample(0, 0.5, first_token_s=None, last_token_s=None, gaps=NO_GAPS, events=0))
    assert [cell.output_tokens_per_s for cell in timeline.cells()] == [0, 11]


def test_the_timeline_coarsens_as_the_run_grows_and_loses_nothing() -> None:
    timeline = Timeline(4)
    for index in range(30):
        timeline.add(sample(index, index))
    cells = timeline.cells()
    assert (timeline.width_s, len(cells)) == (8.0, 4)
    assert sum(cell.arrivals_per_s * cell.seconds for cell in cells) == 30
    assert sum(cell.output_tokens_per_s * cell.seconds for cell in cells) == pytest.approx(330)
    assert all(cell.ttft_p95_s == pytest.approx(0.2, rel=0.03) for cell in cells)


def test_timelines_of_different_widths_merge() -> None:
    whole, long, short = Timeline(4), Timeline(4), Timeline(4)
    for index in range(20):
        one = sample(index, index if index % 2 else index / 10)
        whole.add(one)
        (long if index % 2 else short).add(one)
    short.merge(long)
    assert short.cells() == whole.cells()


def test_totals_are_of_all_phases_and_lately_ends_with_the_last_cell_that_is_over() -> None:
    timeline = Timeline()
    assert timeline.lately(0.5, 3) == []
    timeline.add(sample(0, 0.5, phase="warmup"))
    timeline.add(sample(1, 2.0))
    timeline.add(failed(2, 2.0))
    totals = timeline.totals()
    assert (totals.ok, totals.failed, round(totals.output_tokens)) == (2, 1, 22)
    cells = timeline.cells()
    assert timeline.lately(2.9, 9) == cells[:2]
    assert timeline.lately(3.0, 2) == cells[1:3]
    # Time goes on where nothing comes.
    begins = [(cell.begin_s, cell.ok_per_s, cell.ttft_p95_s) for cell in timeline.lately(6.5, 2)]
    assert begins == [(4.0, 0.0, None), (5.0, 0.0, None)]


def test_what_a_stop_cut_off_is_no_failure_and_no_longer_in_flight() -> None:
    timeline = Timeline()
    timeline.add(sample(0, 0.0))
    timeline.add(failed(1, 0.0, after_s=1.5, outcome="cancelled", status=None))
    timeline.add(failed(2, 0.0, sent_s=None, ended_s=0.5, outcome="cancelled", status=None))
    first, second = timeline.cells()
    assert (first.failed_per_s, second.failed_per_s) == (0, 0)
    assert (first.in_flight, second.in_flight) == (1, 0)
    assert timeline.totals().failed == 0
