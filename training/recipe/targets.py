"""Whether the base has the modules that a recipe adapts, and vLLM serves adapters of them. Pure."""

from difflib import get_close_matches

from adapters_registry.base_model import BaseModelSpec
from adapters_registry.vllm_support import EMBEDDING_LORA

ALL_LINEAR = "all-linear"
_FIELD = "adapter.target_modules"


def adapted_modules(targets: str | tuple[str, ...], spec: BaseModelSpec) -> frozenset[str]:
    """The paths of the modules that get an adapter, by PEFT's rule."""
    if targets == ALL_LINEAR:
        return frozenset(
            path
            for path, module in spec.modules.items()
            if module.kind == "linear" and _last(path) != "lm_head"
        )
    return frozenset(path for name in targets for path in _called(name, spec))


def target_problems(targets: str | tuple[str, ...], spec: BaseModelSpec) -> list[str]:
    """One line for each target that is not there or cannot be served, with the fix."""
    if targets == ALL_LINEAR:
        return [] if adapted_modules(targets, spec) else [f"{_FIELD}: the base has no linear layer"]
    return [problem for name in targets if (problem := _problem(name, spec))]


def _problem(name: str, spec: BaseModelSpec) -> str | None:
    called = _called(name, spec)
    if not called:
        names = sorted({_last(path) for path in spec.modules})
        close = get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}? There are" if close else "there are"
        return f"{_FIELD}: the base has no `{name}` to adapt; {hint} {', '.join(names)}"
    served = EMBEDDING_LORA.get(spec.architecture, frozenset())
    unserved = {
        last for path in called if _is_outer(path, spec) and (last := _last(path)) not in served
    }
    if unserved:
        return (
            f"{_FIELD}: vLLM does not serve adapters of {', '.join(sorted(unserved))} for"
            f" {spec.architecture}; leave it out, `all-linear` does"
        )
    return None


def _called(name: str, spec: BaseModelSpec) -> list[str]:
    return [path for path in spec.modules if path == name or path.endswith(f".{name}")]


def _is_outer(path: str, spec: BaseModelSpec) -> bool:
    return spec.modules[path].kind == "embedding" or _last(path) == "lm_head"


def _last(path: str) -> str:
    return path.rpartition(".")[2]
