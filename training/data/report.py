"""What was found in a data set: plain figures and findings, for people and for programs."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from training.data.rows import Kind
from training.data.thresholds import LINES_SHOWN

Severity = Literal["error", "warning", "advice"]

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Finding(BaseModel):
    """One thing to know of the data.

    code: stable, for programs; those of `recipe.Fault` may be allowed. message: what, and the fix.
    file, lines: where; the first thousand lines, when there are more. examples: what stands there;
    of `bad_rows` every reason.
    """

    model_config = _FROZEN

    code: str
    severity: Severity
    message: str
    file: str | None = None
    lines: tuple[int, ...] = ()
    examples: tuple[str, ...] = ()

    def where(self) -> str:
        """`train.jsonl, lines 3, 17, ...`; the file where no lines are named, empty without one."""
        if not self.lines:
            return self.file or ""
        shown = ", ".join(map(str, self.lines[:LINES_SHOWN]))
        rest = ", ..." if len(self.lines) > LINES_SHOWN else ""
        lines = f"{'line' if len(self.lines) == 1 else 'lines'} {shown}{rest}"
        return f"{self.file}, {lines}" if self.file else lines

    def told(self) -> str:
        """The message, and where."""
        where = self.where()
        return f"{self.message} ({where})" if where else self.message


class FileSummary(BaseModel):
    """A file of the data set, or the part of one. sha256: of the file's bytes, in hex."""

    model_config = _FROZEN

    name: str
    rows: int
    bad: int
    sha256: str
    version: str


class Lengths(BaseModel):
    """Tokens of whole rows, the template's included.

    limit: of the model or the run. over: rows that are longer. histogram: (up to so many tokens,
    rows) in bars of equal width.
    """

    model_config = _FROZEN

    limit: int | None
    over: int
    total: int
    p50: int
    p90: int
    p99: int
    longest: int
    histogram: tuple[tuple[int, int], ...]


class Roles(BaseModel):
    """Who speaks. turns: (user turns of a row, rows). system_prompts: different ones."""

    model_config = _FROZEN

    with_system: int
    system_prompts: int
    turns: tuple[tuple[int, int], ...]


class Structure(BaseModel):
    """How answers look. formats: (JSON object, text ..., rows). keys: (sets of JSON keys, rows)."""

    model_config = _FROZEN

    formats: tuple[tuple[str, int], ...]
    keys: tuple[tuple[str, int], ...]


class ClassCounts(BaseModel):
    """source: `label`, `answer`, `answer.KEY` or None. counts: (class, rows), the largest first."""

    model_config = _FROZEN

    source: str | None
    counts: tuple[tuple[str, int], ...]


class Leak(BaseModel):
    """Rows of `held_out` whose input is in `learned` too: the same one, or nearly the same."""

    model_config = _FROZEN

    learned: str
    held_out: str
    same: int
    near: int


class Repeats(BaseModel):
    """copies: rows that were there before, word for word. near: rows nearly so."""

    model_config = _FROZEN

    copies: int
    near: int
    contradictory: int


class SampleRow(BaseModel):
    """A row to look at. file, line: where it stands."""

    model_config = _FROZEN

    file: str
    line: int
    input: str
    answer: str
    label: str | None


class DataReport(BaseModel):
    """All of it. version: of the whole data set, in hex."""

    model_config = _FROZEN

    kind: Kind
    version: str
    files: tuple[FileSummary, ...]
    rows: int
    lengths: Lengths | None
    roles: Roles
    structure: Structure
    classes: ClassCounts
    repeats: Repeats
    leaks: tuple[Leak, ...]
    sample: tuple[SampleRow, ...]
    findings: tuple[Finding, ...]

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(one for one in self.findings if one.severity == severity)
