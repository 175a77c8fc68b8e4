"""How long rows are in tokens, and which would not fit."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.data.fingerprints import Progress
from training.data.joined import Joined
from training.data.report import Finding, Lengths
from training.data.rows import Preference, Row
from training.encoding import Learn, encode_each, encode_each_preference
from training.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CountEach = Callable[[Iterable[Row]], Iterator[int | DataError]]
"""For each row its tokens, or why it cannot be a model's input."""

_BARS = 24
_REPORT_EVERY = 512


class TokenCounter:
    """Counts as the run will see them: through the model's template. Refuses its special tokens."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", learn: Learn = "assistant") -> None:
        self._tokenizer = tokenizer
        self._learn = learn
        added = tokenizer.added_tokens_decoder.values()
        self._marks = sorted(str(token.content) for token in added if token.special)

    def __call__(self, row: Row) -> int:
        """Tokens of the row; of a preference, with its longer answer. Raises DataError."""
        (count,) = self.each([row])
        if isinstance(count, DataError):
            raise count
        return count

    def each(self, rows: Iterable[Row]) -> Iterator[int | DataError]:
        """For many rows, in batches."""
        block: list[Row] = []
        for row in rows:
            block.append(row)
            if len(block) == _REPORT_EVERY:
                yield from self._count(block)
                block = []
        yield from self._count(block)

    def _count(self, rows: list[Row]) -> Iterator[int | DataError]:
        refused = {i: error for i, row in enumerate(rows) if (error := self._refusal(row))}
        counts = self._encoded([row for i, row in enumerate(rows) if i not in refused])
        for i in range(len(rows)):
            yield refused[i] if i in refused else next(counts)

    def _encoded(self, rows: list[Row]) -> Iterator[int | DataError]:
        if rows and isinstance(rows[0], Preference):
            preferences = [row for row in rows if isinstance(row, Preference)]
            for pair in encode_each_preference(preferences, self._tokenizer):
                yield (
                    pair
                    if isinstance(pair, DataError)
                    else len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids))
                )
            return
        chats = [row for row in rows if not isinstance(row, Preference)]
        for example in encode_each(chats, self._tokenizer, learn=self._learn):
            yield example if isinstance(example, DataError) else len(example.input_ids)

    def _refusal(self, row: Row) -> DataError | None:
        """A text that holds a mark of the template would be read as one."""
        answers = (
            {"chosen": row.chosen, "rejected": row.rejected}
            if isinstance(row, Preference)
            else {f"messages[{len(row.prompt)}]": row.answer}
        )
        prompt = "prompt" if isinstance(row, Preference) else "messages"
        for field, one in {
            **{f"{prompt}[{i}]": one for i, one in enumerate(row.prompt)},
            **answers,
        }.items():
            for mark in self._marks:
                if mark in one["content"]:
                    return DataError(
                        row.line,
                        f"{field}.content",
                        f"holds {mark}, which the base's chat template uses; write it otherwise",
                    )
        return None


def one_by_one(count: Callable[[Row], int]) -> CountEach:
    """A counter of single rows as one of many; what it raises as DataError is the row's fault."""

    def each(rows: Iterable[Row]) -> Iterator[int | DataError]:
        for row in rows:
            try:
                yield count(row)
            except DataError as error:
                yield error

    return each


@dataclass(frozen=True)
class Measured:
    """lengths: of the rows that can be counted. over: numbers of rows beyond the limit.
    refused: (number of the row, what is wrong with it)."""

    lengths: Lengths
    over: list[int]
    refused: list[tuple[int, DataError]]


def measure(rows: Joined, count: CountEach, limit: int | None, progress: Progress) -> Measured:
    """The length of every row."""
    sizes = np.zeros(len(rows), dtype=np.int64)
    refused: list[tuple[int, DataError]] = []
    for i, size in enumerate(count(rows)):
        if i % _REPORT_EVERY == 0:
            progress("counting tokens", i / len(rows))
        if isinstance(size, DataError):
            refused.append((i, size))
        else:
            sizes[i] = size
    over = [] if limit is None else np.flatnonzero(sizes > limit).tolist()
    return Measured(_lengths(sizes[sizes > 0], limit, len(over)), over, refused)


def _lengths(
    sizes: "np.ndarray[tuple[int], np.dtype[np.int64]]", limit: int | None, over: int
) -> Lengths:
    if not len(sizes):
        return Lengths(limit=limit, over=0, total=0, p50=0, p90=0, p99=0, longest=0, histogram=())
    p50, p90, p99 = (int(np.percentile(sizes, part)) for part in (50, 90, 99))
    start = int(sizes.min()) - 1
    width = max(1, -(-(int(sizes.max()) - start) // _BARS))
    bars = np.bincount((sizes - start - 1) // width)
    return Lengths(
        limit=limit,
        over=over,
        total=int(sizes.sum()),
        p50=p50,
        p90=p90,
        p99=p99,
        longest=int(sizes.max()),
        histogram=tuple((start + (i + 1) * width, int(bar)) for i, bar in enumerate(bars)),
    )


def length_findings(rows: Joined, measured: Measured) -> Iterator[Finding]:
    """Rows that would have to be cut: their answer's end, which teaches the model to stop."""
    limit, longest = measured.lengths.limit, measured.lengths.longest
    if measured.over:
        yield from rows.findings(
            "too_long",
            "error",
            lambda count, total: (
                f"{count:,} of {total:,} rows are longer than {limit:,} tokens (the longest has"
                f" {longest:,}) and would be cut; shorten them, or raise max_tokens"
            ),
            measured.over,
        )
