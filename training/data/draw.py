"""Which rows to take when not all are wanted: evenly from all classes, the same ones each time."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib.resources import as_file, files

from training.data.classes import classes_of
from training.data.readers import read_rows
from training.data.rows import Chat, Row
from training.data.splits import rank_of
from training.errors import TrainingError


def draw(rows: Sequence[Row], limit: int) -> list[Row]:
    """At most `limit` rows, in their order: from each class in turn the next by rank."""
    if len(rows) <= limit:
        return list(rows)
    queues: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for i, (row, name) in enumerate(zip(rows, classes_of(rows).of, strict=True)):
        queues[name or ""].append((rank_of(row), i))
    turns = sorted(
        (turn, rank, i) for queue in queues.values() for turn, (rank, i) in enumerate(sorted(queue))
    )
    return [rows[i] for i in sorted(i for _, _, i in turns[:limit])]


def generic_rows() -> list[Chat]:
    """Instructions of all kinds, short and right, that keep a model what it was (`replay`)."""
    with as_file(files("training.data") / "replay.jsonl") as path:
        return [row for row in read_rows(path).rows if isinstance(row, Chat)]


def mix_in_replay(
    rows: Sequence[Row], share: float, fits: Callable[[Row], bool] = lambda _: True
) -> list[Row]:
    """`rows` and so many generic ones behind them that these are `share` of all.

    They are drawn by rank among those that fit; where more are wanted than there are, they come
    again. Raises TrainingError where none fits.
    """
    wanted = round(len(rows) * share / (1 - share))
    ranked = sorted(filter(fits, generic_rows()), key=rank_of)
    if not ranked:
        raise TrainingError(
            "data.replay: no generic row fits the base's template and schedule.max_tokens; raise"
            " schedule.max_tokens, or set data.replay to 0"
        )
    return [*rows, *(ranked[i % len(ranked)] for i in range(wanted))]
