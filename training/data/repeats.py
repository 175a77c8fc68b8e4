"""Rows that say the same as another row, contradict it, or leak into what is held out."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from training.data.fingerprints import pairs_by_equality
from training.data.joined import Joined
from training.data.nearness import changes_between
from training.data.report import Finding, Leak, Severity
from training.data.rows import Preference, Row
from training.data.similar import Similar
from training.data.texts import (
    answer_of,
    canonical_answer,
    content_words,
    json_of,
    words_of,
)
from training.data.thresholds import (
    CONTRADICTIONS_ERROR,
    CONTRADICTIONS_ERROR_ROWS,
    DUPLICATES_ERROR,
    DUPLICATES_WARNING,
    LEAKAGE_ERROR,
    LEAKAGE_ERROR_ROWS,
    LEAKAGE_NEAR_ERROR,
    NEAR_DUPLICATES_WARNING,
)

_EXAMPLES = 5
_SHOWN_CHARS = 80
_LONG_ANSWER = 8
"""Words from which on an answer may be said in several ways."""

RowNumbers = npt.NDArray[np.int64]


def copies(rows: Joined, similar: Similar) -> RowNumbers:
    """Rows whose input and answer stand in an earlier row of the same file already."""
    parts = rows.part_numbers().astype(np.uint64)
    within = similar.prints.whole ^ (parts * np.uint64(0x9E3779B97F4A7C15))
    found: RowNumbers = pairs_by_equality(within)[:, 1]
    return found


def near_copies(rows: Joined, similar: Similar) -> RowNumbers:
    """Rows with nearly the input of an earlier row of the same file, and the same answer."""
    prints, parts = similar.prints, rows.part_numbers()
    pairs = np.concatenate([similar.same, similar.near])
    first, second = pairs[:, 0], pairs[:, 1]
    near = (
        (prints.inputs[first] != prints.inputs[second])
        & (prints.answers[first] == prints.answers[second])
        & (parts[first] == parts[second])
    )
    found: RowNumbers = np.setdiff1d(second[near], copies(rows, similar))
    return found


def duplicate_findings(
    rows: Joined, similar: Similar, exact: RowNumbers, near: RowNumbers
) -> Iterator[Finding]:
    """Of copies, and of near-copies."""
    if len(exact):
        share = len(exact) / len(rows)
        severity: Severity = "advice" if share < DUPLICATES_WARNING else "warning"
        if share >= DUPLICATES_ERROR:
            severity = "error"
        yield from rows.findings(
            "duplicates",
            severity,
            lambda count, total: (
                f"{count:,} of {total:,} rows repeat an earlier row word for word; remove them,"
                " or what they say weighs double"
            ),
            exact.tolist(),
        )
    if len(near):
        few = len(near) < NEAR_DUPLICATES_WARNING * len(rows)
        yield from rows.findings(
            "near_duplicates",
            "advice" if few else "warning",
            lambda count, total: (
                f"{count:,} of {total:,} rows ask nearly what an earlier row asks, with the same"
                " answer; they add little"
            ),
            near.tolist(),
            _near_examples(rows, similar, near),
        )


def _near_examples(rows: Joined, similar: Similar, near: RowNumbers) -> list[str]:
    pairs = np.concatenate([similar.same, similar.near])
    shown = pairs[np.isin(pairs[:, 1], near[:_EXAMPLES])]
    _, firsts = np.unique(shown[:, 1], return_index=True)
    return [_both(rows, one, other) for one, other in shown[firsts].tolist()]


def contradictions(rows: Joined, similar: Similar) -> list[tuple[int, int]]:
    """Pairs of rows that ask the same and answer differently."""
    answers = similar.prints.answers
    pairs = similar.same[answers[similar.same[:, 0]] != answers[similar.same[:, 1]]]
    return [(one, other) for one, other in pairs.tolist() if contradict(rows[one], rows[other])]


def contradict(one: Row, other: Row) -> bool:
    """Whether two rows that ask the same cannot both be right."""
    if isinstance(one, Preference) and isinstance(other, Preference):
        # Many pairs for one prompt are usual; only a better answer that is the worse one is not.
        return canonical_answer(one.chosen["content"]) == canonical_answer(
            other.rejected["content"]
        )
    left, right = answer_of(one)["content"], answer_of(other)["content"]
    if canonical_answer(left) == canonical_answer(right):
        return False
    return not (_same_in_other_words(left, right) or _follows_the_input(one, other))


def _same_in_other_words(left: str, right: str) -> bool:
    """Whether two free texts share most of what they say."""
    if json_of(left) is not None or json_of(right) is not None:
        return False
    one, other = set(content_words(words_of(left))), set(content_words(words_of(right)))
    if min(len(one), len(other)) < _LONG_ANSWER:
        return False
    return len(one & other) >= 0.5 * len(one | other)


def _follows_the_input(one: Row, other: Row) -> bool:
    """Whether the answers differ only in words in which the inputs differ as well."""
    changed = {word for words in _changed(_prompt(one), _prompt(other)) for word in words}
    answered = {
        word
        for words in _changed(answer_of(one)["content"], answer_of(other)["content"])
        for word in words
    }
    return bool(changed) and answered <= changed


def _changed(left: str, right: str) -> Iterator[Sequence[str]]:
    for change in changes_between(words_of(left), words_of(right)):
        yield from change


def _prompt(row: Row) -> str:
    return "\n".join(one["content"] for one in row.prompt)


def contradiction_findings(rows: Joined, pairs: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """Few are the noise that real labels have; many teach the model to guess."""
    if not pairs:
        return
    members = {row for pair in pairs for row in pair}
    many = len(members) >= max(CONTRADICTIONS_ERROR_ROWS, CONTRADICTIONS_ERROR * len(rows))
    kind = "prefer what the other refuses" if isinstance(rows[0], Preference) else "differ"
    yield from rows.findings(
        "contradictions",
        "error" if many else "warning",
        lambda count, total: (
            f"{count:,} of {total:,} rows contradict another: they ask the same, and their answers"
            f" {kind}; keep the right one of each"
        ),
        members,
        [_answers(rows, *pair) for pair in pairs[:_EXAMPLES]],
    )


def leaks(rows: Joined, similar: Similar) -> Iterator[tuple[Leak, RowNumbers]]:
    """For each two files what of the later one is in the earlier one, and which rows these are."""
    parts, inputs = rows.part_numbers(), similar.prints.inputs
    for held_out in range(1, len(rows.names)):
        for learned in range(held_out):
            here, there = parts == held_out, parts == learned
            same = here & np.isin(inputs, inputs[there])
            near = here & np.isin(similar.groups, similar.groups[there]) & ~same
            if same.any() or near.any():
                leak = Leak(
                    learned=rows.names[learned],
                    held_out=rows.names[held_out],
                    same=int(same.sum()),
                    near=int(near.sum()),
                )
                yield leak, np.flatnonzero(same | near)


def leak_finding(rows: Joined, leak: Leak, members: RowNumbers) -> Finding:
    """What is learned by heart says nothing when it is asked again."""
    total = len(rows.parts[leak.held_out].rows)
    many = (
        leak.same >= max(LEAKAGE_ERROR_ROWS, LEAKAGE_ERROR * total)
        or leak.near >= max(LEAKAGE_ERROR_ROWS, LEAKAGE_NEAR_ERROR * total)
    )  # fmt: skip
    near = f" ({leak.near:,} of them nearly the same)" if leak.near else ""
    (found,) = rows.findings(
        "leakage",
        "error" if many else "warning",
        lambda count, total: (
            f"{count:,} of {total:,} rows of {leak.held_out} are in {leak.learned} too{near};"
            " remove them from one of the two, or split anew with `data split`"
        ),
        members.tolist(),
        [_shown(_asked(rows[row])) for row in members[:_EXAMPLES].tolist()],
    )
    return found


def _both(rows: Joined, one: int, other: int) -> str:
    return (
        f"{rows.place(one)}: {_shown(_asked(rows[one]))}"
        f" | {rows.place(other)}: {_shown(_asked(rows[other]))}"
    )


def _answers(rows: Joined, one: int, other: int) -> str:
    left, right = (_shown(answer_of(rows[row])["content"]) for row in (one, other))
    return f"{_both(rows, one, other)} -> {left} | {right}"


def _asked(row: Row) -> str:
    return row.prompt[-1]["content"]


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else line[: _SHOWN_CHARS - 3] + "..."
