"""The shape of the made base: Llama's, larger only by more layers; pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

ITEM_BYTES = 2
"""bfloat16's."""
RANK, ALPHA = 16, 32
EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
NORMS = ("input_layernorm", "post_attention_layernorm")
_SHARD_BYTES = 500_000_000


@dataclass(frozen=True)
class Shape:
    """Widths and the number of layers. key_value: width of keys and of values."""

    layers: int
    hidden: int = 2048
    intermediate: int = 8192
    key_value: int = 1024
    vocab: int = 32_000
    head: int = 128

    def linears(self) -> dict[str, tuple[int, int]]:
        """Of one layer: (out_features, in_features) by name."""
        wide, deep = self.hidden, self.intermediate
        return {
            "self_attn.q_proj": (wide, wide),
            "self_attn.k_proj": (self.key_value, wide),
            "self_attn.v_proj": (self.key_value, wide),
            "self_attn.o_proj": (wide, wide),
            "mlp.gate_proj": (deep, wide),
            "mlp.up_proj": (deep, wide),
            "mlp.down_proj": (wide, deep),
        }

    def modules(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """All linear layers but the head, as an all-linear adapter has them."""
        for number in range(self.layers):
            for name, size in self.linears().items():
                yield f"model.layers.{number}.{name}", size

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of each tensor, in the order of the files."""
        yield EMBEDDINGS[0], (self.vocab, self.hidden)
        for number in range(self.layers):
            for norm in NORMS:
                yield f"model.layers.{number}.{norm}.weight", (self.hidden,)
            for name, size in self.linears().items():
                yield f"model.layers.{number}.{name}.weight", size
        yield "model.norm.weight", (self.hidden,)
        yield EMBEDDINGS[1], (self.vocab, self.hidden)

    def size_bytes(self) -> int:
        """Of all tensors."""
        return sum(prod(size) for _, size in self.tensors()) * ITEM_BYTES

    def largest_bytes(self) -> int:
        """Of the largest tensor: the same for every number of layers."""
        return max(prod(size) for _, size in self.tensors()) * ITEM_BYTES

    def config(self) -> dict[str, Any]:
        """`config.json`."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.hidden // self.head,
            "num_key_value_heads": self.key_value // self.head,
            "head_dim": self.head,
            "vocab_size": self.vocab,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "dtype": "bfloat16",
        }

    def adapter_config(self, base: str) -> dict[str, Any]:
        """PEFT's `adapter_config.json`. base: the base's folder."""
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": RANK,
            "lora_alpha": ALPHA,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": sorted(name.rpartition(".")[2] for name in self.linears()),
            "inference_mode": True,
        }


TINY = Shape(layers=2, hidden=64, intermediate=128, key_value=32, vocab=512, head=16)


def shape_of(size_bytes: float) -> Shape:
    """The shape whose tensors come nearest to so many bytes; one layer at least."""
    rest = Shape(layers=0).size_bytes()
    each = Shape(layers=1).size_bytes() - rest
    return Shape(layers=max(1, round((size_bytes - rest) / each)))


def shards(
    tensors: Sequence[tuple[str, tuple[int, ...]]],
) -> list[list[tuple[str, tuple[int, ...]]]]:
    """The tensors in files of at most half a GB, three files at least where there is so much."""
    whole = sum(prod(size) for _, size in tensors) * ITEM_BYTES
    limit = min(_SHARD_BYTES, whole // 3)
    files: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    filled = 0
    for name, size in tensors:
        size_bytes = prod(size) * ITEM_BYTES
        if files[-1] and filled + size_bytes > limit:
            files.append([])
            filled = 0
        files[-1].append((name, size))
        filled += size_bytes
    return files
