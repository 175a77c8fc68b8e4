"""vLLM's command line and environment from the machine, the model and the settings."""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.config import Settings
from gateway.engine_flags import passed_names
from gateway.machine import Machine
from gateway.model_facts import ModelFacts
from gateway.tool_parsers import tool_parser

# What vLLM's processes take besides weights, adapters and cache (measured on the CPU build).
PROCESSES_BYTES = 2 * 2**30
_KV_LEAST_BYTES = 256 * 2**20
# The cache is sized for sequences of this many tokens; few get longer, and vLLM lets those wait.
_USUAL_TOKENS = 2048
# vLLM counts the cache in blocks of up to 256 tokens, and keeps one block to itself.
_BLOCKS_MARGIN_TOKENS = 2 * 256
# A context length is kept short enough that this many full sequences fit the cache...
_FULL_SEQUENCES = 4
# ...but not shorter than this, where one sequence fits.
_USEFUL_CONTEXT = 2048
_SEQUENCES_PER_CORE = 16
_MOST_SEQUENCES = 256
# Set by the user, vLLM's own variable for the CPU's cache wins over its flag.
_KV_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"

# Variables that would open a door the gateway keeps shut, or change what a name answers.
_REMOVED = frozenset(
    {
        "VLLM_SKIP_MODEL_NAME_VALIDATION",  # an unknown adapter would answer as the base model
        "VLLM_MODEL_REDIRECT_PATH",  # another model under the same name
        "VLLM_ENABLE_RESPONSES_API_STORE",  # any caller could read any response
        "VLLM_DISABLE_REQUEST_ID_RANDOMIZATION",
        "VLLM_LORA_RESOLVER_CACHE_DIR",  # adapters come from the registry alone
        "VLLM_LORA_RESOLVER_HF_REPO_LIST",
        "VLLM_SERVER_DEV_MODE",
        "VLLM_ALLOW_INSECURE_SERIALIZATION",
        "VLLM_API_KEY",
        "VLLM_DEBUG_LOG_API_SERVER_RESPONSE",  # answers in the logs
        "VLLM_TRACE_FUNCTION",
        "VLLM_LOGGING_CONFIG_PATH",
        "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH",  # a dead engine must exit to be started again
        "VLLM_USE_RUST_FRONTEND",
        "VLLM_PORT",
    }
)
_SET = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_DISABLE_LOG_LOGO": "1",
    "VLLM_LOGGING_LEVEL": "INFO",  # at DEBUG vLLM writes prompts
    "HF_HUB_OFFLINE": "1",  # the model is a folder by now
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision for the operator's eyes."""

    name: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class EngineLaunch:
    """How to start vLLM, and why so."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class CpuMemory:
    """How the CPU's memory is shared out."""

    kv_bytes: int
    kv_why: str
    max_model_len: int | None
    """Tokens; None where the model does not say."""


def choose_launch(
    machine: Machine,
    model: ModelFacts,
    folder: Path,
    settings: Settings,
    *,
    port: int,
    served_name: str,
    environ: Mapping[str, str],
) -> EngineLaunch:
    """vLLM on `folder`, listening on 127.0.0.1:`port`. What engine_args names is the operator's."""
    passed = passed_names(settings.engine_args)
    choices = [
        choice
        for choice in _choices(machine, model, settings, environ, passed)
        if choice.name not in passed
    ]
    argv = [sys.executable, "-W", "ignore::DeprecationWarning"]
    argv += ["-m", "vllm.entrypoints.openai.api_server"]
    argv += ["--model", str(folder), "--served-model-name", served_name]
    argv += ["--host", "127.0.0.1", "--port", str(port)]
    argv += ["--enable-lora", "--trust-request-chat-template", "--no-enable-log-requests"]
    argv += ["--max-logprobs", str(settings.limits.logprobs)]
    argv += _switches(choices, passed)
    for choice in choices:
        if choice.name != _KV_VARIABLE:
            argv += [f"--{choice.name}", choice.value]
    return EngineLaunch(
        argv=(*argv, *settings.engine_args),
        env=engine_environment(environ),
        choices=(*choices, *_passed_choices(settings)),
    )


