"""Rows made up for tests: requests to a voice assistant, and what they mean."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

from training.data.rows import Chat, Row
from training.data.split_folder import as_object

CITIES = ("Berlin", "Lisbon", "Oslo", "Quito", "Tunis", "Delhi", "Kyoto", "Cairo", "Lima", "Perth")
ARTISTS = ("Adele", "Prince", "Bowie", "Madonna", "Sade", "Queen", "Muse", "Blur", "Pulp", "Oasis")
BOOKS = ("Emma", "Ulysses", "Dracula", "Walden", "Beloved", "Dubliners", "Persuasion", "Kim")


def chat(line: int, prompt: str, answer: str, label: str | None = None) -> Chat:
    """A row with one turn."""
    return Chat(
        line,
        ({"role": "user", "content": prompt},),
        {"role": "assistant", "content": answer},
        label,
    )


def requests(count: int, seed: int = 0) -> list[Chat]:
    """Rows of three kinds, all different, each answered by its intent and slots as JSON."""
    draw = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        prompt, intent, slots = _request(draw)
        found.setdefault(prompt, json.dumps({"intent": intent, "slots": slots}))
    return [chat(i, *row) for i, row in enumerate(found.items(), start=1)]


def _request(draw: random.Random) -> tuple[str, str, dict[str, str]]:
    city, artist, book = draw.choice(CITIES), draw.choice(ARTISTS), draw.choice(BOOKS)
    number, year = str(draw.randrange(1, 60)), str(draw.randrange(1950, 2020))
    return draw.choice(
        (
            (
                f"will it rain in {city} in {number} hours",
                "Weather",
                {"city": city, "hours": number},
            ),
            (f"play something by {artist} from {year}", "Music", {"artist": artist, "year": year}),
            (f"give {number} points to {book} of {year}", "Rate", {"book": book, "points": number}),
        )
    )


def shuffled_answers(rows: Sequence[Chat], seed: int = 0) -> list[Chat]:
    """The same inputs with the answers of other rows."""
    answers = [row.answer for row in rows]
    random.Random(seed).shuffle(answers)
    return [Chat(row.line, row.prompt, answer) for row, answer in zip(rows, answers, strict=True)]


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    """`rows` as JSONL."""
    path.write_text("".join(json.dumps(as_object(row)) + "\n" for row in rows), encoding="utf-8")
    return path
