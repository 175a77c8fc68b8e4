"""Finds, fetches or converts the model in a process of its own, which can be ended at any moment.

Reads `{"model", "cache_dir", "weights"}` from standard input. Writes one JSON object a line:
`{"stage", "fraction"}` while it works, at last `{"folder"}` or `{"error"}`.
"""

import json
import sys
from pathlib import Path

from adapters_registry.errors import ModelError
from adapters_registry.models import resolve_model


def main() -> int:
    """The exit code: 0, or 1 after an error was written."""
    asked = json.load(sys.stdin)
    try:
        folder = resolve_model(
            asked["model"], Path(asked["cache_dir"]), report=_report, weights=asked["weights"]
        )
    except ModelError as error:
        _say(error=str(error))
        return 1
    _say(folder=str(folder))
    return 0


def _report(stage: str, fraction: float | None) -> None:
    _say(stage=stage, fraction=fraction)


def _say(**fields: object) -> None:
    sys.stdout.write(f"{json.dumps(fields)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
