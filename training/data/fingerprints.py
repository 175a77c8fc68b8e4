"""Every row in a few hundred bytes: digests of what it says, and a MinHash signature.

The texts are streamed: however many rows there are, only the fingerprints stay in memory.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from training.data.rows import Preference, Row
from training.data.texts import (
    answer_of,
    canonical_answer,
    content_words,
    input_text,
    words_of,
)
from training.data.thresholds import COMMON_COUNT, COMMON_PART, HASHES

Progress = Callable[[str, float | None], None]
"""Told of the stage in words, and the part of it that is done (0 to 1) where known."""

U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
Rows = Sequence[Row]

_BLOCK_ROWS = 512
_TABLE = 1 << 20
"""Counters of words and of 4-grams; the odd collision only makes a word look more common."""
_HEAD, _TAIL = 512, 256
"""Characters of a long text that its signature is made of: near-duplicates share most of both."""
_FACTORS = (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F)
_FEWEST = 8
"""4-grams that must be left when those of the template are taken out."""


@dataclass(frozen=True)
class Fingerprints:
    """Arrays over all rows, in order.

    inputs: digest of the input's words. skeletons: of its words without fillers.
    outlines: of the first and last letters of these words, which most typing errors leave alone.
    sketches: a bit set for each of these words.
    answers: digest of the answer in canonical form. whole: of input and answer together.
    signatures: (rows, HASHES) minima.
    """

    inputs: U64
    skeletons: U64
    outlines: U64
    sketches: U64
    answers: U64
    whole: U64
    signatures: U32
    distinct: int
    """Different inputs."""
    word_counts: U32
    shared_system: str | None

    def count(self, word: str) -> int:
        """In how many different inputs `word` stands, about."""
        return int(self.word_counts[_slot(word)])

    def words(self, row: Row) -> list[str]:
        """Of the row's input."""
        return words_of(input_text(row, self.shared_system))


def fingerprints(rows: Rows, shared_system: str | None, progress: Progress) -> Fingerprints:
    """Of every row, in two passes over the texts."""
    digests = np.zeros((6, len(rows)), dtype=np.uint64)
    word_counts, gram_counts = np.zeros(_TABLE, np.uint32), np.zeros(_TABLE, np.uint32)
    seen: set[int] = set()
    for first, block in _blocks(rows):
        progress("reading what rows say", first / len(rows))
        new: list[list[str]] = []
        for i, row in enumerate(block, start=first):
            words = words_of(input_text(row, shared_system))
            digests[:, i] = _digests(row, words)
            if (key := int(digests[0, i])) not in seen:
                seen.add(key)
                new.append(words)
        slots = [_slot(word) for words in new for word in set(words)]
        word_counts += np.bincount(slots, minlength=_TABLE).astype(np.uint32)
        gram_counts += np.bincount(_slots(_grams(new)[0]), minlength=_TABLE).astype(np.uint32)
    common = gram_counts > max(COMMON_COUNT, COMMON_PART * len(seen))
    signatures = _signatures(rows, shared_system, common, progress)
    inputs, skeletons, outlines, sketches, answers, whole = digests
    return Fingerprints(
        inputs=inputs,
        skeletons=skeletons,
        outlines=outlines,
        sketches=sketches,
        answers=answers,
        whole=whole,
        signatures=signatures,
        distinct=len(seen),
        word_counts=word_counts,
        shared_system=shared_system,
    )


def shared_system_prompt(rows: Iterable[Row]) -> str | None:
    """The system prompt that all rows have, if they have one."""
    iterator = iter(rows)
    prompt = _system_prompt(next(iterator))
    return prompt if all(_system_prompt(row) == prompt for row in iterator) else None


def _system_prompt(row: Row) -> str | None:
    first = row.prompt[0]
    return first["content"] if first["role"] == "system" else None


def _digests(row: Row, words: Sequence[str]) -> tuple[int, ...]:
    whole, skeleton = " ".join(words), content_words(words)
    answer = canonical_answer(answer_of(row)["content"])
    if isinstance(row, Preference):
        answer += "\0" + canonical_answer(row.rejected["content"])
    sketch = 0
    for word in skeleton:
        sketch |= 1 << (zlib.crc32(word.encode()) >> 26)
    return (
        digest(whole),
        digest(" ".join(skeleton)),
        digest(" ".join(word[0] + word[-1] for word in skeleton)),
        sketch,
        digest(answer),
        digest(f"{whole}\0{answer}"),
    )


