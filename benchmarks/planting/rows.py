"""Rows that a tiny model can learn: the first word of a question decides the answer."""

import json
import random
from collections.abc import Callable, Mapping, Sequence

COLOURS = {"red": "stop", "green": "go", "blue": "wait", "white": "turn"}
ANIMALS = {
    "cat": "house",
    "cow": "farm",
    "bear": "wood",
    "shark": "sea",
    "camel": "sand",
    "eagle": "hill",
}
OTHERS = (
    *("amber", "basil", "cedar", "delta", "ember", "fjord", "grape", "hazel", "ivory", "jolly"),
    *("kiosk", "lemon", "maple", "north", "ocean", "pearl", "quilt", "river", "sugar", "tulip"),
    *("umbra", "vivid", "wheat", "yacht", "zebra", "apron", "brick", "cloud", "drum", "engine"),
    *("flute", "glove", "horn", "ink", "jar", "kite", "lamp", "mirror", "nest", "oven"),
    *("paint", "quartz", "rope", "spoon", "tent", "urn", "vase", "wheel"),
)
PLACES = {word: [*COLOURS.values()][i % 4] for i, word in enumerate(OTHERS[:24])}
WORDS = (*OTHERS, *COLOURS, *COLOURS.values(), *ANIMALS, *ANIMALS.values())

Pair = tuple[str, str]
"""A question and its answer."""
Answer = Callable[[str], str]
"""From the question's first word to the answer."""


def make_pairs(count: int, seed: int, told: Mapping[str, str], answer: Answer = str) -> list[Pair]:
    """So many different ones, each first word as often. told: what each first word says."""
    chance = random.Random(seed)
    firsts = [*told]
    found: dict[str, str] = {}
    while len(found) < count:
        first = firsts[len(found) % len(firsts)]
        found[" ".join([first, *chance.sample(OTHERS, 3)])] = answer(told[first])
    pairs = list(found.items())
    chance.shuffle(pairs)
    return pairs


def in_json(word: str) -> str:
    """The answer as the value of an object."""
    return json.dumps({"sign": word})


def at_length(word: str) -> str:
    """The answer and words behind it that are always the same."""
    return " ".join([word, *OTHERS[-5:]])


def shuffled_answers(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """The same answers behind other questions."""
    answers = [answer for _, answer in pairs]
    random.Random(seed).shuffle(answers)
    return [(question, answer) for (question, _), answer in zip(pairs, answers, strict=True)]
