"""The small JSON files that lie beside a model's weights."""

import json
from pathlib import Path
from typing import Any

from training.errors import MergeError


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in the file. Raises MergeError, which names it."""
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise MergeError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise MergeError(f"{file} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise MergeError(f"{file} is not a JSON object")
    return found
