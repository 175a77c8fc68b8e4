"""One vLLM engine and what is asked of it, inside the child process. Imports vLLM."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from training.bfloat16 import cpu_has_bfloat16
from training.data.rows import Chat, Message
from training.encoding import IGNORED, encode
from training.errors import EvaluationError

if TYPE_CHECKING:  # vLLM takes many seconds to import
    from transformers import PretrainedConfig
    from vllm import LLM, RequestOutput, SamplingParams
    from vllm.lora.request import LoRARequest

Say = Callable[[int, int], None]
"""Told how many of how many are done."""
Adapter = Mapping[str, str] | None
"""`{"name", "path"}`; None for the base alone."""

# The ranks that vLLM's kernels are laid out for.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_ADAPTERS_IN_MEMORY = 4
_USUAL_CONTEXT = 8192
_SEQUENCES_PER_CORE = 16
_MOST_SEQUENCES = 256
# The cache is sized for sequences of this length; longer ones wait for room.
_USUAL_TOKENS = 512
_MOST_KV_BYTES = 2 * 2**30
# vLLM counts the cache in blocks of up to 256 tokens, and keeps one to itself.
_BLOCKS_MARGIN_TOKENS = 2 * 256

# What vLLM says, and what it means to the person who waits for an evaluation.
_MEANINGS = (
    (
        r"libnuma\.so\.1",
        "vLLM's CPU build needs the library libnuma.so.1: apt-get install libnuma1",
    ),
    (r"No module named '?vllm", "vLLM is not installed: pip install 'loraplex[cpu]' or [cuda]"),
    (
        r"CUDA out of memory|No available memory for the cache blocks|Free memory on device",
        "not enough GPU memory: stop what else runs there, or ask a running gateway instead",
    ),
    (
        r"less than requested memory for kv|can't allocate memory|Cannot allocate memory|bad_alloc",
        "not enough memory: stop something else that takes it",
    ),
    (
        r"longer than the maximum model length|exceeds? the (?:model's )?maximum|maximum context",
        "a prompt is longer than the engine's context (--max-model-len)",
    ),
)


def in_words(error: BaseException) -> str:
    """Why vLLM failed, in one or two sentences."""
    said = " ".join(str(error).split()) or type(error).__name__
    for pattern, meaning in _MEANINGS:
        if re.search(pattern, said):
            return f"{meaning} (vLLM: {said[:300]})"
    return said[:600]


class Session:
    """A started engine."""

    def __init__(self, llm: "LLM", facts: Mapping[str, object]) -> None:
        self.facts = facts
        """What was chosen: device, dtype, max_model_len."""
        self._llm = llm
        self._ids: dict[tuple[str, str], int] = {}

    @classmethod
    def start(cls, options: Mapping[str, Any]) -> "Session":
        """Loads the model. options: base, max_rank, max_model_len, dtype."""
        base = options["base"]
        if not (Path(base) / "config.json").is_file():
            raise EvaluationError(f"{base} has no config.json; name the folder of a model")
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        chosen = _choices(config, options)
        from vllm import LLM

        llm = LLM(
            model=base,
            enable_lora=True,  # for the base alone too: its kernels are those that serve
            max_lora_rank=served_rank(options["max_rank"]),
            max_loras=1,
            max_cpu_loras=_ADAPTERS_IN_MEMORY,
            seed=0,
            **chosen,
        )
        model = llm.llm_engine.model_config
        facts = {
            "device": "cpu" if on_cpu() else "cuda",
            "dtype": str(model.dtype).removeprefix("torch."),
            "max_model_len": model.max_model_len,
        }
        return cls(llm, facts)

    def generate(
        self, prompts: Sequence[list[Message]], max_tokens: int, adapter: Adapter, say: Say
    ) -> list[object]:
        """Greedy answers, with the model's own defaults in all but temperature."""
        params = self._llm.get_default_sampling_params()
        params.temperature, params.max_tokens = 0.0, max_tokens
        ids = self._llm.enqueue_chat(
            prompts,  # type: ignore[arg-type]  # plain messages are OpenAI's
            params,
            use_tqdm=False,
            lora_request=self._lora(adapter),
        )
        found = {}
        for answer in self._run():
            found[answer.request_id] = answer
            say(len(found), len(ids))
        return [_answer(found[number]) for number in sorted(found, key=int)]

    def score(
        self, rows: Sequence[tuple[list[Message], str]], adapter: Adapter, say: Say
    ) -> list[object]:
        """[log-probability, tokens] of each answer with its end of turn, as training learns it."""
        tokenizer = self._llm.get_tokenizer()
        sequences = []
        for number, (prompt, answer) in enumerate(rows):
            turn = {"role": "assistant", "content": answer}
            row = encode(Chat(number, tuple(prompt), turn), tokenizer, learn="last")  # type: ignore[arg-type]
            start = next(i for i, label in enumerate(row.labels) if label != IGNORED)
            sequences.append((row.input_ids[:start], row.input_ids[start:]))
        each = self.log_probs(sequences, adapter, say)
        return [[sum(values), len(values)] for values in each]

    def log_probs(
        self, sequences: Sequence[tuple[list[int], list[int]]], adapter: Adapter, say: Say
    ) -> list[list[float]]:
        """Of each token of the second parts, given all before it."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
        found: list[list[float]] = []
        # Two sequences of one batch with prompt log-probabilities end vLLM 0.32's CPU engine.
        size = 1 if on_cpu() else 64
        for start in range(0, len(sequences), size):
            part = sequences[start : start + size]
            found += self._log_probs_of(part, params, adapter)
            say(len(found), len(sequences))
        return found

    def _log_probs_of(
        self,
        sequences: Sequence[tuple[list[int], list[int]]],
        params: "SamplingParams",
        adapter: Adapter,
    ) -> list[list[float]]:
        from vllm import TokensPrompt

        answers = self._llm.generate(
            [TokensPrompt(prompt_token_ids=[*prompt, *tokens]) for prompt, tokens in sequences],
            params,
            use_tqdm=False,
            lora_request=self._lora(adapter),
        )
        return [
            _from(answer, len(prompt))
            for answer, (prompt, _) in zip(answers, sequences, strict=True)
        ]

    def _run(self) -> Iterator["RequestOutput"]:
        engine = self._llm.llm_engine
        while engine.has_unfinished_requests():
            for answer in engine.step():
                if answer.finished:
                    yield cast("RequestOutput", answer)

    def _lora(self, adapter: Adapter) -> "LoRARequest | None":
        """Its number and name are those of its content and path: nothing is served stale."""
        from vllm.lora.request import LoRARequest

        if adapter is None:
            return None
        key = (adapter["name"], adapter["path"])
        number = self._ids.setdefault(key, len(self._ids) + 1)
        return LoRARequest(f"{number}:{adapter['name']}", number, adapter["path"])


def served_rank(rank: int) -> int:
    """The least rank that vLLM can be started with and that takes an adapter of `rank`."""
    return next((each for each in _RANKS if each >= rank), rank)


def on_cpu() -> bool:
    """Whether the installed vLLM computes on the CPU."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def _choices(config: "PretrainedConfig", options: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes and arithmetic; on the CPU as the gateway chooses them for its engine."""
    text = config.get_text_config()
    longest = getattr(text, "max_position_embeddings", None) or _USUAL_CONTEXT
    length = min(options["max_model_len"] or _USUAL_CONTEXT, longest)
    if not on_cpu():
        return {"max_model_len": length, "dtype": options["dtype"]}
    dtype = _cpu_dtype(config, options["dtype"])
    sequences = min(_MOST_SEQUENCES, _SEQUENCES_PER_CORE * len(os.sched_getaffinity(0)))
    per_token = _kv_bytes_per_token(text, dtype)
    usual = min(sequences * _USUAL_TOKENS * per_token, _MOST_KV_BYTES)
    return {
        "max_model_len": length,
        "dtype": dtype,
        "max_num_seqs": sequences,
        "kv_cache_memory_bytes": max(usual, (length + _BLOCKS_MARGIN_TOKENS) * per_token),
    }


def _cpu_dtype(config: "PretrainedConfig", wanted: str) -> str:
    if wanted != "auto" or getattr(config, "quantization_config", None):
        return wanted
    return "bfloat16" if cpu_has_bfloat16() else "float32"


def _kv_bytes_per_token(text: "PretrainedConfig", dtype: str) -> int:
    """Keys and values of one token in all layers."""
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * size * (4 if dtype == "float32" else 2))


def _answer(output: "RequestOutput") -> object:
    """As the parent reads it."""
    first = output.outputs[0]
    return {
        "text": first.text,
        "prompt_ids": list(output.prompt_token_ids or ()),
        "token_ids": list(first.token_ids),
        "stopped": first.finish_reason == "stop",
    }


def _from(output: "RequestOutput", start: int) -> list[float]:
    """The prompt's log-probabilities from a token on."""
    assert output.prompt_logprobs is not None
    assert output.prompt_token_ids is not None
    pairs = zip(output.prompt_token_ids, output.prompt_logprobs, strict=True)
    return [known[token].logprob for token, known in list(pairs)[start:] if known is not None]
