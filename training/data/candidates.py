"""Pairs of rows that may be alike: rows that share a band of their MinHash signatures."""

from collections.abc import Iterator
from itertools import chain

import numpy as np
import numpy.typing as npt

from training.data.fingerprints import U32, U64, Fingerprints
from training.data.thresholds import (
    BAND,
    BUCKET,
    CANDIDATE_JACCARD,
    HASHES,
    SKETCH_BITS,
    SKETCH_PART,
)

_NO_CODE = np.uint64(2**64 - 1)

Pairs = npt.NDArray[np.int64]
"""(n, 2) of row numbers, the smaller one first, none twice."""


def candidate_pairs(prints: Fingerprints) -> Pairs:
    """Pairs of rows with different inputs that are worth a look at their words.

    Rows whose input is the same are represented by the first of them.
    """
    _, firsts = np.unique(prints.inputs, return_index=True)
    firsts = np.sort(firsts)
    bands = _bands(prints.signatures[firsts])
    # As single numbers, pairs are merged without sorting rows of a matrix.
    codes = np.zeros(0, dtype=np.uint64)
    size = np.uint64(len(prints.inputs))
    for key in chain((prints.skeletons[firsts], prints.outlines[firsts]), bands):
        for pairs in _within_buckets(key, firsts):
            # At once: a template's buckets hold more pairs than belong in memory.
            near = pairs[_may_be_the_same(prints, pairs)].astype(np.uint64)
            codes = np.concatenate([codes, near[:, 0] * size + near[:, 1]])
        codes.sort()
        codes = codes[np.diff(codes, prepend=_NO_CODE) != 0]
    pairs = np.stack([codes // size, codes % size], axis=1).astype(np.int64)
    alike = _estimates(pairs, prints.signatures) >= CANDIDATE_JACCARD
    found: Pairs = pairs[alike | _agree(prints.skeletons, pairs) | _agree(prints.outlines, pairs)]
    return found


def _may_be_the_same(prints: Fingerprints, pairs: Pairs) -> npt.NDArray[np.bool_]:
    """By what is cheap to compare."""
    return _agree(prints.skeletons, pairs) | _few_words_apart(prints.sketches, pairs)


def _agree(digests: U64, pairs: Pairs) -> npt.NDArray[np.bool_]:
    agree: npt.NDArray[np.bool_] = digests[pairs[:, 0]] == digests[pairs[:, 1]]
    return agree


def _few_words_apart(sketches: U64, pairs: Pairs) -> npt.NDArray[np.bool_]:
    """Whether so few words differ that it may be the same question."""
    first, second = sketches[pairs[:, 0]], sketches[pairs[:, 1]]
    words = np.maximum(np.bitwise_count(first), np.bitwise_count(second))
    apart = np.bitwise_count(first ^ second)
    few: npt.NDArray[np.bool_] = apart <= np.maximum(SKETCH_BITS, SKETCH_PART * words)
    return few


def _bands(signatures: U32) -> Iterator[U64]:
    for start in range(0, HASHES, BAND):
        key = np.zeros(len(signatures), dtype=np.uint64)
        for column in signatures[:, start : start + BAND].T:
            key = (key ^ column) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        yield key


def _within_buckets(keys: U64, rows: npt.NDArray[np.int64]) -> Iterator[Pairs]:
    """Pairs of `rows` with equal keys, in several portions. rows: ascending, one for each key.

    The members of a bucket are compared with the next ones in it, so a huge bucket (of a template,
    say) costs no more than its length.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    for step in range(1, BUCKET):
        same = ordered[step:] == ordered[:-step]
        if not same.any():
            return
        # A stable sort leaves equal keys in the order of rows.
        yield np.stack([rows[order[:-step][same]], rows[order[step:][same]]], axis=1)


def _estimates(pairs: Pairs, signatures: U32) -> npt.NDArray[np.float64]:
    """The part of the hash functions in which the two agree: about their Jaccard similarity."""
    agree = np.zeros(len(pairs))
    for start in range(0, len(pairs), 1 << 16):
        block = pairs[start : start + (1 << 16)]
        same = signatures[block[:, 0]] == signatures[block[:, 1]]
        agree[start : start + (1 << 16)] = same.mean(axis=1)
    return agree
