"""Writes what a benchmark found, and says of each claim whether it held."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console


def write_results(
    file: Path,
    as_json: dict[str, Any],
    page: str,
    claims: Iterable[tuple[str, bool]],
    console: Console,
) -> None:
    """Writes `file`.json and `file`.md. file: DATE-NAME in a folder that is made if need be.

    Raises OSError.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_suffix(".json").write_text(json.dumps(as_json, indent=1) + "\n")
    file.with_suffix(".md").write_text(page)
    for text, held in claims:
        console.print(f"{'held' if held else 'NOT HELD'}: {text}", markup=False)
    console.print(f"written: {file}.md, {file}.json", markup=False)
