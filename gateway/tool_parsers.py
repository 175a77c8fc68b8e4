"""Which of vLLM's tool-call parsers reads a model's tool calls. Names are vLLM 0.32's."""

from gateway.model_facts import ModelFacts

# Families whose every member writes tool calls in one way.
_BY_MODEL_TYPE = {
    "apertus": "apertus",
    "cohere2": "cohere_command3",
    "deepseek_v3": "deepseek_v3",
    "dots1": "dots",
    "ernie4_5": "ernie45",
    "ernie4_5_moe": "ernie45",
    "gemma4": "gemma4",
    "glm4_moe": "glm45",
    "gpt_oss": "openai",
    "hunyuan_v1_moe": "hunyuan_a13b",
    "internlm2": "internlm",
    "jamba": "jamba",
    "kimi_k2": "kimi_k2",
    "lfm2": "lfm2",
    "lfm2_moe": "lfm2",
    "llama4": "llama4_pythonic",
    "longcat_flash": "longcat",
    "mimo": "mimo",
    "minimax_m2": "minimax_m2",
    "olmo3": "olmo3",
    "qwen3_5": "qwen3_coder",
    "qwen3_5_moe": "qwen3_coder",
    "seed_oss": "seed_oss",
    "smollm3": "hermes",
}
# Families whose members differ; their chat template tells them apart. The first marker found wins.
_BY_TEMPLATE: dict[str, tuple[tuple[str, str], ...]] = {
    # SmolLM2, Hermes and other ChatML models have the llama architecture too.
    "llama": (
        ("<|python_tag|>", "llama3_json"),
        ("<|start_header_id|>", "llama3_json"),
        ("[TOOL_CALLS]", "mistral"),
        ("<|im_start|>", "hermes"),
    ),
    "mistral": (("[TOOL_CALLS]", "mistral"), ("<|im_start|>", "hermes")),
    "mixtral": (("[TOOL_CALLS]", "mistral"), ("<|im_start|>", "hermes")),
    "mistral3": (("[TOOL_CALLS]", "mistral"),),
    "granite": (("<tool_call>", "granite4"), ("<|tool_call|>", "granite")),
    "granitemoe": (("<tool_call>", "granite4"), ("<|tool_call|>", "granite")),
    "granitemoehybrid": (("<tool_call>", "granite4"), ("<|tool_call|>", "granite")),
    "phi3": (("<|tool|>", "phi4_mini_json"),),
    "qwen2": (("<function=", "qwen3_coder"), ("<|im_start|>", "hermes")),
    "qwen2_moe": (("<function=", "qwen3_coder"), ("<|im_start|>", "hermes")),
    "qwen3": (("<function=", "qwen3_coder"), ("<|im_start|>", "hermes")),
    "qwen3_moe": (("<function=", "qwen3_coder"), ("<|im_start|>", "hermes")),
    "qwen3_next": (("<function=", "qwen3_coder"), ("<|im_start|>", "hermes")),
}


def tool_parser(model: ModelFacts) -> str | None:
    """The parser's name, or None for a family we do not know."""
    if parser := _BY_MODEL_TYPE.get(model.model_type):
        return parser
    for marker, parser in _BY_TEMPLATE.get(model.model_type, ()):
        if marker in model.chat_template:
            return parser
    return None


def parser_names() -> frozenset[str]:
    """Every name this module may answer."""
    by_template = {parser for rules in _BY_TEMPLATE.values() for _, parser in rules}
    return frozenset(_BY_MODEL_TYPE.values()) | by_template
