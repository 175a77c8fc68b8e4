"""Which request fields may pass, within which bounds, and which are the gateway's own to set.

Every field that the pinned vLLM knows has a rule here, and a test fails where one has none. Fields
that vLLM does not know go on untouched: OpenAI's clients send some, and vLLM ignores them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway import bounds
from gateway.config import Limits
from gateway.content import conversation
from gateway.errors import BadRequest
from gateway.routes import Route


@dataclass(frozen=True, slots=True)
class Passed:
    """Goes on as it came; what is wrong with it, vLLM refuses."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """Goes on if the check does not raise."""

    check: bounds.Check


@dataclass(frozen=True, slots=True)
class Own:
    """The client's value is dropped: the gateway sets the field, or leaves it out."""


@dataclass(frozen=True, slots=True)
class Refused:
    """May only be left out, null, or what vLLM takes for granted."""

    why: str
    default: object = None


Rule = Passed | Bounded | Own | Refused
Rules = Mapping[str, Rule]


def check(route: Route, body: Mapping[str, Any], limits: Limits) -> None:
    """Raises BadRequest, its param the field, for a field that is refused or out of bounds."""
    checked = _CHECKED[route]
    for field, value in body.items():
        rule = checked.get(field)
        if rule is None or value is None:
            continue
        if isinstance(rule, Bounded):
            rule.check(field, value, limits)
        elif value != rule.default:
            raise BadRequest(f"`{field}` is not taken: {rule.why}.", param=field)
    if route is Route.COMPLETIONS:
        bounds.completions_batch(body, limits)
        if body.get("echo") and body.get("logprobs") is not None:
            raise BadRequest(
                f"`echo` is not taken with `logprobs`: {_PROMPT_LOGPROBS}.", param="echo"
            )


def own_fields(route: Route) -> frozenset[str]:
    """The fields that the gateway takes out of a client's body."""
    return _OWN[route]


def fixed_fields(route: Route) -> Mapping[str, Any]:
    """Those of its own fields that the gateway sets to the same value in every request."""
    return _FIXED.get(route, _NOTHING)


def rules(route: Route) -> Rules:
    """The rule of every field that vLLM knows on this route, and of some that only clients know."""
    return _RULES[route]


def _all(rule: Rule, *fields: str) -> dict[str, Rule]:
    return dict.fromkeys(fields, rule)


_MAX_TOKENS = Bounded(bounds.integer(lambda limits: limits.max_tokens))
_LOGPROBS = Bounded(bounds.integer(lambda limits: limits.logprobs))
_TOKEN_IDS = Bounded(bounds.entries(lambda limits: limits.logit_bias))
_STOP = Bounded(bounds.strings(lambda limits: limits.stop))
_WORDS = Bounded(bounds.strings(lambda limits: limits.logit_bias))
_CONSTRAINT = Bounded(bounds.constraint)
_TOOLS = Bounded(bounds.tools)
_CONVERSATION = Bounded(conversation)

# vLLM 0.32 with adapters on mixes up rows where two sequences of a batch want them, and dies of it.
_PROMPT_LOGPROBS = "log-probabilities of the prompt can end the engine for everyone"
_STATELESS = "responses are stateless here; send the whole conversation as `input`"
_TRANSFER = "it moves caches between engines, which is not the caller's to do"
_MEDIA = "how media are read is set by the server"
_CONNECT = "the gateway opens no connection that a request names"

_EVERYWHERE: Rules = {
    **_all(Own(), "model", "cache_salt", "request_id", "priority", "session_id", "chat_template"),
    "chat_template_kwargs": Bounded(bounds.template_arguments),
}

# What chat, completions, responses and messages share.
_GENERATING: Rules = {
    **_EVERYWHERE,
    **_all(Passed(), "temperature", "top_p", "top_k", "watermarking"),
    "stream": Bounded(bounds.boolean),
    "metadata": Bounded(bounds.metadata),
    "user": Bounded(bounds.user),
    **_all(Refused(_TRANSFER), "kv_transfer_params", "ec_transfer_params"),
    "vllm_xargs": Refused("it steers extensions of the engine"),
    "mm_payload": Refused(_MEDIA, default="tensors"),
    "return_mm_kwargs": Refused(_MEDIA),
}

# What chat, completions and responses share.
_OPENAI: Rules = {
    **_GENERATING,
    **_all(
        Passed(),
        *("min_p", "seed", "frequency_penalty", "presence_penalty", "repetition_penalty"),
        *("ignore_eos", "include_stop_str_in_output", "skip_special_tokens"),
    ),
    "stop": _STOP,
    "stop_token_ids": _TOKEN_IDS,
    "logit_bias": Bounded(bounds.mapping(lambda limits: limits.logit_bias)),
    "structured_outputs": _CONSTRAINT,
}

