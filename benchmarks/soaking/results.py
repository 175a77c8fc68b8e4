"""All that one soak found."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.soaking.books import Matched
from benchmarks.soaking.engine_side import EngineTotals
from benchmarks.soaking.kernel import Process

START, SETTLED, END = "start", "settled", "end"


@dataclass(frozen=True)
class Checkpoint:
    """One look at everything while nothing is asked."""

    name: str
    """`start`, `10 %` and so on, `settled`, or `end`: the engine has closed its connections too."""
    seconds: float
    """Since the start."""
    requests: int
    """That the client has made."""
    counted: int
    """By the metrics."""
    logged: int
    """Lines of the log."""
    in_flight: int
    """By the metrics."""
    engine_open: int
    """Calls that the engine answers."""
    connections: int
    """That the client keeps."""
    process: Process
    tasks: int
    blocks: int
    """Small blocks of memory that Python has given out."""
    heap_bytes: int
    """What the C library's heap has given out."""
    remembered_bytes: int
    """Of completions that feedback may name: bounded, and filled by each one served. They are
    forgotten, and garbage is collected, for `start` and `end` alone."""


@dataclass(frozen=True)
class Mix:
    """What was asked, and what came of it at the client."""

    requests: int
    beginnings: int
    cancelled: dict[str, int]
    refused: dict[str, int]
    paces: dict[str, int]
    cut_off: dict[str, int]
    unanswered: int
    connections: int
    resets: int
    answered_by_status: dict[int, int]


@dataclass(frozen=True)
class Books:
    """The client's books, the log and the metrics, side by side."""

    mix: Mix
    problems: dict[str, int]
    examples: list[str]
    counted_by_status: dict[int, int]
    logged_by_status: dict[int, int]
    doubled: int
    matched: Matched
    complaints: int
    complaint_examples: list[str]


@dataclass
class Results:
    """Filled in as the run goes on."""

    command: str
    started_at: str
    """UTC, ISO 8601."""
    options: dict[str, Any]
    machine: dict[str, str]
    versions: dict[str, str]
    checkpoints: list[Checkpoint] = field(default_factory=list)
    books: Books | None = None
    engine: EngineTotals | None = None
    tasks_at_start: dict[str, int] = field(default_factory=dict)
    tasks_at_end: dict[str, int] = field(default_factory=dict)
    objects_at_start: dict[str, int] = field(default_factory=dict)
    objects_at_end: dict[str, int] = field(default_factory=dict)
    partial: bool = True
    """Until the end was looked at."""

    def checkpoint(self, name: str) -> Checkpoint | None:
        """The one of that name, if the run came so far."""
        return next((each for each in self.checkpoints if each.name == name), None)

    def objects_grown(self, most: int = 12) -> dict[str, int]:
        """The types of which there are more at the end, those that grew most first."""
        grown = Counter(self.objects_at_end)
        grown.subtract(self.objects_at_start)
        return {name: count for name, count in grown.most_common(most) if count > 0}

    def to_json(self, verdicts: list[dict[str, Any]]) -> str:
        """Everything."""
        return json.dumps(asdict(self) | {"verdicts": verdicts}, indent=1) + "\n"
