"""JSON answers against JSON references, field by field."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.engines import Answer
from training.evaluation.metrics import Floats, Item, Metric
from training.evaluation.scorers.json_text import Json, NotJson, parse_json

_PARTS = ("precision", "recall", "f1")
_MOST_KEYS = 50
_Counts = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class JsonFields:
    """Precision, recall and F1 of leaf values, over all fields and for each top-level key.

    A leaf is a string, number, true, false or null at its place; it is right where the reference
    has an equal one at the same place. Objects are compared key by key. The order of a list does
    not count: each of its elements is paired with at most one of the reference's, so that most
    leaves are right. Empty objects and lists hold no leaf. An answer that is no JSON holds none
    either; an item whose reference is no JSON is left out.

    Counts are added over all items (micro). Where no leaf was answered though some were asked
    for, precision is 0.
    """

    name: str = "json_fields"

    def metrics(self, items: Sequence[Item], answers: Sequence[Answer]) -> list[Metric]:
        """`json_fields.f1` and the like; `json_fields.KEY.f1` for the 50 keys used most."""
        expected = [_parsed(item.reference) for item in items]
        found = [_parsed(answer.text) for answer in answers]
        pairs = list(zip(expected, found, strict=True))
        metrics = self._of(self.name, [_all_fields(*pair) for pair in pairs])
        for key in _keys(expected):
            metrics += self._of(f"{self.name}.{key}", [_one_field(key, *pair) for pair in pairs])
        return metrics

    def metric_names(self) -> list[str]:
        """`json_fields.f1` and the like, and `json_fields.*.f1`."""
        return [f"{self.name}{key}.{part}" for key in ("", ".*") for part in _PARTS]

    @staticmethod
    def _of(name: str, rows: list[_Counts]) -> list[Metric]:
        stats = np.array(rows, dtype=np.float64).reshape(-1, 3)
        values = {"precision": precision_of, "recall": recall_of, "f1": f1_of}
        return [
            Metric(f"{name}.{part}", "higher", stats, value_of, bounds=(0, 1))
            for part, value_of in values.items()
        ]


class _Missing:
    """Where there is no value."""


_MISSING = _Missing()


def precision_of(sums: Floats) -> Floats:
    """From sums (..., 3): leaves that are right, answered and expected."""
    right, answered, expected = sums[..., 0], sums[..., 1], sums[..., 2]
    return _share(right, np.where(answered > 0, answered, expected))


def recall_of(sums: Floats) -> Floats:
    """From sums (..., 3): leaves that are right, answered and expected."""
    return _share(sums[..., 0], sums[..., 2])


def f1_of(sums: Floats) -> Floats:
    """From sums (..., 3): leaves that are right, answered and expected."""
    return _share(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def leaves(value: Json) -> int:
    """How many leaves a value has."""
    if isinstance(value, dict):
        return sum(map(leaves, value.values()))
    if isinstance(value, list):
        return sum(map(leaves, value))
    return 1


def right_leaves(expected: Json, found: Json) -> int:
    """How many leaves of one value have an equal one in the other."""
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return 0
        return sum(
            right_leaves(value, found[key]) for key, value in expected.items() if key in found
        )
    if isinstance(expected, list):
        return _right_in_lists(expected, found) if isinstance(found, list) else 0
    return int(_same(expected, found))


def _right_in_lists(expected: list[Json], found: list[Json]) -> int:
    plain = [_plain(values) for values in (expected, found)]
    right = (Counter(plain[0]) & Counter(plain[1])).total()
    nested = [[v for v in values if isinstance(v, dict | list)] for values in (expected, found)]
    if not all(nested):
        return right
    from scipy.optimize import linear_sum_assignment

    gains = np.array([[right_leaves(one, other) for other in nested[1]] for one in nested[0]])
    rows, columns = linear_sum_assignment(gains, maximize=True)
    return right + int(gains[rows, columns].sum())


def _plain(values: list[Json]) -> list[tuple[bool, Json]]:
    """The leaves of a list, true and 1 told apart."""
    return [(isinstance(v, bool), v) for v in values if not isinstance(v, dict | list)]


def _same(expected: Json, found: Json) -> bool:
    if isinstance(found, dict | list):
        return False
    return isinstance(expected, bool) == isinstance(found, bool) and bool(expected == found)


def _parsed(text: str) -> Json | _Missing:
    try:
        return parse_json(text)
    except NotJson:
        return _MISSING


def _all_fields(expected: Json | _Missing, found: Json | _Missing) -> _Counts:
    if isinstance(expected, _Missing):
        return 0, 0, 0
    if isinstance(found, _Missing):
        return 0, 0, leaves(expected)
    return right_leaves(expected, found), leaves(found), leaves(expected)


def _one_field(key: str, expected: Json | _Missing, found: Json | _Missing) -> _Counts:
    if not isinstance(expected, dict):
        return 0, 0, 0
    inner = found.get(key, _MISSING) if isinstance(found, dict) else _MISSING
    if key in expected:
        return _all_fields(expected[key], inner)
    return 0, 0 if isinstance(inner, _Missing) else leaves(inner), 0


def _keys(expected: Sequence[Json | _Missing]) -> list[str]:
    """The top-level keys of the references that are objects, those used most, by name."""
    used = Counter(key for value in expected if isinstance(value, dict) for key in value)
    most = sorted(used, key=lambda key: (-used[key], key))[:_MOST_KEYS]
    return sorted(most)


def _share(above: Floats, below: Floats) -> Floats:
    """The quotient, NaN where there is nothing to count."""
    share: Floats = np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
    return share
