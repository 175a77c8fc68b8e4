"""What the tests of the load tester's runs share: planned requests, and a run on a fake clock."""

from collections.abc import Iterator
from typing import Any

from loadtest.running.phases import Phases
from loadtest.running.sending import Sender
from loadtest.running.timetable import Timetable
from loadtest.samples import Planned, Sample
from tests.load_clock import FakeClient, FakeClock


def planned(index: int, at_s: float | None, *, turn: int = 0, turns: int = 1,
            think_s: float = 0.0) -> Planned:  # fmt: skip
    body: dict[str, Any] = {
        "model": "base",
        "messages": [{"role": "user", "content": f"question {turn}"}],
        "max_tokens": 2,
        "stream": True,
    }
    return Planned(
        index=index, at_s=at_s, tenant="acme", model="base", route="/v1/chat/completions",
        body=body, stream=True, max_tokens=2, session=None, turn=turn, prompt_tokens=3,
        turns=turns, think_s=think_s,
    )  # fmt: skip


def singles(*moments: float | None, think_s: float = 0.0) -> Iterator[list[Planned]]:
    """Requests that stand alone."""
    for index, at_s in enumerate(moments):
        yield [planned(index, at_s, think_s=think_s)]


class FakeRun:
    """A sender on a fake client and clock, and what came of it."""

    def __init__(self, phases: Phases | None = None, **options: Any) -> None:
        self.clock = FakeClock()
        self.client = FakeClient(self.clock, **options)
        self.begin_s = self.clock.now()
        self.timetable = Timetable(self.clock, self.begin_s)
        self.samples: list[Sample] = []
        self.sender = Sender(
            self.client, self.timetable, self.begin_s, phases or Phases(), self.samples.append
        )

    @property
    def sent_s(self) -> list[float]:
        """When each call came, from the run's begin."""
        return [round(at_s - self.begin_s, 6) for at_s, _ in self.client.calls]
