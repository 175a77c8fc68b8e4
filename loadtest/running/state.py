"""A run as it goes, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from loadtest.running.tester import OwnFigures, Verdict, judge

Ended = Literal["completed", "interrupted", "target"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, each second and when it is stopped: for what shows it."""

    now_s: float
    sent: int
    ended: int
    stopped: bool = False
    """Whether it ends before its time, as after a Ctrl-C: nothing more is sent."""

    @property
    def in_flight(self) -> int:
        return self.sent - self.ended


OnProgress = Callable[[Progress], object]


@dataclass(slots=True)
class PartOutcome:
    """What came of one process's part of a run. Mergeable."""

    ended: Ended
    problem: str | None
    seconds: float
    sent: int
    unsent: int
    tester: OwnFigures

    def merge(self, other: "PartOutcome") -> None:
        """The run ended as the worst of its parts did."""
        order: tuple[Ended, ...] = ("completed", "interrupted", "target")
        self.ended = max(self.ended, other.ended, key=order.index)
        self.problem = self.problem or other.problem
        self.seconds = max(self.seconds, other.seconds)
        self.sent += other.sent
        self.unsent += other.unsent
        self.tester.merge(other.tester)


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What came of a run; its samples went to the callback."""

    ended: Ended
    """`completed`: by time or count. `interrupted`: by Ctrl-C. `target`: it is not there."""
    problem: str | None
    """What is wrong with the target, and the fix."""
    seconds: float
    """From the begin to the last answer's end."""
    sent: int
    unsent: int
    """Turns of sessions that were not reached."""
    tester: Verdict
    processes: int


def outcome_of(whole: PartOutcome, processes: int) -> RunOutcome:
    """The parts together, with the verdict on the tester."""
    return RunOutcome(
        whole.ended, whole.problem, whole.seconds, whole.sent, whole.unsent,
        judge(whole.tester), processes,
    )  # fmt: skip
