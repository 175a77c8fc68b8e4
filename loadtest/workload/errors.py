"""What is wrong with a workload, in words for the one who wrote it."""

from pathlib import Path


class WorkloadError(Exception):
    """A workload that cannot be run; a line a problem, each with the field or file line and the
    fix. Holds no key."""


class RowError(WorkloadError):
    """A row of a file that cannot be used."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path.name}, line {line}: {problem}")
        self.line = line
