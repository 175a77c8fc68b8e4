"""Rows with planted copies and near-copies, and with twins that only look like ones."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_SYLLABLES = (
    *("ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu"),
    *("va", "we", "xi", "yo", "za", "bren", "crol", "stim", "flan"),
)
_PATTERNS = (
    "play {name} by {other} on the speaker in the {noun}",
    "what is the weather in {name} near {other} on {noun} day",
    "book a table for {number} at {name} in {other}",
    "add {name} to my {noun} list beside {other}",
    "how do I {verb} the {noun} of my {other} account",
    "remind me to {verb} {name} at {number} near the {noun}",
    "find the cheapest {noun} from {name} to {other}",
    "give {number} points to the {noun} called {name} {other}",
)
_LONG_EVERY = 5
"""One row in so many is a long text."""


@dataclass(frozen=True)
class Planted:
    """kind: what was done to the row `origin`. row: where it stands; both count from 0."""

    kind: str
    row: int
    origin: int


@dataclass
class Made:
    """The files' rows, and what is known of them. The last `held_out` rows are the test file's."""

    texts: list[str]
    answers: list[str]
    planted: list[Planted]
    held_out: int


Change = Callable[[list[str], random.Random, "Words"], list[str]]


class Words:
    """Words that no language has, common ones more often than rare ones."""

    def __init__(self, draw: random.Random) -> None:
        self.nouns = _distinct(draw, 2000, 2)
        self.names = _distinct(draw, 30_000, 3)
        self.slots = frozenset(self.names)
        self._weights = [1 / (i + 3) for i in range(len(self.nouns))]

    def sentence(self, draw: random.Random, words: int) -> list[str]:
        return draw.choices(self.nouns, self._weights, k=words)


def _distinct(draw: random.Random, count: int, syllables: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        # A last consonant keeps plurals apart from other words.
        word = "".join(draw.choices(_SYLLABLES, k=syllables)) + draw.choice("kmrt")
        found[word] = None
    return [*found]


def _copy(words: list[str], _draw: random.Random, _words: Words) -> list[str]:
    return list(words)


def _restyled(words: list[str], draw: random.Random, _words: Words) -> list[str]:
    shown = [word.upper() if draw.random() < 0.3 else word for word in words]
    return [*shown[:-1], shown[-1] + draw.choice("?!.")]


def _polite(words: list[str], draw: random.Random, _words: Words) -> list[str]:
    return draw.choice((["please", *words], ["can", "you", *words], [*words, "thanks"]))


def _mistyped(words: list[str], draw: random.Random, _words: Words) -> list[str]:
    """A letter is missing inside a word of five letters or more."""
    i = draw.choice([j for j, word in enumerate(words) if len(word) >= 5])
    cut = draw.randrange(1, len(words[i]) - 1)
    return [*words[:i], words[i][:cut] + words[i][cut + 1 :], *words[i + 1 :]]


def _edited(words: list[str], draw: random.Random, known: Words) -> list[str]:
    """A long text with two words in a hundred changed."""
    made = list(words)
    for _ in range(max(1, len(words) // 50)):
        made[draw.randrange(len(made))] = draw.choice(known.nouns[:300])
    return made


def _other_slot(words: list[str], draw: random.Random, known: Words) -> list[str]:
    slots = [i for i, word in enumerate(words) if word in known.slots]
    i = draw.choice(slots or [len(words) - 1])
    return [*words[:i], draw.choice(known.names), *words[i + 1 :]]


def _other_number(words: list[str], draw: random.Random, _words: Words) -> list[str]:
    return [*words, "number", str(draw.randrange(10, 99))]


SHORT: dict[str, Change] = {
    "copy": _copy,
    "case and punctuation": _restyled,
    "politeness": _polite,
    "typing error": _mistyped,
}
LONG: dict[str, Change] = {"copy, long": _copy, "edited, long": _edited}
TWINS: dict[str, Change] = {"twin: other name": _other_slot, "twin: other number": _other_number}


def make(count: int, *, share: float = 0.01, held_out: float = 0.1, seed: int = 0) -> Made:
    """`count` rows, of which `share` is planted for each kind, a tenth of them in the test file."""
    draw = random.Random(seed)
    known = Words(draw)
    kinds = {**SHORT, **LONG, **TWINS}
    each = int(count * share)
    originals = _originals(count - each * len(kinds), draw, known)
    rows = list(originals)
    planted: list[tuple[str, int, list[str]]] = []
    for kind, change in kinds.items():
        long = kind in LONG
        fitting = [i for i in range(len(originals)) if (i % _LONG_EVERY == 0) == long]
        for origin in draw.sample(fitting, each):
            planted.append((kind, origin, change(originals[origin], draw, known)))
    draw.shuffle(planted)
    rows += [words for _, _, words in planted]
    notes = [
        Planted(kind, len(originals) + i, origin) for i, (kind, origin, _) in enumerate(planted)
    ]
    answers = [f"class {i % 40}" for i in range(len(originals))]
    answers += [answers[origin] for _, origin, _ in planted]
    return Made([" ".join(words) for words in rows], answers, notes, int(count * held_out))


def _originals(count: int, draw: random.Random, known: Words) -> list[list[str]]:
    found: dict[str, list[str]] = {}
    while len(found) < count:
        words = (
            known.sentence(draw, draw.randrange(60, 200))
            if len(found) % _LONG_EVERY == 0
            else _short(draw, known)
        )
        found.setdefault(" ".join(words), words)
    return [*found.values()]


def _short(draw: random.Random, known: Words) -> list[str]:
    text = draw.choice(_PATTERNS).format(
        name=draw.choice(known.names),
        other=draw.choice(known.names),
        noun=draw.choice(known.nouns),
        verb=draw.choice(known.nouns),
        number=draw.randrange(2, 60),
    )
    return text.split()


def write(made: Made, folder: Path) -> tuple[Path, Path]:
    """The rows as two JSONL files: what is learned, and what is held out."""
    learned, held_out = folder / "train.jsonl", folder / "test.jsonl"
    border = len(made.texts) - made.held_out
    for path, first, last in ((learned, 0, border), (held_out, border, len(made.texts))):
        with path.open("w", encoding="utf-8") as file:
            for text, answer in zip(made.texts[first:last], made.answers[first:last], strict=True):
                file.write(json.dumps({"prompt": text, "completion": answer}) + "\n")
    return learned, held_out
