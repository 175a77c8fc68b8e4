"""What the pinned vLLM applies of an adapter. Read in its source; a test compares the table."""

from collections.abc import Mapping
from types import MappingProxyType

_BOTH = frozenset({"embed_tokens", "lm_head"})

EMBEDDING_LORA: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "CohereForCausalLM": frozenset({"embed_tokens"}),
        "Cohere2ForCausalLM": frozenset({"embed_tokens"}),
        "ExaoneForCausalLM": frozenset({"wte", "lm_head"}),
        **dict.fromkeys(
            (
                "ApertusForCausalLM",
                "DeciLMForCausalLM",
                "Ernie4_5ForCausalLM",
                "Exaone4ForCausalLM",
                "ExaoneMoEForCausalLM",
                "ExaoneMoeForCausalLM",
                "FalconH1ForCausalLM",
                "GraniteForCausalLM",
                "GraniteMoeForCausalLM",
                "GraniteMoeHybridForCausalLM",
                "GraniteMoeSWAForCausalLM",
                "GraniteMoeSharedForCausalLM",
                "GraniteSWAForCausalLM",
                "HyperCLOVAXForCausalLM",
                "IQuestCoderForCausalLM",
                "InternLM3ForCausalLM",
                "JambaForCausalLM",
                "K2HorizonForCausalLM",
                "LLaMAForCausalLM",
                "Lfm2ForCausalLM",
                "Lfm2MoeForCausalLM",
                "Llama4ForCausalLM",
                "LlamaForCausalLM",
                "MiniCPM3ForCausalLM",
                "MiniCPMForCausalLM",
                "MixtralForCausalLM",
                "NemotronForCausalLM",
                "NemotronHForCausalLM",
                "NemotronHPuzzleForCausalLM",
                "Param2MoEForCausalLM",
                "Phi3ForCausalLM",
                "PhiMoEForCausalLM",
                "Qwen3ForCausalLM",
                "Qwen3MoeForCausalLM",
                "Qwen3_5ForCausalLM",
                "Qwen3_5MoeForCausalLM",
                "SolarForCausalLM",
                "TeleChat2ForCausalLM",
                "TeleChat3ForCausalLM",
                "TeleFLMForCausalLM",
            ),
            _BOTH,
        ),
    }
)
"""Architecture -> the embedding modules that take LoRA; an architecture not named takes none.

In vLLM these are a model's `embedding_modules`. Tying changes nothing: the delta of `lm_head` is
added to the logits and that of `embed_tokens` to the embeddings, each from its own tensors.
"""

PLAIN_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica", "lora_ga"})
"""Texts of `init_lora_weights` that leave the base alone (vLLM: `_init_is_supported`)."""
