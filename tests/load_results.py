"""Results for tests of what is shown of a run: made from samples, without a run."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from loadtest.client.target import Target
from loadtest.report.machine import Machine
from loadtest.report.make import About, make_result
from loadtest.report.result import KneeSearch, Result
from loadtest.running.options import Options
from loadtest.running.state import Ended, RunOutcome
from loadtest.running.tester import Verdict
from loadtest.samples import Sample
from loadtest.statistics.conditions import parse_condition
from loadtest.statistics.goodput import parse_slo
from loadtest.statistics.measured import Measured
from loadtest.workload.loading import make_workload
from tests.load_engines import failed, sample

MACHINE = Machine("Linux 6.1 x86_64", "Some CPU", 8, 32 * 2**30, "3.11.7", "0.1.0")
KEPT_UP = Verdict(False, (), 1e-4, 3e-4, 2e-3, 9e-3, 1e-3, 4e-3, 0.22)
BOUND = replace(KEPT_UP, bound=True, reasons=("requests were sent 84 ms late", "out of files"))


def result_of(
    samples: Iterable[Sample],
    *,
    name: str = "a run",
    slo: str | None = "ttft=250ms",
    stages: Sequence[dict[str, Any]] = ({"rate": 10, "seconds": 60},),
    ended: Ended = "completed",
    problem: str | None = None,
    tester: Verdict = KEPT_UP,
    options: Options | None = None,
    conditions: Sequence[str] = (),
    price: float | None = None,
    knee: KneeSearch | None = None,
    apart: int = 256,
    rows: int = 50_000,
) -> Result:
    measured = Measured(parse_slo(slo) if slo else None, apart=apart, rows=rows)
    given = list(samples)
    for one in given:
        measured.add(one)
    seconds = max((one.ended_s or one.intended_s for one in given), default=0.5)
    fields = {"arrivals": {"kind": "poisson", "stages": list(stages)}, "models": ["bot"]}
    outcome = RunOutcome(ended, problem, seconds, len(given), 0, tester, 1)
    about = About(
        datetime(2026, 11, 22, 10, tzinfo=UTC), MACHINE, name, price,
        [parse_condition(one) for one in conditions],
    )  # fmt: skip
    return make_result(
        measured, outcome, make_workload(fields, Path("/")), Target("http://engine.test:8000"),
        options or Options(), about, knee=knee,
    )  # fmt: skip


def some(
    count: int = 60,
    *,
    tenants: Sequence[str] = ("acme", "globex"),
    models: Sequence[str] = ("bot",),
    fails: Callable[[int], bool] = lambda index: False,
    **changed: Any,
) -> list[Sample]:
    """Requests of tenants and models in turn, ten a second, each a little slower."""
    found = []
    for index in range(count):
        who: dict[str, Any] = {
            "tenant": tenants[index % len(tenants)],
            "model": models[index % len(models)],
        }
        at_s = index / 10
        slow = 0.2 + 0.1 * index / count
        times = {"first_token_s": at_s + slow, "last_token_s": at_s + slow + 0.5,
                 "ended_s": at_s + slow + 0.51}  # fmt: skip
        make = failed(index, at_s, **who) if fails(index) else sample(index, at_s, **who, **times)
        found.append(replace(make, **changed) if changed else make)
    return found


class Page(HTMLParser):
    """The tags of a page, what its elements load, and its text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.labels: list[str] = []
        self.text = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.text += " " if tag in ("td", "th", "dt", "dd", "p") else ""
        named = ("src", "srcset", "data", "href", "xlink:href", "action", "poster")
        self.loads += [value or "" for name, value in attrs if name in named]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.labels += [value or "" for name, value in attrs if name == "aria-label"]

    def handle_data(self, data: str) -> None:
        self.text += data if self.tags[-1:] != ["style"] else ""

    @property
    def words(self) -> str:
        """The text, one space between words."""
        return " ".join(self.text.split())
