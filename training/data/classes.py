"""The class of each row, where the data has classes: what splits, draws and checks are even over.

A row's label; else its answer, where few answers are given over and over; else the text field of
JSON answers that takes few values, such as `intent`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from training.data.rows import Row
from training.data.texts import answer_of, json_of
from training.data.thresholds import CLASS_MAX_CHARS, CLASS_MIN_ROWS, MAX_CLASSES


@dataclass(frozen=True)
class Classes:
    """source: `label`, `answer`, `answer.KEY`, or None where there are no classes.

    of: the class of each row, in order; None for a row without.
    """

    source: str | None
    of: Sequence[str | None]

    def counts(self) -> Counter[str]:
        """Rows of each class."""
        return Counter(name for name in self.of if name is not None)


def classes_of(rows: Sequence[Row]) -> Classes:
    """The classes of `rows`, which are read at most three times."""
    if any(row.label is not None for row in rows):
        return _classes("label", (row.label for row in rows))
    if _few(_text(row) for row in rows):
        return _classes("answer", (_text(row) for row in rows))
    key = _class_key(rows)
    if key is None:
        return Classes(None, [None] * len(rows))
    return _classes(f"answer.{key}", (_field(row, key) for row in rows))


def _classes(source: str, names: Iterable[str | None]) -> Classes:
    """Each name is kept once, however many rows have it."""
    known: dict[str | None, str | None] = {}
    return Classes(source, [known.setdefault(name, name) for name in names])


def _text(row: Row) -> str:
    return answer_of(row)["content"].strip()


def _few(values: Iterable[str]) -> bool:
    """Whether they are few, short, and each is given many times. Stops at the first sign not."""
    counts = Counter[str]()
    for value in values:
        counts[value] += 1
        if len(value) > CLASS_MAX_CHARS or len(counts) > MAX_CLASSES:
            return False
    return len(counts) > 1 and counts.total() / len(counts) >= CLASS_MIN_ROWS


def _class_key(rows: Sequence[Row]) -> str | None:
    """The key with the fewest values among those that are in every answer, the first of equals."""
    found: dict[str, Counter[str]] = {}
    for i, row in enumerate(rows):
        value = json_of(_text(row))
        if not isinstance(value, dict):
            return None
        texts = {key: each for key, each in value.items() if _names_class(each)}
        if i == 0:
            found = {key: Counter() for key in texts}
        for key in [*found]:
            if key not in texts:
                del found[key]
                continue
            found[key][texts[key]] += 1
            if len(found[key]) > MAX_CLASSES:
                del found[key]
        if not found:
            return None
    usable = [
        (len(counts), key)
        for key, counts in found.items()
        if len(counts) > 1 and counts.total() / len(counts) >= CLASS_MIN_ROWS
    ]
    return min(usable, key=lambda one: one[0])[1] if usable else None


def _names_class(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= CLASS_MAX_CHARS


def _field(row: Row, key: str) -> str:
    value = json_of(_text(row))
    return str(value[key]) if isinstance(value, dict) else ""
