"""The vLLM flags that the operator passes on: which are refused, which of ours they replace."""

import re
from collections.abc import Mapping, Sequence

_OURS = "Loraplex sets it"
_USE = "use Loraplex's own flag before the `--`, since the gateway counts on it"
_PROMPTS = "prompts must not reach the logs"
_ONE_SERVER = "Loraplex starts one API server for each engine"
_PRIVATE = "the engine stays on the loopback interface, and only the gateway speaks to it"

# Full names, without dashes in front. `no-` forms are refused with them.
_REFUSED: Mapping[str, str] = {
    "host": _PRIVATE,
    "port": f"{_OURS}: `engine_port` in the settings",
    "uds": _PRIVATE,
    "root-path": _PRIVATE,
    "ssl-keyfile": _PRIVATE,
    "ssl-certfile": _PRIVATE,
    "ssl-ca-certs": _PRIVATE,
    "api-key": _PRIVATE,
    "grpc": _PRIVATE,
    "grpc-port": _PRIVATE,
    "middleware": _PRIVATE,
    "model": f"{_USE}: --model",
    "served-model-name": f"{_USE}: --served-name",
    "enable-lora": "adapters are what Loraplex is for",
    "lora-modules": "adapters come from the registry: `loraplex adapters push`",
    "default-mm-loras": "adapters come from the registry: `loraplex adapters push`",
    "max-loras": f"{_USE}: --max-loras",
    "max-cpu-loras": f"{_USE}: --max-cpu-loras",
    "max-lora-rank": f"{_USE}: --max-lora-rank",
    "max-logprobs": f"{_USE}: `limits.logprobs` in the settings",
    "trust-request-chat-template": "the gateway needs it for a version's own chat template",
    "trust-remote-code": "code that comes with a model is never run",
    "enable-log-requests": _PROMPTS,
    "enable-log-outputs": _PROMPTS,
    "enable-log-deltas": _PROMPTS,
    "log-level": f"{_PROMPTS}, and vLLM writes them at DEBUG",
    "log-config-file": _PROMPTS,
    "logging-config": _PROMPTS,
    "config": "a file could set what must not be set; pass the flags themselves",
    "headless": _ONE_SERVER,
    "api-server-count": _ONE_SERVER,
    "tokens-only": "the gateway needs the OpenAI routes",
    "runner": "the gateway needs an engine that generates",
    "convert": "the gateway needs an engine that generates",
    "return-tokens-as-token-ids": "it changes the answers' shape",
    "help": "it would start nothing; see vLLM's documentation",
}
# Flags that Loraplex sets unless they are passed through.
REPLACEABLE = (
    "dtype",
    "max-model-len",
    "max-num-seqs",
    "kv-cache-memory-bytes",
    "tool-call-parser",
    "enable-auto-tool-choice",
    "disable-uvicorn-access-log",
)
_SHORT = {"-asc": "api-server-count", "-h": "help"}


def refuse_flags(passed: Sequence[str]) -> str | None:
    """Why `passed` cannot be given to vLLM, naming the flag; None when it can."""
    if passed and not passed[0].startswith("-"):
        return f"{passed[0]}: what follows `--` is passed to vLLM and must start with a flag"
    for word in passed:
        name = flag_name(word)
        if name is not None and (reason := _refusal(name.removeprefix("no-"))):
            return f"{word.partition('=')[0]}: {reason}"
    return None


def _refusal(name: str) -> str | None:
    """vLLM takes an unambiguous beginning of a name for the name, so a beginning is refused too.

    No name of vLLM's that may be passed is the beginning of one in these two lists.
    """
    if reason := _REFUSED.get(name):
        return reason
    for full in (*_REFUSED, *REPLACEABLE):
        if full.startswith(name) and full != name:
            return f"write the flag's name out in full (--{full}?)"
    return None


def flag_name(word: str) -> str | None:
    """`--max_model-len=4096` -> `max-model-len`; None for a value. vLLM takes `_` for `-`."""
    if word in _SHORT:
        return _SHORT[word]
    match = re.match(r"--([A-Za-z][\w-]*)", word)
    return match[1].replace("_", "-") if match else None


def passed_names(passed: Sequence[str]) -> frozenset[str]:
    """The names of the flags in `passed`, both forms of a switch under its positive name."""
    return frozenset(
        name.removeprefix("no-") for name in map(flag_name, passed) if name is not None
    )
