"""All that one run found, as JSON."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.sides.paced import Paced
from benchmarks.sides.profiler import Profile
from benchmarks.sides.verdicts import Verdict, paced_verdicts, relay_verdicts
from benchmarks.sides.window import Window


@dataclass
class Results:
    """Filled in as the run goes on."""

    command: str
    started_at: str
    """UTC, ISO 8601."""
    options: dict[str, Any]
    machine: dict[str, str]
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    """By side."""
    windows: list[Window] = field(default_factory=list)
    paced: list[Paced] = field(default_factory=list)
    many: list[Paced] = field(default_factory=list)
    profiles: list[Profile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What went wrong on the way."""
    partial: bool = True
    """Until all that was asked for is measured."""

    def verdicts(self) -> list[Verdict]:
        """On what has been measured so far."""
        return [*relay_verdicts(self.windows), *paced_verdicts(self.paced, self.many)]

    def to_json(self) -> str:
        """Everything, with the verdicts."""
        whole = asdict(self) | {"verdicts": [asdict(verdict) for verdict in self.verdicts()]}
        return json.dumps(whole, indent=1) + "\n"
