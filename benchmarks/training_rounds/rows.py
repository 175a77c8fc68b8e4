"""Chats of mixed length: most are short, some are long, as in support mail."""

import random

from training.data.rows import Chat

_TEXT = """order parcel invoice refund account password delivery address late damaged missing size
colour please thanks hello question number yesterday again twice customer service answer"""
_WORDS = _TEXT.split()
_SHORT, _LONG = (12, 40), (120, 260)
_LONG_PART = 0.2
_ANSWER = (8, 40)


def mixed_rows(number: int, seed: int) -> list[Chat]:
    """So many rows; the same for the same seed."""
    chance = random.Random(seed)
    return [_row(chance, i + 1) for i in range(number)]


def _row(chance: random.Random, line: int) -> Chat:
    span = _LONG if chance.random() < _LONG_PART else _SHORT
    question = " ".join(chance.choices(_WORDS, k=chance.randint(*span)))
    answer = " ".join(chance.choices(_WORDS, k=chance.randint(*_ANSWER)))
    return Chat(
        line,
        ({"role": "user", "content": question},),
        {"role": "assistant", "content": answer},
    )
