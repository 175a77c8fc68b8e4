"""A blind sheet for people: pairs of answers in an order of chance, a key apart, and the result."""

import csv
import io
import random
import secrets
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from training.errors import EvaluationError
from training.evaluation.metrics import mean_metric
from training.evaluation.proportions import Flips, mcnemar_p
from training.evaluation.results import Estimate, EvaluationResult
from training.evaluation.statistics import estimate

CRITERIA = ("better", "correctness", "format", "completeness")
"""The columns to fill in, with A, B or tie; the last three may stay empty."""
_TEXTS = ("prompt", "answer_a", "answer_b")
_COLUMNS = ("item", *_TEXTS, *CRITERIA, "comment")
# A cell that begins so is a formula to a spreadsheet.
_RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
_GUARD = "'"
_FROZEN = ConfigDict(frozen=True, extra="forbid")


class BlindKey(BaseModel):
    """Which answer is whose; to be kept from those who judge."""

    model_config = _FROZEN

    candidate: str
    """What the candidate is, in words."""
    other_name: str
    """`base` or `live`."""
    other: str
    candidate_is: dict[str, Literal["A", "B"]]
    """By item."""
    same: int
    """Items with equal answers: ties, not in the sheet."""


class Preference(BaseModel):
    """How often the candidate was preferred."""

    model_config = _FROZEN

    wins: int
    losses: int
    ties: int
    win_rate: Estimate
    """Ties count half, those of equal answers too."""
    p_value: float | None
    """Of no difference: the exact sign test over wins and losses."""


class BlindResult(BaseModel):
    """What people found."""

    model_config = _FROZEN

    candidate: str
    other: str
    judged: int
    """Rows with a choice under `better`."""
    open: int
    """Rows without."""
    same: int
    """Items with equal answers."""
    criteria: dict[str, Preference]
    comments: dict[str, str]
    """By item."""


def make_sheet(
    found: EvaluationResult, *, other: str = "base", seed: int | None = None
) -> tuple[str, BlindKey]:
    """The sheet as CSV, and its key. seed: of the order; drawn anew where it is not given.

    Raises EvaluationError where candidate or other did not answer.
    """
    examples = [one for one in found.examples if one.suite == "test"]
    if not examples or any({"candidate", other} - one.answers.keys() for one in examples):
        raise EvaluationError(f"a blind sheet needs answers of candidate and {other}")
    coin = random.Random(secrets.randbits(64) if seed is None else seed)
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    candidate_is: dict[str, Literal["A", "B"]] = {}
    for one in examples:
        pair = (one.answers["candidate"], one.answers[other])
        if pair[0] == pair[1]:
            continue
        candidate_is[one.id] = "A" if coin.random() < 0.5 else "B"
        first, second = pair if candidate_is[one.id] == "A" else pair[::-1]
        texts = map(guarded, (one.id, one.prompt, first, second))
        writer.writerow([*texts, *("" for _ in CRITERIA), ""])
    key = BlindKey(
        candidate=found.subjects["candidate"],
        other_name=other,
        other=found.subjects[other],
        candidate_is=candidate_is,
        same=len(examples) - len(candidate_is),
    )
    return out.getvalue(), key


def read_key(text: str) -> BlindKey:
    """The key as it was written. Raises EvaluationError."""
    try:
        return BlindKey.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise EvaluationError(
            f"the key is not what was written with the sheet: {problem}"
        ) from None


def unblind(sheet: str, key: BlindKey) -> BlindResult:
    """What the filled sheet says of candidate and other. Raises EvaluationError."""
    rows = _rows(sheet, key)
    choices = {name: _outcomes(rows, key, name) for name in CRITERIA}
    judged = len(choices["better"])
    if not judged:
        raise EvaluationError("the sheet has no choice yet: write A, B or tie under `better`")
    return BlindResult(
        candidate=key.candidate,
        other=key.other,
        judged=judged,
        open=len(key.candidate_is) - judged,
        same=key.same,
        criteria={name: _preference(found, key.same) for name, found in choices.items() if found},
        comments={item: row["comment"] for item, row in rows.items() if row.get("comment")},
    )


def guarded(text: str) -> str:
    """Text that no spreadsheet takes for a formula; `unguarded` gives it back as it was."""
    return _GUARD + text if text.startswith(_RISKY) else text


def unguarded(text: str) -> str:
    """The text that was guarded."""
    return text.removeprefix(_GUARD) if text[1:].startswith(_RISKY) else text


def _rows(sheet: str, key: BlindKey) -> dict[str, dict[str, str]]:
    """The sheet's rows by item."""
    text = sheet.removeprefix("\ufeff")
    # Spreadsheets of many countries write semicolons.
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    missing = {"item", "better"} - set(reader.fieldnames or ())
    if missing:
        raise EvaluationError(f"the sheet has no column {min(missing)}; keep its first line")
    rows: dict[str, dict[str, str]] = {}
    for row in reader:
        item = unguarded(row["item"] or "")
        if item not in key.candidate_is:
            raise EvaluationError(f"row {item!r} is not in the key; is it the key of this sheet?")
        if item in rows:
            raise EvaluationError(f"row {item!r} is there twice; keep one")
        rows[item] = row
    return rows


def _outcomes(rows: Mapping[str, Mapping[str, str]], key: BlindKey, column: str) -> list[float]:
    """1 where the candidate was chosen, 0 where the other, 0.5 for a tie; rows without: none."""
    found = []
    for item, row in rows.items():
        choice = (row.get(column) or "").strip().upper()
        if choice not in ("", "A", "B", "TIE"):
            raise EvaluationError(f"row {item!r}: {column} is {choice!r}; write A, B or tie")
        if choice == "TIE":
            found.append(0.5)
        elif choice:
            found.append(1.0 if choice == key.candidate_is[item] else 0.0)
    return found


def _preference(outcomes: Sequence[float], same: int) -> Preference:
    wins, losses = outcomes.count(1.0), outcomes.count(0.0)
    values = np.array([*outcomes, *[0.5] * same], dtype=np.float64)
    return Preference(
        wins=wins,
        losses=losses,
        ties=len(outcomes) - wins - losses + same,
        win_rate=estimate(mean_metric("win_rate", "higher", values, bounds=(0, 1))),
        p_value=mcnemar_p(Flips(len(values), wins, losses)) if wins + losses else None,
    )
