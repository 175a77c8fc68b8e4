"""The report as one HTML page that needs nothing beside it: no scripts, no other files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from training.evaluation.results import Example
from training.report.curves import loss_curves
from training.report.examples import differing
from training.report.run_report import RunReport
from training.report.scores import number, score_rows

_TEMPLATE = "page.html.jinja"
_HEADLINES = {
    "passed": "Passed",
    "rejected": "Rejected",
    "inconclusive": "Inconclusive",
}


def render(report: RunReport, examples: Sequence[Example], data: str) -> str:
    """The page. data: the data report as HTML, escaped by its maker; all else is escaped here."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "duration": duration}
    return environment.get_template(_TEMPLATE).render(
        report=report,
        headline=_HEADLINES[report.verdict],
        summary=_summary(report),
        rows=score_rows(report.evaluation) if report.evaluation else [],
        examples=differing(examples),
        all_examples=len(examples),
        curves=Markup(loss_curves(report.training)),  # noqa: S704  # drawn here, from numbers
        data=Markup(data),  # noqa: S704  # see above
        lineage=_flat(report.lineage),
        environment=_flat(report.environment),
        recipe=recipe_text(report.recipe),
    )


def recipe_text(recipe: Mapping[str, JsonValue]) -> str:
    """The recipe as YAML, in the order of its fields."""
    import yaml

    return yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True, width=100)


def duration(seconds: float) -> str:
    """In the unit that tells it with two or three figures."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def _summary(report: RunReport) -> str:
    """The verdict's reason in a sentence."""
    asked = len({gate.gate for gate in report.gates})
    gates = "1 gate" if asked == 1 else f"{asked} gates"
    if report.verdict == "passed":
        return f"It shows all that was asked of it: {gates}, written before it ran."
    if report.verdict == "rejected":
        failed = len({gate.gate for gate in report.gates if gate.outcome == "fail"})
        return f"It fails {failed} of {gates}, written before it ran."
    if report.evaluation is None:
        return "It could not be judged: no engine can serve it."
    return f"No gate fails, but of {gates} not all can be decided from what was measured."


def _flat(fields: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values, nested ones with dots; what says nothing is left out."""
    found: list[tuple[str, str]] = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        elif value not in (None, "", [], ()):
            found.append((prefix + name, str(value)))
    return found
