"""The report of a run: what it shows first, what it never lets through, what a registry keeps."""

import json
from html.parser import HTMLParser
from pathlib import Path

from training.data.report import ClassCounts, DataReport, Finding, Repeats, Roles, Structure
from training.evaluation.results import (
    Agreement,
    Comparison,
    Estimate,
    EvaluationResult,
    Example,
    MetricResult,
)
from training.report.curves import loss_curves
from training.report.examples import differing
from training.report.page import render
from training.report.run_report import (
    CurvePoint,
    DataSummary,
    GateOutcome,
    RunReport,
    TrainingSummary,
    Verdict,
)
from training.report.scores import number, score_rows

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7 * 7 }} \"'&"


def a_metric(name: str = "exact_match", **parts: float | None) -> MetricResult:
    low, high = parts.get("low", 0.1), parts.get("high", 0.3)
    return MetricResult(
        name=name,
        better="higher",
        items=40,
        of={
            "base": Estimate(value=0.2, low=0.1, high=0.3),
            "candidate": Estimate(value=parts.get("candidate", 0.4), low=0.3, high=0.5),
        },
        against={
            "base": Comparison(difference=0.2, low=low, high=high, p_value=0.01, detectable=0.09)
        },
    )


def a_data_report(text: str) -> DataReport:
    return DataReport(
        kind="chat",
        version="ab" * 32,
        files=(),
        rows=140,
        lengths=None,
        roles=Roles(with_system=0, system_prompts=0, turns=((1, 140),)),
        structure=Structure(formats=(("text", 140),), keys=()),
        classes=ClassCounts(source=None, counts=()),
        repeats=Repeats(copies=0, near=0, contradictory=0),
        leaks=(),
        sample=(),
        findings=(Finding(code="few_rows", severity="advice", message=text),),
    )


def a_report(
    *,
    verdict: Verdict = "rejected",
    text: str = "plain",
    evaluated: bool = True,
    overfit: str | None = None,
) -> RunReport:
    evaluation = EvaluationResult(
        subjects={"base": text, "candidate": text},
        items={"test": 40},
        metrics=(a_metric(text),),
        agreement=Agreement(
            prompts=4,
            same_tokens=True,
            greedy_agreement=0.99,
            largest_difference=0.02,
            mean_difference=0.001,
            notes=(text,),
        ),
        notes=(text,),
    )
    looks = {20: 0.5, 40: 0.4}
    points = [
        CurvePoint(step=i, loss=2 / i, validation_loss=looks.get(i), learning_rate=1e-3 / i)
        for i in range(1, 41)
    ]
    return RunReport(
        run="1a2b",
        name=text,
        verdict=verdict,
        gates=(GateOutcome(gate=text, outcome="fail", reason=text),),
        warnings=(text,),
        started_at="2026-11-22T10:00:00+00:00",
        finished_at="2026-11-22T10:16:00+00:00",
        recipe={"base": text, "method": "lora"},
        command=f"loraplex train {text}",
        data=DataSummary(
            version="ab" * 32,
            rows={"train": 90, "validation": 10, "test": 40},
            replayed=0,
            report=a_data_report(text),
        ),
        training=TrainingSummary(
            steps=40,
            tokens=4000,
            tokens_per_s=400.0,
            seconds=10.0,
            best_step=20,
            kept=text,
            stopped_early=False,
            overfit=overfit,
            curve=tuple(points),
        ),
        evaluation=evaluation if evaluated else None,
        lineage={"base": {"name": text}},
        environment={"packages": {"torch": text}},
    )


def an_example(at: int, *, candidate: str, base: str, text: str = "ask") -> Example:
    answers = {"base": base, "candidate": candidate}
    return Example(id=str(at), suite="test", prompt=text, reference="yes", answers=answers)