# What chat and completions share.
_COMPLETING: Rules = {
    **_OPENAI,
    **_all(
        Passed(),
        *("length_penalty", "use_beam_search", "add_special_tokens"),
        *("spaces_between_special_tokens", "stream_interval", "thinking_token_budget"),
        *("truncate_prompt_tokens", "truncation_side"),
        *("return_token_ids", "return_token_offsets", "return_tokens_as_token_ids"),
    ),
    # With `use_beam_search`, `n` is the beam's width.
    **_all(Bounded(bounds.integer(lambda limits: limits.n, low=1)), "n", "best_of"),
    **_all(_MAX_TOKENS, "max_tokens", "min_tokens"),
    "prompt_logprobs": Refused(_PROMPT_LOGPROBS),
    **_all(_TOKEN_IDS, "logprob_token_ids", "allowed_token_ids"),
    "bad_words": _WORDS,
    "response_format": _CONSTRAINT,
    "stream_options": Bounded(bounds.stream_options),
    "repetition_detection": Bounded(bounds.repetition_detection),
    "routed_experts_prompt_start": Refused("it is for inspecting the engine", default=0),
}

_CHAT: Rules = {
    **_COMPLETING,
    "echo": Refused(_PROMPT_LOGPROBS, default=False),  # vLLM takes it for a wish for them.
    **_all(
        Passed(),
        *("logprobs", "tool_choice", "parallel_tool_calls", "reasoning_effort"),
        *("include_reasoning", "add_generation_prompt", "continue_final_message"),
        *("documents", "return_prompt_text"),
    ),
    "messages": _CONVERSATION,
    "max_completion_tokens": _MAX_TOKENS,
    "top_logprobs": _LOGPROBS,
    "tools": _TOOLS,
    **_all(Refused(_MEDIA), "media_io_kwargs", "mm_processor_kwargs"),
}

_COMPLETIONS: Rules = {
    **_COMPLETING,
    **_all(Passed(), "suffix", "echo"),
    "prompt": Bounded(bounds.prompts),
    "logprobs": _LOGPROBS,
    "prompt_embeds": Refused("tensors are not taken; send text or token ids as `prompt`"),
}

_RESPONSES: Rules = {
    **_OPENAI,
    **_all(
        Passed(),
        *("include", "instructions", "max_tool_calls", "parallel_tool_calls", "reasoning"),
        *("include_reasoning", "service_tier", "tool_choice", "truncation", "prompt_cache_key"),
        "enable_response_messages",
    ),
    "store": Own(),
    "input": _CONVERSATION,
    "max_output_tokens": _MAX_TOKENS,
    "top_logprobs": _LOGPROBS,
    "tools": Bounded(bounds.function_tools),
    "text": _CONSTRAINT,
    **_all(Refused(_MEDIA), "media_io_kwargs", "mm_processor_kwargs"),
    **_all(Refused(_STATELESS), "previous_response_id", "previous_input_messages", "conversation"),
    "background": Refused(_STATELESS, default=False),
    "prompt": Refused("no prompts are stored here; send the text as `input` or `instructions`"),
}

# What messages and the token count share.
_ANTHROPIC: Rules = {
    **_EVERYWHERE,
    **_all(Passed(), "thinking", "tool_choice"),
    **_all(_CONVERSATION, "messages", "system"),
    "tools": _TOOLS,
    "output_config": _CONSTRAINT,
    "mcp_servers": Refused(_CONNECT),
}

_MESSAGES: Rules = {
    **_GENERATING,
    **_ANTHROPIC,
    "max_tokens": _MAX_TOKENS,
    "stop_sequences": _STOP,
}

_RULES: Mapping[Route, Rules] = {
    Route.CHAT: _CHAT,
    Route.COMPLETIONS: _COMPLETIONS,
    Route.RESPONSES: _RESPONSES,
    Route.MESSAGES: _MESSAGES,
    Route.COUNT_TOKENS: _ANTHROPIC,
}
# OpenAI's clients leave `store` at its default, true; nothing is stored here.
_FIXED: Mapping[Route, Mapping[str, Any]] = {Route.RESPONSES: {"store": False}}
_NOTHING: Mapping[str, Any] = {}
_CHECKED: Mapping[Route, Mapping[str, Bounded | Refused]] = {
    route: {field: rule for field, rule in table.items() if isinstance(rule, Bounded | Refused)}
    for route, table in _RULES.items()
}
_OWN: Mapping[Route, frozenset[str]] = {
    route: frozenset(field for field, rule in table.items() if isinstance(rule, Own))
    for route, table in _RULES.items()
}