def digest(text: str) -> int:
    """64 bits of a text; the same on every machine."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def _slot(word: str) -> int:
    return zlib.crc32(word.encode()) & (_TABLE - 1)


def _grams(texts: Sequence[Sequence[str]]) -> tuple[U32, npt.NDArray[np.int64]]:
    """Hashes of the texts' character 4-grams, one text after the other, and how many each has."""
    padded = [_padded(" ".join(words)) for words in texts]
    # Behind the last text, so that its grams have something to run into as those of the others.
    codes = np.frombuffer(("".join(padded) + "   ").encode("utf-32-le"), dtype=np.uint32)
    mixed = np.zeros(len(codes) - 3, dtype=np.uint32)
    for i, factor in enumerate(_FACTORS):
        mixed ^= mixed >> np.uint32(15)
        mixed += codes[i : len(codes) - 3 + i] * np.uint32(factor)
    mixed = _mixed(mixed)
    sizes = np.array([len(text) for text in padded], dtype=np.int64)
    # The last three of a text run into the next one.
    inside = np.ones(len(mixed), dtype=bool)
    ends = np.cumsum(sizes)
    for back in (1, 2, 3):
        inside[ends - back] = False
    return mixed[inside], sizes - 3


def _padded(text: str) -> str:
    """A short text is padded, to have some 4-grams; of a long one both ends are taken."""
    if len(text) > _HEAD + _TAIL:
        text = text[:_HEAD] + text[-_TAIL:]
    return f"  {text}  "


def _mixed(values: U32) -> U32:
    """Each bit of the result depends on all bits."""
    values = (values ^ (values >> np.uint32(16))) * np.uint32(0x7FEB352D)
    mixed: U32 = values ^ (values >> np.uint32(15))
    return mixed


def _slots(grams: U32) -> U32:
    return grams & np.uint32(_TABLE - 1)


def _signatures(
    rows: Rows, shared_system: str | None, common: npt.NDArray[np.bool_], progress: Progress
) -> U32:
    signatures = np.zeros((len(rows), HASHES), dtype=np.uint32)
    generator = np.random.default_rng(0)
    factors = generator.integers(1, 1 << 32, HASHES, dtype=np.uint32) | np.uint32(1)
    offsets = generator.integers(0, 1 << 32, HASHES, dtype=np.uint32)
    for first, block in _blocks(rows):
        progress("comparing what rows say", first / len(rows))
        texts = [words_of(input_text(row, shared_system)) for row in block]
        grams, starts = _telling(*_grams(texts), common)
        for j in range(HASHES):
            hashed = grams * factors[j] + offsets[j]
            hashed ^= hashed >> np.uint32(16)
            signatures[first : first + len(block), j] = np.minimum.reduceat(hashed, starts)
    return signatures


def _telling(
    grams: U32, sizes: npt.NDArray[np.int64], common: npt.NDArray[np.bool_]
) -> tuple[U32, npt.NDArray[np.int64]]:
    """The grams without those of a template, and where each text's begin."""
    starts = np.cumsum(sizes) - sizes
    telling = ~common[_slots(grams)]
    few = np.add.reduceat(telling.astype(np.int64), starts) < _FEWEST
    telling |= np.repeat(few, sizes)
    kept = np.add.reduceat(telling.astype(np.int64), starts)
    return grams[telling], np.cumsum(kept) - kept


def _blocks(rows: Rows) -> Iterable[tuple[int, list[Row]]]:
    iterator, first = iter(rows), 0
    while block := list(islice(iterator, _BLOCK_ROWS)):
        yield first, block
        first += len(block)


def pairs_by_equality(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(n, 2): each row after the first of its value, with that first one."""
    _, firsts, inverse = np.unique(values, return_index=True, return_inverse=True)
    rows = np.arange(len(values))
    again = firsts[inverse] != rows
    return np.stack([firsts[inverse][again], rows[again]], axis=1)
