"""Prints docs/benchmarks.md, made from the newest results of the benchmarks."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Run as a file, not as a module: the repository is not on the path.
sys.path.insert(0, str(ROOT))

from benchmarks.paging.page import page  # noqa: E402

if __name__ == "__main__":
    sys.stdout.write(page(ROOT / "benchmarks" / "results"))
