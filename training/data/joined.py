"""Several files looked at as one, without reading them into memory."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import overload

import numpy as np
import numpy.typing as npt

from training.data.report import Finding, Severity
from training.data.rows import DataFile, Row
from training.data.thresholds import LINES_KEPT


class Joined(Sequence[Row]):
    """The rows of all parts, one part after the other. parts: name -> file."""

    def __init__(self, parts: Mapping[str, DataFile]) -> None:
        self.parts = dict(parts)
        self.names = [*parts]
        self._rows = [part.rows for part in parts.values()]
        self._ends = [*accumulate(map(len, self._rows))]

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        part = self.part(position)
        return self._rows[part][position - (self._ends[part - 1] if part else 0)]

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(self._rows)

    def part(self, index: int) -> int:
        """The number of the part that holds the row."""
        return bisect_right(self._ends, index)

    def part_numbers(self) -> npt.NDArray[np.int64]:
        """For each row the number of its part."""
        return np.repeat(np.arange(len(self._rows)), [len(rows) for rows in self._rows])

    def place(self, index: int) -> str:
        """`line 3`, with the file's name where there are several."""
        line = f"line {self[index].line}"
        return f"{self.names[self.part(index)]} {line}" if len(self.names) > 1 else line

    def findings(
        self,
        code: str,
        severity: Severity,
        message: Callable[[int, int], str],
        rows: Iterable[int],
        examples: Sequence[str] = (),
    ) -> Iterator[Finding]:
        """One finding for each part that has some of these rows; the first has the examples.

        message: of how many of these rows the part has, and how many rows in all.
        """
        by_part: dict[int, list[int]] = {}
        for row in sorted(rows):
            by_part.setdefault(self.part(row), []).append(row)
        for number, (part, members) in enumerate(by_part.items()):
            lines = tuple(self[row].line for row in members[:LINES_KEPT])
            yield Finding(
                code=code,
                severity=severity,
                message=message(len(members), len(self._rows[part])),
                file=self.names[part],
                lines=lines,
                examples=tuple(examples) if number == 0 else (),
            )
