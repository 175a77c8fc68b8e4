"""Rows that are read again from a temporary file whenever they are looked at.

A data file may hold more rows than belong in memory; small ones never reach the disk.
"""

import tempfile
import weakref
from array import array
from collections.abc import Iterator, Sequence
from typing import IO, overload

import msgspec

from training.data.rows import Chat, Kind, Preference, Row

_IN_MEMORY_BYTES = 1 << 24
_BLOCK_ROWS = 512
"""Rows read at once by an iteration."""


class RowStore(Sequence[Row]):
    """Rows of one kind, in the order in which they were added. Eight bytes a row in memory."""

    def __init__(self, kind: Kind) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115  # closed below
            max_size=_IN_MEMORY_BYTES
        )
        weakref.finalize(self, self._file.close)
        self._ends = array("Q", [0])
        self._encode = msgspec.msgpack.Encoder().encode
        row_type = Chat if kind == "chat" else Preference
        self._decoder: msgspec.msgpack.Decoder[Row] = msgspec.msgpack.Decoder(row_type)

    def add(self, row: Row) -> None:
        """Adds a row of the store's kind behind the others."""
        record = self._encode(row)
        self._file.seek(self._ends[-1])
        self._file.write(record)
        self._ends.append(self._ends[-1] + len(record))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        (row,) = self._read(position, position + 1)
        return row

    def __iter__(self) -> Iterator[Row]:
        for first in range(0, len(self), _BLOCK_ROWS):
            yield from self._read(first, min(len(self), first + _BLOCK_ROWS))

    def _read(self, first: int, last: int) -> list[Row]:
        start = self._ends[first]
        self._file.seek(start)
        block = memoryview(self._file.read(self._ends[last] - start))
        return [
            self._decoder.decode(block[self._ends[i] - start : self._ends[i + 1] - start])
            for i in range(first, last)
        ]
