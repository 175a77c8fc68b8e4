"""How files of a result are written: whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A file to write to, which takes the place of `path` once it is whole; where that fails,
    what was there before stays. A name that is no text is written with `?`. Raises OSError."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", newline="", encoding="utf-8", errors="replace") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> Path:
    """Raises OSError."""
    with replacing(path) as file:
        file.write(text)
    return path
