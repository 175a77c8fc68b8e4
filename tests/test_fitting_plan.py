"""Which rows make a step, and how they are cut over micro batches and processes."""

from collections import Counter

import pytest

from training.fitting.plan import (
    GPU_OVERHEAD_TOKENS,
    Batching,
    Cutting,
    MicroBatch,
    cut,
    look_steps,
    shares,
    step_rows,
    steps_per_epoch,
)

LENGTHS = [5, 90, 7, 40, 6, 88, 41, 5, 60, 12, 30, 33]
ALL = list(range(len(LENGTHS)))


def test_every_epoch_has_every_row_once_in_another_order() -> None:
    steps = steps_per_epoch(37, 8)
    epochs = [
        [row for step in range(steps) for row in step_rows(37, 8, 3, epoch * steps + step)]
        for epoch in range(2)
    ]
    assert steps == 5
    assert [sorted(epoch) for epoch in epochs] == [list(range(37))] * 2
    assert epochs[0] != epochs[1]


def test_no_step_is_a_small_rest() -> None:
    sizes = [len(step_rows(33, 16, 0, step)) for step in range(steps_per_epoch(33, 16))]
    assert sizes == [11, 11, 11]


def test_a_step_follows_from_the_seed_and_its_number() -> None:
    assert step_rows(50, 8, 1, 4) == step_rows(50, 8, 1, 4)
    assert step_rows(50, 8, 1, 4) != step_rows(50, 8, 2, 4)


@pytest.mark.parametrize("batching", ["grouped", "plain", "packed"])
@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_every_row_counts_once_over_all_processes(batching: Batching, processes: int) -> None:
    found = shares(ALL, LENGTHS, Cutting(batching, 4, processes))
    rows = Counter(row for share in found for one in share if one.counts for row in one.rows)
    assert rows == Counter(ALL)
    assert len({len(share) for share in found}) == 1, "else one would wait for the others forever"


def test_with_more_processes_than_rows_some_only_keep_step() -> None:
    found = shares([3], LENGTHS, Cutting("grouped", 4, 3))
    assert [one for share in found for one in share] == [
        MicroBatch((3,)),
        MicroBatch((3,), counts=False),
        MicroBatch((3,), counts=False),
    ]


def test_grouped_rows_are_padded_less_than_plain_ones() -> None:
    plain, grouped = (_padded(cut(ALL, LENGTHS, Cutting(b, 4, 1))) for b in ("plain", "grouped"))
    assert grouped < 0.7 * plain
    assert max(len(one) for one in cut(ALL, LENGTHS, Cutting("grouped", 4, 1))) <= 4


def test_on_a_gpu_a_step_of_short_rows_is_one_micro_batch_and_long_padding_is_still_saved() -> None:
    """Each micro batch launches all kernels anew, which short rows never make up for."""
    on_gpu = Cutting("grouped", len(ALL), 1, GPU_OVERHEAD_TOKENS)
    assert len(cut(ALL, LENGTHS, Cutting("grouped", len(ALL), 1))) > 1
    assert [sorted(one) for one in cut(ALL, LENGTHS, on_gpu)] == [ALL]
    longer = [100 * length for length in LENGTHS]
    batches = cut(ALL, longer, on_gpu)
    assert 100 * _padded(batches) < 0.7 * len(ALL) * max(longer)


def test_packed_rows_fit_in_what_the_longest_rows_would_take() -> None:
    bins = cut(ALL, LENGTHS, Cutting("packed", 2, 1))
    assert sorted(row for one in bins for row in one) == ALL
    assert max(sum(LENGTHS[row] for row in one) for one in bins) <= 2 * max(LENGTHS)
    assert len(bins) <= 4


def test_processes_get_about_as_many_tokens() -> None:
    found = shares(ALL, LENGTHS, Cutting("grouped", 2, 2))
    loads = [_padded([list(one.rows) for one in share]) for share in found]
    assert max(loads) < 1.4 * min(loads)


def test_looks_are_evenly_spaced_and_the_last_step_is_one() -> None:
    assert look_steps(10, 2, 2) == {5, 10, 15, 20}
    assert look_steps(1, 3, 4) == {1, 2, 3}
    assert max(look_steps(7, 3, 3)) == 21


def _padded(batches: list[list[int]]) -> int:
    return sum(len(one) * max(LENGTHS[row] for row in one) for one in batches)
