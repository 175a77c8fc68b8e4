"""Files that commands read and write for a person: small documents in, whole archives out."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loraplex.errors import CommandError, UsageError


def read_fields(file: Path, key: str | None = None) -> dict[str, Any]:
    """A JSON or YAML file of `field: value` pairs, bare or under `key`."""
    data = _parse(file)
    if key is not None and isinstance(data, dict) and key in data:
        data = data[key]
    if not isinstance(data, dict):
        what = "it" if key is None else f"the {key.replace('_', ' ')}"
        raise CommandError(f"{file}: {what} must be `field: value` pairs")
    return data


def read_text(file: Path) -> str:
    """A text file's content."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{file}: not UTF-8 text") from None


@contextmanager
def written_whole(file: Path) -> Iterator[Callable[[bytes], object]]:
    """A new file, its owner's alone; it appears if the block ends well. Yields what takes blocks.

    Raises UsageError where it is there already, CommandError where it cannot be written.
    """
    if file.exists() or file.is_symlink():
        raise UsageError(f"--out: {file} is there already; name a new file")
    try:
        descriptor, made = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                yield opened.write
                opened.flush()
                os.fsync(opened.fileno())
            Path(made).rename(file)
        finally:
            Path(made).unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror}") from None


def _parse(file: Path) -> Any:
    """JSON or YAML, by its name: YAML would read some of JSON otherwise."""
    import yaml

    text = read_text(file)
    try:
        return json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise CommandError(f"{file}: neither JSON nor YAML: {error}") from None
