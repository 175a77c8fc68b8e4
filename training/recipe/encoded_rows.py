"""The rows as the model will see them: what is wrong with them, and how long they are."""

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from training.data.rows import Chat, Kind, Preference, Row
from training.encoding import (
    IGNORED,
    Example,
    Learn,
    PreferenceExample,
    encode_each,
    encode_each_preference,
)
from training.errors import DataError
from training.recipe.memory import Longest

if TYPE_CHECKING:  # seconds to import: only a run pays for it
    from transformers import PreTrainedTokenizerBase

Encoded = Example | PreferenceExample

_SHOWN_LINES = 5
_SAMPLES = 3


@dataclass(eq=False)
class PartRows:
    """What was found of the rows of one part, `train` say.

    lengths, learned, answers: tokens of the rows that could be encoded; of a preference, of its
    longer side. faults: the lines of each fault.
    """

    name: str
    count: int = 0
    lines: "array[int]" = field(default_factory=lambda: array("q"))
    lengths: "array[int]" = field(default_factory=lambda: array("q"))
    learned: "array[int]" = field(default_factory=lambda: array("q"))
    faults: dict[str, list[int]] = field(default_factory=dict)
    samples: list[Encoded] = field(default_factory=list)

    def longest(self) -> Longest:
        """The longest row, and the most learned tokens of any."""
        return Longest(max(self.lengths, default=0), max(self.learned, default=0))

    def problems(self) -> list[str]:
        """A line for each fault."""
        return [f"{fault} ({self.where(lines)})" for fault, lines in self.faults.items()]

    def longer_than(self, limit: int) -> list[int]:
        """The lines of rows with more tokens."""
        pairs = zip(self.lines, self.lengths, strict=True)
        return [line for line, length in pairs if length > limit]

    def where(self, lines: Sequence[int]) -> str:
        """Which rows, for people."""
        if len(lines) == self.count > 1:
            return f"all {self.count} rows of {self.name}"
        more = f" and {len(lines) - _SHOWN_LINES} more" if len(lines) > _SHOWN_LINES else ""
        word = "line" if len(lines) == 1 else "lines"
        return f"{self.name}, {word} {', '.join(map(str, lines[:_SHOWN_LINES]))}{more}"


def encoded_rows(
    name: str,
    rows: Sequence[Row],
    kind: Kind,
    tokenizer: "PreTrainedTokenizerBase",
    learn: Learn,
    stops: frozenset[int],
) -> PartRows:
    """Looks at every row, one after the other; nothing but the first few is kept."""
    found = PartRows(name, count=len(rows))
    for row, made in zip(rows, _encode(rows, kind, tokenizer, learn), strict=True):
        fault = _told(made) if isinstance(made, DataError) else fault_in(made, tokenizer, stops)
        if fault is not None:
            found.faults.setdefault(fault, []).append(row.line)
        if not isinstance(made, DataError):
            _measure(found, row.line, made)
    return found


def _told(error: DataError) -> str:
    """A row's fault without its line, so that like faults are told together."""
    return f"{error.field}: {error.problem}"


def fault_in(
    made: Encoded, tokenizer: "PreTrainedTokenizerBase", stops: frozenset[int]
) -> str | None:
    """What would keep the row from teaching what it should."""
    if isinstance(made, Example):
        if all(label == IGNORED for label in made.labels):
            return "labels: all are masked, so nothing is learned of the row; check schedule.learn"
        ends = [made.labels[-1]]
    else:
        ends = [ids[-1] for ids in (made.chosen_ids, made.rejected_ids)]
    wrong = [end for end in ends if end not in stops]
    if not wrong:
        return None
    if wrong[0] == IGNORED:
        return "labels: the end of the answer is masked, so the model would never learn to stop"
    names = ", ".join(repr(tokenizer.decode([one])) for one in sorted(stops))
    return (
        f"chat_template: an answer ends with {tokenizer.decode([wrong[0]])!r}, and the model stops"
        f" only at {names}; name its id under eos_token_id in the base's generation_config.json"
    )


def stop_tokens(base: Path, tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """What ends an answer of the served model: its tokenizer's end token, and those it names."""
    file = base / "generation_config.json"
    named = json.loads(file.read_bytes()).get("eos_token_id") if file.exists() else None
    listed = named if isinstance(named, list) else [named]
    own = cast("int", tokenizer.eos_token_id)
    return frozenset([own, *(one for one in listed if isinstance(one, int))])


def _encode(
    rows: Iterable[Row], kind: Kind, tokenizer: "PreTrainedTokenizerBase", learn: Learn
) -> Iterator[Encoded | DataError]:
    if kind == "preference":
        return encode_each_preference(cast("Iterable[Preference]", rows), tokenizer)
    return encode_each(cast("Iterable[Chat]", rows), tokenizer, learn=learn)


def _measure(found: PartRows, line: int, made: Encoded) -> None:
    if isinstance(made, Example):
        length = len(made.input_ids)
        learned = length - made.labels.count(IGNORED)
    else:
        learned = max(len(made.chosen_ids), len(made.rejected_ids))
        length = len(made.prompt_ids) + learned
    found.lines.append(line)
    found.lengths.append(length)
    found.learned.append(learned)
    if len(found.samples) < _SAMPLES:
        found.samples.append(made)
