"""What is kept of an answer for the judge: its beginning, bounded, and only where it is wanted."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sample import Kept

MOST = 256 * 1024


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=8), st.integers(1, 70))
def test_the_beginning_is_kept_however_it_comes(data: bytes, cuts: list[int], most: int) -> None:
    kept = Kept(wanted=True, most_bytes=most)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for a, b in itertools.pairwise(edges):
        kept.add(data[a:b])
    if data:
        assert kept.take() == data[:most]


def test_no_more_than_the_limit_is_kept() -> None:
    for blocks in ([b"x" * (MOST + 1)], [b"x" * 1000] * 1000, [b"x" * MOST, b"y"]):
        kept = Kept(wanted=True)
        for block in blocks:
            kept.add(block)
        taken = kept.take()
        assert taken is not None
        assert len(taken) == MOST


@pytest.mark.parametrize("wanted", [True, False])
def test_nothing_is_kept_that_was_not_wanted_or_did_not_come(wanted: bool) -> None:
    kept = Kept(wanted=wanted)
    if not wanted:
        kept.add(b"x")
    assert kept.take() is None


def test_it_is_given_once() -> None:
    kept = Kept(wanted=True)
    kept.add(b"x")
    assert kept.take() == b"x"
    assert kept.take() is None
