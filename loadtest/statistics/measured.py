"""All that is kept of a run, fed by one call a sample."""

from loadtest.samples import Sample
from loadtest.statistics.figures import APART, Figures
from loadtest.statistics.goodput import Slo
from loadtest.statistics.rows import MOST_ROWS, Rows
from loadtest.statistics.timeline import Timeline


class Measured:
    """Figures, the run over time and the rows; flat in memory. Each process has its own."""

    def __init__(
        self, slo: Slo | None = None, *, apart: int = APART, rows: int = MOST_ROWS, seed: int = 0
    ) -> None:
        self.figures = Figures(slo, apart=apart)
        self.timeline = Timeline()
        self.rows = Rows(rows, seed=seed)

    def add(self, sample: Sample) -> None:
        self.figures.add(sample)
        self.timeline.add(sample)
        self.rows.add(sample)

    def merge(self, other: "Measured") -> None:
        """Adds another process's part of the same run."""
        self.figures.merge(other.figures)
        self.timeline.merge(other.timeline)
        self.rows.merge(other.rows)
