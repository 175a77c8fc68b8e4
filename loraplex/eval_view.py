"""How `loraplex eval` looks: a line a metric with its interval, then what differs, then notes."""

from typing import TYPE_CHECKING, Any

from loraplex.output import note, print_fields, print_json, print_line, print_table

if TYPE_CHECKING:  # the training module is loaded only by the command that needs it
    from loraplex.eval_run import Options
    from training.evaluation.results import Comparison, Estimate, EvaluationResult, MetricResult

_SURE = 0.05


def show(found: "EvaluationResult", options: "Options", *, as_json: bool) -> None:
    """The result for a person, or as one JSON document."""
    if as_json:
        print_json(as_fields(found, options))
        return
    print_fields(
        [
            *found.subjects.items(),
            ("items", ", ".join(f"{number} {suite}" for suite, number in found.items.items())),
        ]
    )
    print_line("")
    _show_scores(found)
    for other in ("base", "live"):
        _show_comparison(found, other)
    for text in found.notes:
        note(f"Note: {text}")
    if options.out is not None:
        print_line(f"\nAnswers: {options.out / 'answers.jsonl'}")
    if options.blind_sheet is not None:
        print_line(f"Sheet:   {options.blind_sheet}")
        print_line(f"Key:     {options.blind_key}  (keep it from those who choose)")


def as_fields(found: "EvaluationResult", options: "Options") -> dict[str, Any]:
    """`scores` are the candidate's, or the base's where there is no candidate."""
    judged = "candidate" if "candidate" in found.subjects else next(iter(found.subjects))
    others = [name for name in found.subjects if name != judged]
    fields: dict[str, Any] = {
        "scores": _values(found, judged),
        "n": found.items.get("test", 0),
        "subject": judged,
        "subjects": found.subjects,
        "items": found.items,
    }
    fields |= {name: {"scores": _values(found, name)} for name in others}
    fields["metrics"] = [metric.model_dump(mode="json") for metric in found.metrics]
    fields["notes"] = list(found.notes)
    if options.out is not None:
        fields["out"] = str(options.out)
    return fields


def _values(found: "EvaluationResult", subject: str) -> dict[str, float | None]:
    return {
        metric.name: metric.of[subject].value for metric in found.metrics if subject in metric.of
    }


def _show_scores(found: "EvaluationResult") -> None:
    names = list(found.subjects)
    print_table(
        ["METRIC", *(name.upper() for name in names)],
        [
            (metric.name, *(_estimate(metric.of.get(name)) for name in names))
            for metric in found.metrics
        ],
        empty="nothing was measured",
        right=" ".join(name.upper() for name in names),
    )


def _show_comparison(found: "EvaluationResult", other: str) -> None:
    rows = [
        (metric.name, *_comparison(metric, metric.against[other]))
        for metric in found.metrics
        if other in metric.against
    ]
    if rows:
        print_line("")
        print_table(
            ["METRIC", f"CANDIDATE - {other.upper()}", "P", "RESULT", "COULD SHOW"],
            rows,
            empty="",
            right="P",
        )


def _comparison(metric: "MetricResult", found: "Comparison") -> tuple[str, str, str, str]:
    if found.difference is None:
        return "-", "", "", ""
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f" ({found.low:+.3f} to {found.high:+.3f})"
    p_value = "" if found.p_value is None else f"{found.p_value:.3f}"
    could = "" if found.detectable is None else f"{found.detectable:.3f}"
    return f"{found.difference:+.3f}{interval}", p_value, _word(metric, found), could


def _word(metric: "MetricResult", found: "Comparison") -> str:
    """What the difference comes to."""
    if found.p_value is None or found.p_value > _SURE or not found.difference:
        return "not told apart"
    if metric.better == "neither":
        return "differs"
    return "better" if (found.difference > 0) == (metric.better == "higher") else "worse"


def _estimate(found: "Estimate | None") -> str:
    if found is None or found.value is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
