"""Encoded rows as the tensors of a micro batch. Imported by a worker alone: it loads torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from training.encoding import IGNORED, Example, PreferenceExample

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Encoded:
    """All rows of a data set, encoded. Both lists are as long as there are rows.

    lengths: tokens of a row as it goes through the model. learned: what it weighs in the loss.
    """

    examples: Sequence[Example] | Sequence[PreferenceExample]
    lengths: list[int]
    learned: list[int]


def of_chats(examples: Sequence[Example]) -> Encoded:
    """A row weighs as many tokens as it learns."""
    lengths = [len(one.input_ids) for one in examples]
    learned = [sum(label != IGNORED for label in one.labels[1:]) for one in examples]
    return Encoded(examples, lengths, learned)


def of_preferences(examples: Sequence[PreferenceExample]) -> Encoded:
    """A pair weighs one; its longer answer decides its length."""
    lengths = [
        len(one.prompt_ids) + max(len(one.chosen_ids), len(one.rejected_ids)) for one in examples
    ]
    return Encoded(examples, lengths, [1] * len(examples))


def padded(examples: Sequence[Example], pad: int) -> Tensors:
    """Rows beside one another, padded on the right.

    input_ids: (rows, tokens). positions: where, in the flattened tokens, the next one is learned;
    targets: those next ones, as many. There is no mask: nothing looks to the right, so no token of
    a row sees the padding, and a causal attention without a mask takes the faster way.
    """
    width = max(len(one.input_ids) for one in examples)
    ids = [one.input_ids + [pad] * (width - len(one.input_ids)) for one in examples]
    positions, targets = _learned(examples, [row * width for row in range(len(examples))])
    return {"input_ids": torch.tensor(ids), "positions": positions, "targets": targets}


def packed(examples: Sequence[Example]) -> Tensors:
    """Rows behind one another, as one; `position_ids` begin anew with each and keep them apart."""
    starts: list[int] = []
    ids: list[int] = []
    places: list[int] = []
    for one in examples:
        starts.append(len(ids))
        ids.extend(one.input_ids)
        places.extend(range(len(one.input_ids)))
    positions, targets = _learned(examples, starts)
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([places]),
        "positions": positions,
        "targets": targets,
    }


def pairs(examples: Sequence[PreferenceExample], pad: int) -> Tensors:
    """The better answers, then the worse ones, each behind its prompt, as TRL's DPO wants them."""
    rows = [(one.prompt_ids, one.chosen_ids) for one in examples]
    rows += [(one.prompt_ids, one.rejected_ids) for one in examples]
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids, seen, learned = [], [], []
    for prompt, answer in rows:
        rest = width - len(prompt) - len(answer)
        ids.append(prompt + answer + [pad] * rest)
        seen.append([1] * (width - rest) + [0] * rest)
        learned.append([0] * len(prompt) + [1] * len(answer) + [0] * rest)
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": torch.tensor(seen),
        "completion_mask": torch.tensor(learned),
    }


def _learned(
    examples: Sequence[Example], starts: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    positions, targets = [], []
    for start, one in zip(starts, examples, strict=True):
        for place, label in enumerate(one.labels[1:]):
            if label != IGNORED:
                positions.append(start + place)
                targets.append(label)
    return torch.tensor(positions, dtype=torch.long), torch.tensor(targets, dtype=torch.long)
