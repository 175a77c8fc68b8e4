"""From rows of a data file to the items that answers are held against."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence

from training.data.rows import Chat, Message, Row
from training.evaluation.metrics import Item


def sample(rows: Sequence[Row], most: int | None) -> Sequence[Row]:
    """At most so many rows, chosen by their content and in their own order.

    However a file is sorted, the choice is as good as by chance, and it is always the same.
    """
    if most is None or len(rows) <= most:
        return rows
    ranked = sorted(range(len(rows)), key=lambda i: (_digest(rows[i]), i))
    return [rows[i] for i in sorted(ranked[:most])]


def items_of(rows: Sequence[Row]) -> list[Item]:
    """The items, with ids that are unique: the row's line, marked where lines repeat."""
    seen: Counter[str] = Counter()
    items = []
    for row, reference in zip(rows, references(rows), strict=True):
        line = str(row.line)
        seen[line] += 1
        number = line if seen[line] == 1 else f"{line}.{seen[line]}"
        items.append(Item(number, prompt_text(row.prompt), reference))
    return items


def references(rows: Sequence[Row]) -> list[str]:
    """What the rows hold for right: the answer, or the better of two."""
    return [_right(row)["content"] for row in rows]


def prompt_text(prompt: Sequence[Message]) -> str:
    """A prompt for people's eyes: a lone question as it is, a conversation with its roles."""
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def _right(row: Row) -> Message:
    return row.answer if isinstance(row, Chat) else row.chosen


def _digest(row: Row) -> bytes:
    text = json.dumps([list(row.prompt), _right(row)], sort_keys=True)
    return hashlib.sha256(text.encode()).digest()
