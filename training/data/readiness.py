"""Is this data to tune on at all? The advice of the guides."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from training.data.classes import Classes
from training.data.joined import Joined
from training.data.report import Finding
from training.data.rows import Row
from training.data.texts import FILLERS, answer_of, json_of, words_of
from training.data.thresholds import (
    FACTS_COMMON,
    FACTS_WORDS,
    FEW_ROWS_ADVICE,
    FEW_ROWS_ERROR,
    FEW_ROWS_LEARNED,
    FEW_ROWS_WARNING,
    IMBALANCE,
    PROMPT_FIRST_CLASSES,
    PROMPT_FIRST_ROWS,
)
from training.data.unrelated import Relation

_SAMPLE = 400


def row_findings(learned: int, held_out: int) -> Iterator[Finding]:
    """Too few rows. held_out: those in files of their own; others are drawn from the learned."""
    count, part, what = learned + held_out, 1.0, ""
    if learned < FEW_ROWS_LEARNED * count:
        # Many held-out rows do not make up for what cannot be learned.
        count, part, what = learned, FEW_ROWS_LEARNED, " beside those held out"
    error, warning, advised = (
        round(part * each) for each in (FEW_ROWS_ERROR, FEW_ROWS_WARNING, FEW_ROWS_ADVICE)
    )
    rows = f"{count:,} {'row' if count == 1 else 'rows'}{what}"
    if count < error:
        message = f"{rows}: too few to learn from or to judge by; gather at least {warning}"
        yield Finding(code="few_rows", severity="error", message=message)
    elif count < warning:
        message = f"{rows}: the guides advise against tuning on fewer than {warning}; gather more"
        yield Finding(code="few_rows", severity="warning", message=message)
    elif count < advised:
        message = f"{rows} can do where they are good; {advised} or more do better"
        yield Finding(code="few_rows", severity="advice", message=message)


def class_findings(classes: Classes) -> Iterator[Finding]:
    """Classes of which the model would see next to nothing."""
    counts = classes.counts().most_common()
    if len(counts) < 2:
        return
    (most, many), (least, few) = counts[0], counts[-1]
    if many >= IMBALANCE * few:
        yield Finding(
            code="imbalance",
            severity="advice",
            message=f"class {most[:40]!r} has {many:,} rows, {least[:40]!r} only {few:,}; gather"
            " more of the rare ones, or draw evenly with data.limit",
        )


def relation_findings(file: str, found: Relation | None) -> Iterator[Finding]:
    """Labels that look shuffled. Never an error: no relation in words is not yet no relation."""
    if found is not None and found.unrelated:
        yield Finding(
            code="unrelated_answers",
            severity="warning",
            message="the answers look shuffled: they have no more to do with their own inputs than"
            f" with those of other rows (looked at {found.rows:,} rows); check that each answer"
            " stands beside its input",
            file=file,
        )


def advice(rows: Joined, classes: Classes, system_prompt: str | None) -> Iterator[Finding]:
    """Facts are for retrieval, and what a prompt can do needs no training."""
    sample = [answer_of(row)["content"] for row in _spread(rows, _SAMPLE)]
    if _look_like_facts(sample):
        yield Finding(
            code="facts",
            severity="advice",
            message="long answers that have little in common look like facts rather than behaviour;"
            " facts are better looked up (retrieval), tuning is for form, style and terms",
        )
    kinds = len(classes.counts())
    few_classes = classes.source in ("answer", "label") and 1 < kinds <= PROMPT_FIRST_CLASSES
    if few_classes or (len(rows) < PROMPT_FIRST_ROWS and system_prompt is None):
        what = f"{kinds} classes" if few_classes else "so few rows without a system prompt"
        yield Finding(
            code="prompt_first",
            severity="advice",
            message=f"{what}: try the base with a good system prompt and a few examples first; the"
            " evaluation shows what tuning adds",
        )


def _spread(rows: Joined, count: int) -> list[Row]:
    return list(islice(iter(rows[:: max(1, len(rows) // count)]), count))


def _look_like_facts(answers: Sequence[str]) -> bool:
    """Long free texts whose words no other answer has."""
    if len(answers) < 2 or any(json_of(answer) is not None for answer in answers):
        return False
    words = [words_of(answer) for answer in answers]
    if float(np.median([len(each) for each in words])) < FACTS_WORDS:
        return False
    sets = [{word for word in each if word not in FILLERS} for each in words]
    overlaps = [
        len(one & other) / max(1, len(one | other))
        for one, other in zip(sets, [*sets[1:], sets[0]], strict=True)
    ]
    return float(np.mean(overlaps)) < FACTS_COMMON
