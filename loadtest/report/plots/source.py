"""What plots are drawn from: a result, its rows opened once, and who is shown in which colour."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loadtest.report.formats import printable
from loadtest.report.result import Result
from loadtest.statistics.rows import OUTCOMES, PHASES, Table

Figure = Literal["ttft_s", "itl_s", "tpot_s", "e2e_s"]
Group = Literal["tenant", "model"]
Mask = NDArray[np.bool_]
_LONGEST_NAME = 22


@dataclass(frozen=True, slots=True)
class Source:
    """One run. table: its rows, by intended time, all phases."""

    result: Result
    table: Table

    @property
    def end_s(self) -> float:
        """When the last thing happened."""
        cells = self.result.timeline
        rows = [self.table["intended_s"], self.table["ended_s"]]
        seen = [float(np.nanmax(times)) for times in rows if not np.isnan(times).all()]
        return max([*seen, self.result.seconds if not cells else 0.0])

    @property
    def measured(self) -> Mask:
        found: Mask = self.table["phase"] == PHASES.index("measured")
        return found

    @property
    def failed(self) -> Mask:
        """Not answered, and not for the user's sake."""
        ok, cancelled = OUTCOMES.index("ok"), OUTCOMES.index("cancelled")
        found: Mask = (self.table["outcome"] != ok) & (self.table["outcome"] != cancelled)
        return found

    @property
    def streamed(self) -> bool:
        """Whether there is any time to a first token."""
        return self.result.ttft_s.count > 0 or bool((~np.isnan(self.table["ttft_s"])).any())

    @property
    def first_answer(self) -> tuple[Figure, str]:
        """The latency that a user feels first: TTFT, or E2E where nothing was streamed."""
        return ("ttft_s", "TTFT") if self.streamed else ("e2e_s", "E2E")

    def outside(self) -> Iterator[tuple[float, float, str]]:
        """Where warm-up and cool-down lie: begin, end, and what it is."""
        for phase in ("warmup", "cooldown"):
            rows = self.table["intended_s"][self.table["phase"] == PHASES.index(phase)]
            if len(rows):
                inner = self.table["intended_s"][self.measured]
                begin = 0.0 if phase == "warmup" else float(rows.min())
                first = float(inner.min()) if len(inner) else self.end_s
                end = min(first, self.end_s) if phase == "warmup" else self.end_s
                yield begin, max(end, begin), phase

    def ranked(self, group: Group) -> list[int]:
        """The places of tenants or models in the list of names, those with most requests first."""
        names = self.names(group)
        many = np.bincount(self.table[group], minlength=len(names))
        return sorted((p for p in range(len(names)) if many[p]), key=lambda p: (-many[p], names[p]))

    def names(self, group: Group) -> list[str]:
        return self.result.names("tenants" if group == "tenant" else "models")


def source(result: Result) -> Source:
    """Raises StatisticsError where the rows are damaged."""
    table = result.table()
    return Source(result, table[np.argsort(table["intended_s"], kind="stable")])


def short(name: str, longest: int = _LONGEST_NAME) -> str:
    """A name for a plot: one line, without marks that are not seen, its middle left out."""
    shown = printable(name).replace("\n", " ") or "(none)"
    if len(shown) <= longest:
        return shown
    half = (longest - 1) // 2
    return f"{shown[:half]}…{shown[-(longest - 1 - half) :]}"
