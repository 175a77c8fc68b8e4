"""Which items a person should look at: where the models answered differently, mistakes first."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from training.evaluation.results import Example

Kind = Literal["broken", "wrong", "mended", "right"]


@dataclass(frozen=True, slots=True)
class Shown:
    """An item with what came of it.

    kind: `broken`: the candidate is wrong where another model was right; `wrong`: wrong as others;
    `mended`: right where another was wrong; `right`. right: the models that gave the reference.
    """

    example: Example
    kind: Kind
    right: frozenset[str]


def differing(examples: Sequence[Example], most: int = 24) -> list[Shown]:
    """At most so many items whose answers differ: the candidate's mistakes first, the same each
    time. Of an item whose answers are all alike there is nothing to compare, and a general
    instruction has no one right answer.
    """
    found = [_shown(one) for one in examples if one.suite != "general" and _differs(one)]
    order: tuple[Kind, ...] = ("broken", "wrong", "mended", "right")
    by_kind = {kind: sorted((s for s in found if s.kind == kind), key=_lot) for kind in order}
    shares = _shares([len(by_kind[kind]) for kind in order], most)
    return [
        shown for kind, share in zip(order, shares, strict=True) for shown in by_kind[kind][:share]
    ]


def _shares(sizes: Sequence[int], most: int) -> list[int]:
    """How many of each group: a quarter each, and what a small one leaves goes to the others."""
    shares = [0] * len(sizes)
    while sum(shares) < min(most, sum(sizes)):
        for i, size in enumerate(sizes):
            if shares[i] < size and sum(shares) < most:
                shares[i] += 1
    return shares


def _differs(example: Example) -> bool:
    return len({answer.strip() for answer in example.answers.values()}) > 1


def _shown(example: Example) -> Shown:
    answers = example.answers.items()
    right = frozenset(name for name, answer in answers if same(answer, example.reference))
    others = set(example.answers) - {"candidate"}
    if "candidate" in right:
        return Shown(example, "right" if others <= right else "mended", right)
    return Shown(example, "broken" if others & right else "wrong", right)


def same(answer: str, reference: str) -> bool:
    """Whether an answer is the reference: word for word, or the same JSON."""
    if answer.strip() == reference.strip():
        return True
    try:
        return bool(json.loads(answer) == json.loads(reference))
    except ValueError:
        return False


def _lot(shown: Shown) -> str:
    """A fixed draw that has nothing to do with the items' order."""
    example = shown.example
    return hashlib.sha256(f"{example.suite} {example.id}".encode()).hexdigest()
