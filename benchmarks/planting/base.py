"""A base model of under a million weights that can do two things: repeat a word, and chat a little.

LoRA learns next to nothing on weights of chance, so it is trained first, on one thread and from a
seed: the same model each time on one machine.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.planting.rows import WORDS
from training.data.draw import generic_rows
from training.data.rows import Chat, Message
from training.encoding import IGNORED, Example, encode

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
END, OTHER_END = "<|im_end|>", "<|endoftext|>"
_VOCABULARY = 900
_WIDTH = 128
_LAYERS = 2
_ECHO_ROWS, _GENERIC_ROWS = 32, 8
"""Of a step."""
_ODD_ROWS = 0.2
_LONGEST = 64
"""Tokens of a generic row."""


def make_base(folder: Path, steps: int) -> Path:
    """Trained from chance, saved in `folder`; 150 steps take some 10 seconds."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(1)  # the same sums in the same order, whatever the machine has

    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_WIDTH // 32,
        num_key_value_heads=_WIDTH // 32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    chance = random.Random(0)
    encoded = (encode(row, tokenizer) for row in generic_rows())
    generic = [one for one in encoded if len(one.input_ids) <= _LONGEST]
    for _ in range(steps):
        # Apart, since every row is padded to the longest of its batch.
        batches = (
            [encode(_echo(chance), tokenizer) for _ in range(_ECHO_ROWS)],
            chance.sample(generic, _GENERIC_ROWS),
        )
        optimizer.zero_grad()
        for rows in batches:
            model(**_padded(rows)).loss.backward()
        optimizer.step()
        falling.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _padded(rows: Sequence[Example]) -> "dict[str, torch.Tensor]":
    import torch

    width = max(len(row.input_ids) for row in rows)
    ids = [row.input_ids + [0] * (width - len(row.input_ids)) for row in rows]
    labels = [row.labels + [IGNORED] * (width - len(row.labels)) for row in rows]
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}


def make_tokenizer(template: str = CHATML, eos_token: str = END) -> "PreTrainedTokenizerBase":
    """Bytes, the two marks of a turn, and what is frequent in generic rows and the task's words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=["<|im_start|>", END, OTHER_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(_texts(), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner,
        eos_token=eos_token,
        pad_token=eos_token,
        chat_template=template,
    )


def _texts() -> list[str]:
    words = [f"{word} {word}" for word in WORDS] * 50
    said = [one["content"] for row in generic_rows() for one in (*row.prompt, row.answer)]
    return [*words, *said, *("system\n", "user\n", "assistant\n")]


def _echo(chance: random.Random) -> Chat:
    """Some with a system message, some with a turn before."""
    before = []
    if chance.random() < _ODD_ROWS:
        before.append({"role": "system", "content": " ".join(chance.choices(WORDS, k=4))})
    if chance.random() < _ODD_ROWS:
        before += _turn(chance)
    question, answer = _turn(chance)
    return Chat(1, (*before, question), answer)


def _turn(chance: random.Random) -> tuple[Message, Message]:
    words = chance.sample(WORDS, chance.randint(2, 5))
    return (
        {"role": "user", "content": " ".join(words)},
        {"role": "assistant", "content": words[0]},
    )