class Page(HTMLParser):
    """The tags of a page, what its elements load, and its text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "srcset", "data")]
        self.loads += [value or "" for name, value in attrs if name == "href" and tag != "a"]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_strings_are_shown_and_do_nothing() -> None:
    example = an_example(1, candidate=HOSTILE, base="no", text=HOSTILE)
    markup = render(a_report(text=HOSTILE, overfit=HOSTILE), [example], "<p>the data</p>")
    page = Page(markup)
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert page.handlers == []
    # Title, name, gate and reason, warning, subjects, metric, note, prompt, answer, base, recipe...
    assert page.text.count("alert(1)") >= 12
    assert "49" not in page.text.replace("4000", "").partition("Gates")[0]
    assert "{{ 7 * 7 }}" in page.text


def test_the_page_needs_nothing_beside_it() -> None:
    examples = [an_example(i, candidate="yes", base="no") for i in range(3)]
    markup = render(a_report(), examples, "<p>the data</p>")
    page = Page(markup)
    outside = [load for load in page.loads if not load.startswith("#")]
    assert outside == []
    assert "@import" not in markup
    assert "url(" not in markup.replace("url(#", "")
    assert "prefers-color-scheme: dark" in markup


def test_the_verdict_comes_first_with_its_reasons() -> None:
    page = Page(render(a_report(verdict="rejected"), [], "<p>the data</p>"))
    body = page.text.partition("Training run")[2]
    order = ["Rejected", "fails 1 of 1 gate", "Gates", "Scores", "Training", "Examples"]
    order += ["Served as trained", "the data", "Where it comes from", "Make it again"]
    places = [body.find(word) for word in order]
    assert -1 not in places
    assert places == sorted(places)


def test_a_run_that_nobody_could_judge_says_so() -> None:
    report = a_report(verdict="inconclusive", evaluated=False)
    page = Page(render(report, [], "<p>the data</p>"))
    assert "could not be judged: no engine can serve it" in page.text
    assert "Scores" not in page.text


def test_curves_mark_the_kept_step_and_the_alarm() -> None:
    calm = loss_curves(a_report().training)
    assert "kept: step 20" in calm
    assert "overfit" not in calm
    assert "overfit alarm" in loss_curves(a_report(overfit="it rose").training)
    # The page's colours, in light and dark; the same run draws the same.
    assert "var(--candidate)" in calm
    assert calm == loss_curves(a_report().training)


def test_a_run_without_steps_has_no_curves() -> None:
    bare = a_report().training.model_copy(update={"curve": ()})
    assert loss_curves(bare) == ""


def test_examples_are_those_that_differ_mistakes_first() -> None:
    alike = an_example(0, candidate="yes", base="yes ")
    mended = an_example(1, candidate="yes", base="no")
    broken = an_example(2, candidate="no", base="yes")
    wrong = an_example(3, candidate="no", base="never")
    shown = differing([alike, mended, broken, wrong])
    assert [(one.example.id, one.kind) for one in shown] == [
        ("2", "broken"),
        ("3", "wrong"),
        ("1", "mended"),
    ]


def test_the_sample_of_examples_is_fixed_and_shared_among_kinds() -> None:
    broken = [an_example(i, candidate="no", base="yes") for i in range(50)]
    mended = [an_example(i, candidate="yes", base="no") for i in range(50, 60)]
    shown = differing([*broken, *mended], most=12)
    assert [one.kind for one in shown] == ["broken"] * 6 + ["mended"] * 6
    again = differing([*reversed(mended), *reversed(broken)], most=12)
    assert [one.example.id for one in again] == [one.example.id for one in shown]


def test_a_difference_is_good_or_bad_only_when_its_interval_says_so() -> None:
    def tone(low: float, high: float) -> str:
        metric = a_metric(low=low, high=high)
        result = EvaluationResult(subjects={}, items={}, metrics=(metric,))
        return score_rows(result)[0].gaps[0].tone

    assert tone(low=0.1, high=0.3) == "good"
    assert tone(low=-0.3, high=-0.1) == "bad"
    assert tone(low=-0.1, high=0.3) == "even"


def test_what_is_not_defined_is_a_dash() -> None:
    metric = a_metric(candidate=None)
    rows = score_rows(EvaluationResult(subjects={}, items={}, metrics=(metric,)))
    assert rows[0].dots[1].at is None
    assert rows[0].dots[1].text.startswith("-")
    assert [number(value) for value in (None, 0.0, 0.91234, 14.25, 2e-5, 123456.0)] == [
        "-",
        "0.000",
        "0.912",
        "14.2",
        "2.00e-05",
        "1.23e+05",
    ]


def test_a_registry_keeps_a_bounded_part_without_rows_or_answers() -> None:
    report = a_report(text="x" * 5000)
    many = report.model_copy(update={"warnings": ("w" * 5000,) * 500})
    compact = many.compact()
    assert len(json.dumps(compact)) < 2**17
    assert compact["verdict"] == "rejected"
    assert compact["gates"][0]["outcome"] == "fail"
    assert "curve" not in compact["training"]
    assert "examples" not in compact["evaluation"]
    assert compact["data"]["findings"][0]["code"] == "few_rows"


def test_a_report_is_read_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(a_report().model_dump_json())
    assert RunReport.model_validate_json(file.read_text()) == a_report()
