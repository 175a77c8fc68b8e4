"""A file written from its begin to its end, hashed and sent to the disk while it grows."""

import errno
import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from training.merge.tensors import TensorInfo

_SENT_BYTES = 128 * 2**20
"""What may wait in memory for the disk, twice: the rest of the machine needs its memory too."""

_COPIED_BYTES = 8 * 2**20
_UNSUPPORTED = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


@dataclass(frozen=True, slots=True)
class Whole:
    """What a finished file was."""

    size_bytes: int
    sha256: str


class PartFile:
    """One thread writes; a thread of its own has the disk take what was written.

    Methods raise OSError. `seal` or `close` ends it.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        self._sent_bytes = 0
        self._sender = ThreadPoolExecutor(1, "merge-send")
        self._sending: Future[None] | None = None
        self._memory = bytearray()

    def write(self, data: "memoryview | bytes") -> None:
        """Appends the bytes."""
        view = memoryview(data)
        done = 0
        while done < len(view):
            done += os.write(self._file, view[done:])
        self._hash.update(view)
        self._grown(len(view))

    def copy(self, source: TensorInfo) -> None:
        """Appends the tensor's bytes, which the kernel copies where it can."""
        descriptor = os.open(source.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            position, left = source.start, source.end - source.start
            while left:
                count = _copy(descriptor, self._file, position, min(left, _COPIED_BYTES))
                if count == 0:
                    raise OSError(errno.EIO, "it ends too early", str(source.file))
                self._hash_back(count)
                self._grown(count)
                position, left = position + count, left - count
        finally:
            os.close(descriptor)

    def seal(self) -> Whole:
        """Has the disk keep all of it, and ends it."""
        try:
            self._settle()
            os.fsync(self._file)
        finally:
            self.close()
        return Whole(self._size_bytes, self._hash.hexdigest())

    def close(self) -> None:
        """Ends it as it is. Again, it does nothing."""
        self._sender.shutdown()
        self._memory = bytearray()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hash_back(self, count: int) -> None:
        """What the kernel copied, as it is in the file now."""
        self._memory = self._memory or bytearray(_COPIED_BYTES)
        view = memoryview(self._memory)[:count]
        done = 0
        while done < count:
            done += os.preadv(self._file, [view[done:]], self._size_bytes + done)
        self._hash.update(view)

    def _grown(self, count: int) -> None:
        self._size_bytes += count
        if self._size_bytes - self._sent_bytes >= _SENT_BYTES:
            self._settle()
            self._sending = self._sender.submit(os.fdatasync, self._file)
            self._sent_bytes = self._size_bytes

    def _settle(self) -> None:
        if self._sending is not None:
            self._sending.result()
            self._sending = None


def _copy(source: int, target: int, position: int, count: int) -> int:
    """Some of the bytes, appended at the target's position; 0 at the source's end."""
    for copy in (_copy_file_range, _send_file):
        try:
            if copied := copy(source, target, position, count):
                return copied
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
    return os.write(target, os.pread(source, count, position))


def _copy_file_range(source: int, target: int, position: int, count: int) -> int:
    return os.copy_file_range(source, target, count, position)


def _send_file(source: int, target: int, position: int, count: int) -> int:
    return os.sendfile(target, source, position, count)
