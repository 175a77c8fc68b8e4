"""The models' run in a process of its own: `python -m training.merge.verification.child FOLDER`.

FOLDER has `request.json`; `measured.json` is left there.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapters_registry.child import CHILD_FLAG, Report, serve_parent
from training.merge.verification.measure import Request, measure

REQUEST = "request.json"
MEASURED = "measured.json"


def over_folder(folder: Path, report: Report) -> None:
    """From the one file to the other. Raises ModelError."""
    asked = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    folders: dict[str, Any] = {
        name: Path(asked.pop(name)) for name in ("base", "adapter", "merged")
    }
    scratch = folder / "scratch"
    scratch.mkdir()
    measured = measure(Request(**folders, **asked), scratch, report)
    (folder / MEASURED).write_text(json.dumps(asdict(measured)), encoding="utf-8")


def main() -> int:
    """Runs for the parent."""
    words = [Path(word) for word in sys.argv[1:] if word != CHILD_FLAG]
    if len(words) != 1:
        sys.stderr.write("usage: python -m training.merge.verification.child FOLDER\n")
        return 2
    # Before torch is loaded: threads that spin stand still where something else takes a core.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    return serve_parent(lambda report: over_folder(words[0], report))


if __name__ == "__main__":
    sys.exit(main())
