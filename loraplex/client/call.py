"""One request of the admin API, and how its answer is read; the same for both clients."""

import io
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import httpx

T = TypeVar("T")

Moved = Callable[[int], object]
"""Told of a number of bytes: that were sent, that have come, or that will come."""


def unseen(size_bytes: int) -> None:
    """A Moved that nobody looks at."""


class Unexpected(Exception):
    """An answer that no gateway gives."""


@dataclass(frozen=True)
class UploadPart:
    """One part of a multipart upload: bytes, or a file that is read while it is sent."""

    name: str
    content: bytes | Path


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request.

    read: makes the value of an answer. also: statuses that are no failure, beside 2xx.
    json, parts (a form), file: the body; at most one of them. sent: told of what of files is sent.
    take: given the answer's body block by block, where it is not to be held in memory; expect: told
    before of how many bytes, where the gateway says it. patient: it may take as long as reading all
    there is, so silence is no failure.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    parts: tuple[UploadPart, ...] = ()
    file: Path | None = None
    sent: Moved = unseen
    take: Callable[[bytes], object] | None = None
    expect: Moved = unseen
    also: tuple[int, ...] = ()
    patient: bool = False

    @contextmanager
    def body(self) -> Iterator[dict[str, Any]]:
        """The body as httpx takes it; files are open while the block runs."""
        with ExitStack() as files:
            if self.parts:
                yield {"files": [(part.name, self._field(part, files)) for part in self.parts]}
            elif self.file is not None:
                yield {"content": files.enter_context(_SentFile(self.file, self.sent))}
            else:
                yield {} if self.json is None else {"json": self.json}

    def _field(self, part: UploadPart, files: ExitStack) -> tuple[str, Any, str]:
        kind = "application/json" if part.name.endswith(".json") else "application/octet-stream"
        if isinstance(part.content, bytes):
            return part.name, part.content, kind
        return part.name, files.enter_context(_SentFile(part.content, self.sent)), kind


Steps = Generator[Call[Any], Any, T]
"""Several calls in a row: yields each, is sent its answer, and returns what all come to."""


class _SentFile(io.FileIO):
    """A file that reports every block read from it, so that a progress bar can follow."""

    def __init__(self, path: Path, sent: Moved) -> None:
        super().__init__(path)
        self._sent = sent

    def read(self, size: int | None = -1, /) -> Any:
        block = super().read(size)
        self._sent(len(block or b""))
        return block


def object_of(kind: type[T]) -> Callable[[httpx.Response], T]:
    """Reads a JSON object as a `kind`."""

    def read(answer: httpx.Response) -> T:
        return cast(T, _json_object(answer))

    return read


def list_of(kind: type[T]) -> Callable[[httpx.Response], list[T]]:
    """Reads `{"data": [...]}` as a list of `kind`."""

    def read(answer: httpx.Response) -> list[T]:
        data = _json_object(answer).get("data")
        if not isinstance(data, list):
            raise Unexpected
        return data

    return read


def nothing(answer: httpx.Response) -> None:
    """Reads an answer that says no more than that it was done."""


def text(answer: httpx.Response) -> str:
    """Reads plain text."""
    return answer.text


def _json_object(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        raise Unexpected from None
    if not isinstance(body, dict):
        raise Unexpected
    return body