def _choices(
    machine: Machine,
    model: ModelFacts,
    settings: Settings,
    environ: Mapping[str, str],
    passed: Iterable[str],
) -> list[Choice]:
    """Every flag with a value that was decided here."""
    dtype = choose_dtype(machine, model, settings)
    choices = [dtype, *_lora_choices(model, settings, dtype.value)]
    if machine.vllm == "cpu":
        choices += _cpu_choices(machine, model, settings, dtype.value, environ, passed)
    else:
        choices.append(_model_len(settings, "auto", "as long as fits the GPU's memory"))
    parser = _tool_parser(model, settings)
    return [*choices, parser] if parser else choices


def choose_dtype(machine: Machine, model: ModelFacts, settings: Settings) -> Choice:
    """bfloat16 where the CPU multiplies it in hardware; elsewhere it is several times slower."""
    if settings.dtype is not None:
        return Choice("dtype", settings.dtype, "set by you")
    if machine.vllm != "cpu":
        return Choice("dtype", "auto", "the model's own, on CUDA")
    if model.quantized:
        return Choice("dtype", "auto", "the model is quantized")
    if machine.bf16_flag:
        return Choice("dtype", "bfloat16", f"the CPU has {machine.bf16_flag}")
    return Choice("dtype", "float32", "the CPU has no bfloat16 instructions")


def _lora_choices(model: ModelFacts, settings: Settings, dtype: str) -> list[Choice]:
    kept = settings.max_cpu_loras
    most_bytes = kept * model.adapter_bytes(settings.max_lora_rank, dtype)
    return [
        Choice("max-lora-rank", str(settings.max_lora_rank), "highest rank of an adapter"),
        Choice("max-loras", str(settings.max_loras), "adapters in one batch"),
        Choice("max-cpu-loras", str(kept), f"adapters in memory, {_gib(most_bytes)} at most"),
    ]


def _cpu_choices(
    machine: Machine,
    model: ModelFacts,
    settings: Settings,
    dtype: str,
    environ: Mapping[str, str],
    passed: Iterable[str],
) -> list[Choice]:
    seqs = max_num_seqs(machine)
    share = share_cpu_memory(machine, model, settings, dtype, seqs)
    choices = [Choice("max-num-seqs", str(seqs), f"{_count(machine.cores, 'core')}")]
    if space := environ.get(_KV_VARIABLE):
        choices.append(Choice(_KV_VARIABLE, space, "GiB, from your environment"))
    else:
        free = _gib(machine.available_bytes)
        why = f"{_gib(share.kv_bytes)}: {share.kv_why}; {free} are free"
        choices.append(Choice("kv-cache-memory-bytes", str(share.kv_bytes), why))
    if space or "kv-cache-memory-bytes" in passed:
        choices.append(_model_len(settings, "auto", "as long as fits the KV cache"))
    elif share.max_model_len:
        whole = share.max_model_len == model.max_position
        why = "the model's own" if whole else f"of {model.max_position}, to fit the KV cache"
        choices.append(_model_len(settings, str(share.max_model_len), why))
    return choices


def max_num_seqs(machine: Machine) -> int:
    """Sequences in one batch of a CPU engine: its throughput still grows at 16 a core."""
    return min(_MOST_SEQUENCES, max(1, machine.cores) * _SEQUENCES_PER_CORE)


