"""Logits of a model over given tokens, and how far two models' logits are apart."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from training.merge.verification.judgement import Difference

if TYPE_CHECKING:  # seconds to import
    import torch
    from torch import nn
    from transformers import PreTrainedModel

MOST_VALUES = 32 * 2**20
"""Logits of one model that are kept, and of one batch: 128 MiB in float32."""

Sequences = Sequence[Sequence[int]]


def greedy(model: "PreTrainedModel", prompts: Sequences, tokens: int) -> list[list[int]]:
    """Each prompt with `tokens` tokens that the model itself goes on with."""
    import torch
    from transformers import GenerationConfig

    # The model's own has penalties and ends in it, which would not be plain greedy search.
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=tokens, do_sample=False, pad_token_id=0
    )
    longest = max(len(one) for one in prompts)
    padding = [longest - len(one) for one in prompts]
    device = next(model.parameters()).device
    rows = [[*[0] * pad, *one] for pad, one in zip(padding, prompts, strict=True)]
    ids = torch.tensor(rows, device=device)
    mask = (
        torch.arange(longest, device=device)[None] >= torch.tensor(padding, device=device)[:, None]
    )
    # generate is typed for models that mix it in, which every causal one does.
    found = model.generate(ids, attention_mask=mask.long())  # type: ignore[operator]
    return [row[pad:].tolist() for pad, row in zip(padding, found, strict=True)]


def logits_width(model: "PreTrainedModel") -> int:
    """How many tokens the model tells apart; its embeddings may have rows for more."""
    import torch

    one_token = torch.zeros(1, 1, dtype=torch.long, device=next(model.parameters()).device)
    width: int = model(input_ids=one_token).logits.shape[-1]
    return width


def kept_positions(sequences: Sequences, vocab_size: int) -> int:
    """How many of each sequence's last positions are compared, so that the logits fit in memory."""
    return max(1, MOST_VALUES // (vocab_size * len(sequences)))


def logits(model: "nn.Module", sequences: Sequences, vocab_size: int) -> "Iterator[torch.Tensor]":
    """Of each sequence's last positions, (positions, vocabulary), float32 on the CPU."""
    last = kept_positions(sequences, vocab_size)
    longest = max(len(one) for one in sequences)
    size = max(1, MOST_VALUES // (vocab_size * longest))
    for start in range(0, len(sequences), size):
        yield from _of_batch(model, sequences[start : start + size], last)


def _of_batch(model: "nn.Module", batch: Sequences, last: int) -> "Iterator[torch.Tensor]":
    import torch

    device = next(model.parameters()).device
    longest = max(len(one) for one in batch)
    # Padded at the end, where no token before looks.
    ids = torch.tensor([[*one, *[0] * (longest - len(one))] for one in batch], device=device)
    lengths = torch.tensor([[len(one)] for one in batch], device=device)
    mask = (torch.arange(longest, device=device)[None] < lengths).long()
    found = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    for row, one in zip(found, batch, strict=True):
        # A copy: a view would keep the whole batch.
        yield row[max(0, len(one) - last) : len(one)].to("cpu", torch.float32, copy=True)


class Gap:
    """Gathers how far apart logits are, sequence by sequence."""

    def __init__(self) -> None:
        self._largest = 0.0
        self._sum = 0.0
        self._values = 0
        self._same = 0
        self._positions = 0

    def add(self, one: "torch.Tensor", other: "torch.Tensor") -> None:
        """Two models' logits of one sequence, (positions, vocabulary)."""
        apart = (one - other).abs()
        # Some models give -Inf to tokens that cannot be.
        apart[one == other] = 0.0
        # NaN is passed on: no difference is larger.
        largest = float(apart.max())
        self._largest = largest if largest != largest else max(self._largest, largest)
        self._sum += float(apart.double().sum())
        self._values += apart.numel()
        self._same += int((one.argmax(-1) == other.argmax(-1)).sum())
        self._positions += len(one)

    @property
    def difference(self) -> Difference:
        """Of all that was added."""
        return Difference(self._largest, self._sum / self._values, self._same / self._positions)


def apart(ones: "Iterable[torch.Tensor]", others: "Iterable[torch.Tensor]") -> Difference:
    """How far two models' logits over the same sequences are apart."""
    gap = Gap()
    for one, other in zip(ones, others, strict=True):
        gap.add(one, other)
    return gap.difference
