"""A row as the model sees it: its template's text, cut where learning begins and ends."""

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from training.data.rows import Preference, Row
from training.encoding import IGNORED, Learn, encode, encode_preference

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Role = Literal["read", "learned", "rejected"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of text. tokens: how many it is."""

    role: Role
    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class SeenRow:
    """line: of the row in its file."""

    line: int
    segments: tuple[Segment, ...]

    def tokens(self, role: Role) -> int:
        """How many tokens play this role."""
        return sum(one.tokens for one in self.segments if one.role == role)


def segments(row: Row, tokenizer: "PreTrainedTokenizerBase", learn: Learn = "assistant") -> SeenRow:
    """What is read and what is learned of the row. Raises DataError."""
    if isinstance(row, Preference):
        pair = encode_preference(row, tokenizer)
        runs: list[tuple[Role, list[int]]] = [
            ("read", pair.prompt_ids),
            ("learned", pair.chosen_ids),
            ("rejected", pair.rejected_ids),
        ]
    else:
        example = encode(row, tokenizer, learn=learn)
        labelled = zip(example.input_ids, example.labels, strict=True)
        runs = [
            ("read" if ignored else "learned", [token for token, _ in run])
            for ignored, run in groupby(labelled, key=lambda pair: pair[1] == IGNORED)
        ]
    return SeenRow(
        row.line,
        tuple(Segment(role, str(tokenizer.decode(ids)), len(ids)) for role, ids in runs),
    )