def share_cpu_memory(
    machine: Machine, model: ModelFacts, settings: Settings, dtype: str, seqs: int
) -> CpuMemory:
    """The KV cache gets what `seqs` usual sequences need, not what is there: minutes pass until
    vLLM takes it, and others take memory meanwhile. One sequence of the length asked for fits.
    """
    taken = (
        model.weights_in_memory_bytes(dtype)
        + PROCESSES_BYTES
        + settings.max_loras * model.adapter_bytes(settings.max_lora_rank, dtype)
    )
    per_token = model.kv_bytes_per_token(dtype)
    most = [
        (machine.available_bytes // 4, "a quarter of what is free"),
        ((machine.available_bytes - taken) // 2, "half of what weights and adapters leave free"),
    ]
    if per_token:
        length = min(_USUAL_TOKENS, settings.max_model_len or model.max_position or _USUAL_TOKENS)
        usual = f"{_count(seqs, 'sequence')} of {length} tokens"
        most.append((seqs * length * per_token, usual))
    least_len = _least_len(model, settings)
    least = [
        (_KV_LEAST_BYTES, "the least it is given"),
        (least_kv_bytes(model, settings, dtype), f"one sequence of {least_len} tokens"),
    ]
    kv_bytes, kv_why = max(min(most), *least)
    return CpuMemory(kv_bytes, kv_why, _fitting_len(model, settings, kv_bytes, per_token))


def least_kv_bytes(model: ModelFacts, settings: Settings, dtype: str) -> int:
    """One sequence of the length asked for, or of a useful length, and vLLM's own block."""
    tokens = _least_len(model, settings) + _BLOCKS_MARGIN_TOKENS
    return tokens * model.kv_bytes_per_token(dtype)


def _least_len(model: ModelFacts, settings: Settings) -> int:
    return settings.max_model_len or min(model.max_position, _USEFUL_CONTEXT)


def _fitting_len(
    model: ModelFacts, settings: Settings, kv_bytes: int, per_token: int
) -> int | None:
    if settings.max_model_len or not model.max_position or not per_token:
        return settings.max_model_len or model.max_position or None
    fitting = kv_bytes // per_token // _FULL_SEQUENCES
    rounded = max(_USEFUL_CONTEXT, fitting // 256 * 256)
    return min(model.max_position, rounded)


def _model_len(settings: Settings, value: str, why: str) -> Choice:
    if settings.max_model_len is not None:
        return Choice("max-model-len", str(settings.max_model_len), "set by you")
    return Choice("max-model-len", value, why)


def _tool_parser(model: ModelFacts, settings: Settings) -> Choice | None:
    if settings.tool_parser is not None:
        parser: str | None = None if settings.tool_parser == "none" else settings.tool_parser
        why = "set by you"
    else:
        parser, why = tool_parser(model), f"the family of {model.model_type} models"
    return Choice("tool-call-parser", parser, why) if parser else None


def _switches(choices: Iterable[Choice], passed: Iterable[str]) -> list[str]:
    """Flags without a value."""
    switches = []
    if "disable-uvicorn-access-log" not in passed:
        switches.append("--disable-uvicorn-access-log")  # the gateway writes a line a request
    parses = "tool-call-parser" in passed or any(c.name == "tool-call-parser" for c in choices)
    if parses and "enable-auto-tool-choice" not in passed:
        switches.append("--enable-auto-tool-choice")
    return switches


def _passed_choices(settings: Settings) -> list[Choice]:
    if not settings.engine_args:
        return []
    return [Choice("passed on", " ".join(settings.engine_args), "set by you")]


def own_environment() -> dict[str, str]:
    """This process's environment, which the children get a part of."""
    return dict(os.environ)


def engine_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The engine's environment: no key of ours, no variable that opens what must stay shut."""
    kept = {
        name: value
        for name, value in environ.items()
        if name not in _REMOVED and not name.startswith("LORAPLEX_")
    }
    quiet = kept.get("VLLM_LOGGING_LEVEL", "").upper() in ("WARNING", "ERROR", "CRITICAL")
    level = {"VLLM_LOGGING_LEVEL": kept["VLLM_LOGGING_LEVEL"].upper()} if quiet else {}
    return kept | _SET | level


def gateway_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The gateway's environment: its settings come on standard input, and from nowhere else."""
    kept = {name: value for name, value in environ.items() if not name.startswith("LORAPLEX_")}
    return kept | {"PYTHONUNBUFFERED": "1"}


def served_name(settings: Settings, folder: Path, embedded_name: str) -> str:
    """The base model's name for clients: as set, the embedded model's, a folder's or the Hub id."""
    if settings.served_name:
        return settings.served_name
    if settings.model == "embedded":
        return embedded_name
    if Path(settings.model).expanduser().is_dir():
        return folder.name
    return settings.model


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
